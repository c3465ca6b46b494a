"""JSON and CBOR: how bodies of requests are read and bodies of answers are written (`docs/http.md`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

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
    """The body is not of the type that the endpoint takes; the text says why."""


def decode(data: bytes, content_type: str, type_: type[_T]) -> _T:
    """The body of a request.

    :raises InvalidBody: if it is not of that type.
    """
    try:
        if content_type.partition(";")[0].strip() == CBOR:
            return msgspec.convert(cbor2.loads(data, max_depth=8, strict_hashable_types=True), type_)
        return msgspec.json.decode(data, type=type_)
    except msgspec.MsgspecError as error:
        raise InvalidBody(_plain(str(error))) from None
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


def encode(body: Any, encoding: Encoding) -> bytes:
    """The body of an answer. Ids in `body` are `UUID`s or come from `ident`; byte fields are bytes."""
    if encoding == "cbor":
        return cbor2.dumps(body, encoders=_CBOR_ENCODERS)
    return msgspec.json.encode(body)


# Not tag 37: the wire protocol has no tags, and a client should need no second decoder.
_CBOR_ENCODERS: Final[dict[type, Callable[[cbor2.CBOREncoder, Any], Any]]] = {
    UUID: lambda encoder, value: encoder.encode(value.bytes)
}


def _uuid_text(id_: bytes) -> str:
    # uuid.UUID takes twice as long, and a list has hundreds of ids.
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


IDENT: Final[dict[Encoding, Callable[[bytes], str | bytes]]] = {"json": _uuid_text, "cbor": bytes}


def ident(id_: bytes, encoding: Encoding) -> str | bytes:
    """An id in an answer."""
    return IDENT[encoding](id_)


def ident_or_none(id_: bytes | None, encoding: Encoding) -> str | bytes | None:
    return None if id_ is None else IDENT[encoding](id_)
