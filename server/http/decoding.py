"""How bodies of requests are read (`docs/http.md`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from server.http.encoding import CBOR, JSON, Encoding
from server.http.media_types import sent
from server.http.parsing import Unreadable, parse_cbor, parse_json
from server.http.problem_codes import ProblemCode
from server.http.request_headers import Headers
from server.http.texts import BadText, keep_visible

_T = TypeVar("_T")


class UnsupportedBody(Exception):
    """The body is of a type or a coding that no endpoint takes, by its headers; the text says what to send.

    :param accepted: the headers that say so to a program.
    """

    def __init__(self, detail: str, accepted: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.accepted: Final = accepted


class InvalidBody(Exception):
    """The body is not of the type that the endpoint takes; the text says why.

    :cvar code: of the answer.
    :param pointer: to the wrong field, as a JSON pointer in a fragment (RFC 6901, section 6), such as `#/keys/auth`.
    """

    code = ProblemCode.INVALID_BODY

    def __init__(self, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.pointer = pointer


_PLAIN: Final = {"accept-encoding": "identity"}
MAX_FIELDS: Final = 16
"""The most fields of a form; pages have one or two."""

_TYPES: Final = {"accept": f"{JSON}, {CBOR}"}


def read_body(data: bytes, headers: Headers, type_: type[_T]) -> _T:
    """The body of a request.

    :raises UnsupportedBody: if its headers say something else than JSON or CBOR.
    :raises InvalidBody: if it is not of that type, or empty.
    """
    if not data:
        raise InvalidBody("the body: it is empty")
    return decode(data, encoding_of(headers), type_)


def encoding_of(headers: Headers) -> Encoding:
    """The encoding of a request's body, by its headers.

    :raises UnsupportedBody: if they say something else than JSON or CBOR.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedBody("a body must not be compressed: send it without Content-Encoding", _PLAIN)
    encoding = sent(headers.get("content-type", ""))
    if encoding is None:
        raise UnsupportedBody(f"give the type of the body: Content-Type: {JSON}, or {CBOR}", _TYPES)
    return encoding


def read_form(data: bytes, type_: type[_T]) -> _T:
    """The fields of a form as a browser sends them. Fields that cannot be read are left out: the page says what is
    missing."""
    try:
        fields = dict(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        fields = {}
    return msgspec.convert(fields, type_)


def decode(data: bytes, encoding: Encoding, type_: type[_T]) -> _T:
    """
    :raises InvalidBody: if the data are not of that type.
    """
    parse = parse_cbor if encoding == "cbor" else parse_json
    try:
        body = msgspec.convert(parse(data), type_)
    except Unreadable as error:
        raise InvalidBody(f"the body: {error}") from None
    except msgspec.MsgspecError as error:
        raise InvalidBody(_plain(str(error)), _pointer(str(error))) from None
    if isinstance(body, msgspec.Struct):
        try:
            keep_visible(body)
        except BadText as error:
            raise InvalidBody(f"the {error.field} {error} - at `$.{error.field}`", f"#/{error.field}") from None
    return body


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
