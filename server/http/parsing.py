"""A body in JSON or CBOR as plain values, by one set of rules: those of CBOR as the wire protocol has it.

Both encodings have null, true, false, numbers, texts, arrays and maps; CBOR has byte strings as well. Whatever else a
decoder could accept is refused in both, because two programs may read it differently, or because no field can hold it.
"""

from __future__ import annotations

import json
from io import BytesIO
from math import isfinite
from typing import Any, Final, NoReturn

import cbor2

from protocol.items import FROM_CLIENT, why_not_read

MAX_LEVELS: Final = 8
"""Depth of maps and arrays. Bodies have two levels; the rest is for fields that a later version adds."""

_INTEGERS: Final = range(-(2**63), 2**63)
"""64 bits, as in the protocol and in Postgres."""


class Unreadable(Exception):
    """The bytes are not one value that both encodings have. The text says why."""


def parse_json(data: bytes) -> Any:
    """
    :raises Unreadable: as does `parse_cbor`.
    """
    try:
        value = _DECODER.decode(data.decode())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise Unreadable(_MORE) from None
        raise Unreadable(f"it is not well-formed JSON, from character {error.pos + 1}" if data else _EMPTY) from None
    except UnicodeDecodeError:
        raise Unreadable(_NOT_UTF_8) from None
    except RecursionError:
        raise Unreadable(_TOO_DEEP) from None
    except ValueError:
        # Python reads integers of up to 4,300 digits, since its time grows with their square.
        raise Unreadable(_TOO_LARGE) from None
    _check(value, 0)
    return value


def parse_cbor(data: bytes) -> Any:
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream, **_CBOR_OPTIONS).decode()
    except cbor2.CBORDecodeError as error:
        raise Unreadable(why_not_read(error) if data else _EMPTY) from None
    if stream.tell() != len(data):
        raise Unreadable(_MORE)
    _check(value, 0)
    return value


_EMPTY: Final = "it is empty"
_MORE: Final = "it goes on after the first value"
_NOT_UTF_8: Final = "a text must be UTF-8"
_TOO_DEEP: Final = "it has more levels than are allowed"
_NOT_FINITE: Final = "a number must be finite"
_TOO_LARGE: Final = "an integer must be -2^63 to 2^63 - 1"

_CBOR_OPTIONS: Final = {**FROM_CLIENT.options, "max_depth": MAX_LEVELS}


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unreadable("a map has a key twice; each may occur once")
    return made


def _no_constant(_: str) -> NoReturn:
    raise Unreadable(_NOT_FINITE)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_map, parse_constant=_no_constant)


def _check(value: Any, level: int) -> None:
    """Refuse values that one of the encodings lacks, or that a decoder makes of something else."""
    match value:
        case str():
            _check_text(value)
        case bool() | bytes() | None:
            pass
        case int() | float():
            _check_number(value)
        case list() | dict() if level == MAX_LEVELS:
            raise Unreadable(_TOO_DEEP)
        case list():
            for each in value:
                _check(each, level + 1)
        case dict():
            _check_map(value, level)
        case _:
            raise Unreadable("a simple value must be null, true or false")


def _check_text(text: str) -> None:
    """JSON can write half of a surrogate pair, which UTF-8 cannot."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable(_NOT_UTF_8) from None


def _check_number(number: int | float) -> None:
    if isinstance(number, float):
        if not isfinite(number):
            raise Unreadable(_NOT_FINITE)
    elif number not in _INTEGERS:
        raise Unreadable(_TOO_LARGE)


def _check_map(found: dict[Any, Any], level: int) -> None:
    for key, value in found.items():
        if not isinstance(key, str):
            raise Unreadable("the keys of a map must be texts")
        _check_text(key)
        _check(value, level + 1)
