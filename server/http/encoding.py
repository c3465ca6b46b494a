"""JSON and CBOR: how bodies of requests are read and bodies of answers are written (`docs/http.md`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import cbor2
import msgspec

from protocol.items import why_not_read

CBOR: Final = "application/cbor"
JSON: Final = "application/json"

_T = TypeVar("_T")

Encoding: TypeAlias = Literal["json", "cbor"]


def accepted(accept: str) -> Encoding:
    """
    :param accept: the header of that name.
    """
    return "cbor" if CBOR in accept else "json"


class InvalidBody(Exception):
    """The body is not of the type that the endpoint takes; the text says why.

    :param pointer: to the wrong field, as a JSON pointer in a fragment (RFC 6901, section 6), such as `#/keys/auth`.
    """

    def __init__(self, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.pointer = pointer


def decode(data: bytes, content_type: str, type_: type[_T]) -> _T:
    """The body of a request.

    :raises InvalidBody: if it is not of that type.
    """
    try:
        if content_type.partition(";")[0].strip() == CBOR:
            return msgspec.convert(cbor2.loads(data, max_depth=8, strict_hashable_types=True), type_)
        return msgspec.json.decode(data, type=type_)
    except msgspec.MsgspecError as error:
        raise InvalidBody(_plain(str(error)), _pointer(str(error))) from None
    except cbor2.CBORDecodeError as error:
        raise InvalidBody(f"the body: {why_not_read(error)}") from None
    except UnicodeError:
        raise InvalidBody("the body: a text must be UTF-8") from None
    except RecursionError:
        raise InvalidBody("the body: it has more levels than are allowed") from None


_KINDS: Final = {
    "array": "an array",
    "bool": "true or false",
    "bytes": "bytes",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "a map",
    "str": "a text",
    "uuid": "an id (16 bytes, or a UUID in JSON)",
}
"""Kinds of values as msgspec names them -> as JSON and CBOR name them."""


def _plain(said: str) -> str:
    """An error of msgspec, without the names of Python's types and without values from the request."""
    said = re.sub(r"^Invalid (?:enum )?value '.*'", "This value is not allowed", said, flags=re.DOTALL)
    return re.sub(r"(Expected|got) `([^`$]*)`", lambda found: f"{found[1]} {_kinds(found[2])}", said)


def _kinds(said: str) -> str:
    return " or ".join(_KINDS.get(kind, "something else") for kind in said.split(" | "))


_PATH: Final = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(\w+)`")


def _pointer(said: str) -> str | None:
    """The place that an error of msgspec names (`$.keys[0].auth`), as a pointer. None: the body as a whole is wrong."""
    path, missing = _PATH.search(said), _MISSING.search(said)
    if path is None and missing is None:
        return None
    steps = re.findall(r"\w+", path[1]) if path else []
    return "#" + "".join(f"/{step}" for step in (*steps, *(missing.groups() if missing else ())))


def encode(body: Any, encoding: Encoding) -> bytes:
    """The body of an answer: a struct of `server.http.answers`, or a part of one."""
    if encoding == "cbor":
        return cbor2.dumps(msgspec.to_builtins(body, builtin_types=(bytes,)))
    return _JSON.encode(body)


_JSON: Final = msgspec.json.Encoder()


class Ident:
    """An id in the body of an answer: the text of a UUID in JSON, 16 bytes in CBOR. `IDENT` alone makes one."""


def _uuid_text(id_: bytes) -> str:
    # uuid.UUID takes twice as long, and a list has hundreds of ids.
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# Not tag 37 of CBOR: the wire protocol has no tags, and a client should need no second decoder.
IDENT: Final = cast(dict[Encoding, Callable[[bytes], Ident]], {"json": _uuid_text, "cbor": bytes})


def ident_or_none(id_: bytes | None, encoding: Encoding) -> Ident | None:
    return None if id_ is None else IDENT[encoding](id_)
