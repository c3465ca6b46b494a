"""Cursors of lists and history: opaque to clients. They are not signed, since a forged one gives no rights."""

from __future__ import annotations

from typing import Any

import cbor2


class InvalidCursor(Exception):
    """The cursor was made for another list, or is damaged."""


def encode_cursor(*parts: int | bytes | str) -> bytes:
    """Opaque bytes; the first part is the kind of the list."""
    return cbor2.dumps(parts)


def decode_cursor(data: bytes, kind: str, *types: type) -> list[Any]:
    """The parts of a cursor of this kind.

    :raises InvalidCursor: if it is not one.
    """
    try:
        parts = cbor2.loads(data, max_depth=2)
    except (ValueError, cbor2.CBORDecodeError):
        raise InvalidCursor from None
    if type(parts) is not list or [type(part) for part in parts] != [str, *types] or parts[0] != kind:
        raise InvalidCursor
    if any(type(part) is int and not 0 <= part < 2**63 for part in parts) or any(
        type(part) is bytes and len(part) != 16 for part in parts
    ):
        raise InvalidCursor
    return parts[1:]
