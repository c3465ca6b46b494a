"""UUIDs of version 7 (RFC 9562): ids of 16 bytes that begin with the time when they were made."""

from __future__ import annotations

from typing import Final

NOISE_BYTES: Final = 10


def uuid7(ms: int, noise: bytes) -> bytes:
    """An id.

    :param ms: milliseconds since 1970.
    :param noise: `NOISE_BYTES` random bytes; 74 bits of them are used.
    """
    tail = bytearray(noise)
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return ms.to_bytes(6, "big") + tail


def uuid7_ms(id_: bytes) -> int | None:
    """The time when an id was made, in milliseconds since 1970; None if it is not a UUID of version 7."""
    if id_[6] >> 4 == 7 and id_[8] >> 6 == 2:
        return int.from_bytes(id_[:6], "big")
    return None
