"""Parameters in Postgres' binary format, whole columns at a time; no driver, no I/O.

A batch has thousands of values, so each column is built by one join. Ids are 16 raw bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

_HEADER: Final = struct.Struct("!iiIii")
"""The header of an array: dimensions, whether it has nulls, element type, elements, lower bound."""

_LENGTH: Final = struct.Struct("!i")
_BIGINT: Final = struct.Struct("!iq")
_NULL: Final = b"\xff\xff\xff\xff"

_UUID, _BYTEA, _TEXT, _BIGINT_OID, _INT_OID, _BOOL_OID = 2950, 17, 25, 20, 23, 16


def _array(oid: int, elements: list[bytes], values: Sequence[Any]) -> bytes:
    if not elements:
        return struct.pack("!iiI", 0, 0, oid)
    return _HEADER.pack(1, None in values, oid, len(elements), 1) + b"".join(elements)


def _sized(values: Sequence[bytes | None]) -> list[bytes]:
    pack = _LENGTH.pack
    return [_NULL if value is None else pack(len(value)) + value for value in values]


_UUID_BYTES: Final = 16
_UUID_LENGTH: Final = _LENGTH.pack(_UUID_BYTES)


def encode_uuids(values: Sequence[bytes | None]) -> bytes:
    """uuid[]"""
    try:
        # Most have no nulls. Without a step of Python for each value: a send has a dozen ids.
        joined = _UUID_LENGTH.join((b"", *values))  # type: ignore[arg-type]  # it raises
    except TypeError:
        return _array(_UUID, _sized(values), values)
    if values and set(map(len, values)) == {_UUID_BYTES}:  # type: ignore[arg-type]  # all are bytes
        return _HEADER.pack(1, 0, _UUID, len(values), 1) + joined
    return _array(_UUID, _sized(values), values)


def encode_byteas(values: Sequence[bytes | None]) -> bytes:
    """bytea[]"""
    return _array(_BYTEA, _sized(values), values)


def encode_texts(values: Sequence[str | None]) -> bytes:
    """text[]

    :raises UnicodeEncodeError: on a lone surrogate.
    """
    return _array(_TEXT, _sized([None if value is None else value.encode() for value in values]), values)


def encode_bigints(values: Sequence[int | None]) -> bytes:
    """bigint[]"""
    pack = _BIGINT.pack
    if values and None not in values:
        return _HEADER.pack(1, 0, _BIGINT_OID, len(values), 1) + b"".join(map(pack, repeat(8), values))
    elements = [_NULL if value is None else pack(8, value) for value in values]
    return _array(_BIGINT_OID, elements, values)


_BOOLS: Final = (b"\0\0\0\1\0", b"\0\0\0\1\1")
"""False and true as elements of an array."""


def encode_bools(values: Sequence[bool]) -> bytes:
    """boolean[], without nulls"""
    return _array(_BOOL_OID, [_BOOLS[value] for value in values], values)


class ColumnType(NamedTuple):
    """How one parameter is written.

    :ivar oid: Postgres' number of the type.
    """

    oid: int
    encode: Callable[[Any], bytes]


UUID: Final = ColumnType(_UUID, bytes)
BYTEA: Final = ColumnType(_BYTEA, bytes)
TEXT: Final = ColumnType(_TEXT, str.encode)
INT: Final = ColumnType(_INT_OID, lambda value: value.to_bytes(4, "big", signed=True))
BIGINT: Final = ColumnType(_BIGINT_OID, lambda value: value.to_bytes(8, "big", signed=True))
UUIDS: Final = ColumnType(2951, encode_uuids)
BYTEAS: Final = ColumnType(1001, encode_byteas)
TEXTS: Final = ColumnType(1009, encode_texts)
BIGINTS: Final = ColumnType(1016, encode_bigints)
BOOLS: Final = ColumnType(1000, encode_bools)
BOOL: Final = ColumnType(_BOOL_OID, lambda value: b"\1" if value else b"\0")
