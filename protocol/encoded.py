"""Reading and extending encoded frames, without decoding them."""

from __future__ import annotations

from typing import Final

from protocol.numbers import Key, Type


def with_fields(frame: bytes, fields: tuple[int, bytes]) -> bytes:
    """An encoded frame with more fields, whose keys are greater than those that it has: so fields that are the same in
    many frames are encoded once. At most 23 fields in all."""
    count, data = fields
    return bytes((frame[0] + count,)) + frame[1:] + data


def with_envelope(frame: bytes, envelope: bytes) -> bytes:
    """An encoded `Message` without `envelope`, with this one: its key is the greatest, and the frame has few fields."""
    size = len(envelope)
    if size > 0xFF:
        head = b"\x18\xef\x59" + size.to_bytes(2) if size <= 0xFFFF else b"\x18\xef\x5a" + size.to_bytes(4)
    else:
        head = b"\x18\xef\x58" + size.to_bytes(1) if size > 0x17 else b"\x18\xef" + bytes((0x40 + size,))
    return b"".join((bytes((frame[0] + 1,)), frame[1:], head, envelope))


_LONG_MAP: Final = b"\xb8"
"""The first byte of a frame of more than 23 fields; their number is in the second one."""


def head_of(frame: bytes) -> tuple[bytes, int] | None:
    """Conversation and seq of an encoded `Message` or `Tombstone`, without decoding it; None for any other frame.

    Only for frames that this process or another node made with `encode`: their first four keys are always in the same
    place.
    """
    if frame[2:4] not in _HEADS:
        return None
    width = frame[23] - 0x17 if frame[23] > 0x17 else 0
    seq = int.from_bytes(frame[24 : 24 + (1 << width - 1)], "big") if width else frame[23]
    return frame[6:22], seq


def type_mark(frame: bytes) -> bytes:
    """The bytes of an encoded frame from which `type_of` tells the type: cheap enough to count each frame by."""
    return frame[2:4] if frame[:1] < _LONG_MAP else frame[3:5]


def type_of(mark: bytes) -> int:
    """The number of a frame's type, by the frame's `type_mark`."""
    return mark[0] if mark[0] < 0x18 else mark[1]


def is_push(frame: bytes) -> bool:
    """Whether an encoded frame from a server is a push; all other frames are requests and replies."""
    if frame[:1] >= _LONG_MAP:
        frame = frame[1:5]
    return frame[2] == 0x18 and frame[3] >= 128


_HEADS: Final = (bytes((0x18, Type.MESSAGE)), bytes((0x18, Type.TOMBSTONE)))
"""The bytes of key 0's value in an encoded frame."""


def with_temp_id(frame: bytes, temp_id: bytes) -> bytes:
    """An encoded `Message` without `temp_id`, with this one."""
    at = 1
    while at < len(frame) and frame[at] < Key.TEMP_ID:
        at = _end_of(frame, at + 1)
    return b"".join((bytes((frame[0] + 1,)), frame[1:at], b"\x0b\x50", temp_id, frame[at:]))


def _end_of(frame: bytes, at: int) -> int:
    """The end of the number, text or byte string that begins here."""
    kind, short = frame[at] >> 5, frame[at] & 0x1F
    width = 0 if short < 24 else 1 << short - 24
    number = int.from_bytes(frame[at + 1 : at + 1 + width]) if width else short
    return at + 1 + width + (number if kind in (2, 3) else 0)
