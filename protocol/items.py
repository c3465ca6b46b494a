"""The bytes of a WebSocket message to the maps in it: a CBOR sequence (RFC 8742) of maps with integer keys.

The decoder refuses, before they can cost anything: tags (shared references build cycles), kinds of keys that allow a
client to choose many with the same hash (bignums, arrays, integers; a message of them takes 13 s), indefinite lengths,
duplicate keys, and nesting beyond `limits.MAX_NESTING`. Its time is linear in the length of the message.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple, NoReturn

import cbor2

from protocol import limits
from protocol.codes import CloseCode
from protocol.errors import RemoteProtocolError


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("tags are not used in this protocol")


_BUILT_IN_TAGS: Final = (
    *range(6),
    *(25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)
_DECODER_OPTIONS: Final[dict[str, Any]] = {
    "tag_hook": _refuse_tag,
    "semantic_decoders": dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag),
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
}


class Bounds(NamedTuple):
    """What is read of a peer.

    :ivar options: of the decoder.
    :ivar most_fields: of a frame.
    """

    options: Mapping[str, Any]
    most_fields: int


FROM_CLIENT: Final = Bounds(
    {
        **_DECODER_OPTIONS,
        "max_depth": limits.MAX_NESTING,
        # Keys of maps in fields: texts and bytes alone, whose hashes a client cannot choose.
        "strict_hashable_types": True,
    },
    limits.MAX_FIELDS,
)
FROM_SERVER: Final = Bounds(
    {**_DECODER_OPTIONS, "max_depth": limits.MAX_SERVER_NESTING},
    limits.MAX_SERVER_FIELDS,
)
"""A server's frames hold frames, whose keys are integers. So a malicious server can keep its own clients busy."""
_MAP: Final = 0xA0
_ARRAY: Final = 0x80
"""CBOR heads of an empty map and an empty array; up to 23 pairs or elements are added to it."""
_LONG_MAP: Final = 0xB8
"""CBOR head of a map whose number of pairs, 24 or more, is in the byte that follows."""
_LONG_ARRAY: Final = 0x98
"""CBOR head of an array whose length is in the byte that follows."""
_END: Final = secrets.token_bytes(8)
"""A peer does not know it: if it is read as the last item, the message holds nothing behind the expected items."""
END_ITEM: Final = cbor2.dumps(_END)
_HEADS_WITH_END: Final = tuple(
    cbor2.dumps([0] * (2 * count + 1))[: -2 * count - 1] for count in range(limits.MAX_SERVER_FIELDS + 1)
)
"""Number of a frame's fields -> head of an array of its keys, its values and `_END`."""


def items(data: bytes, bounds: Bounds) -> Iterator[dict[int, Any]]:
    only = only_item(data, bounds)
    return each_item(data, bounds) if only is None else iter((only,))


def only_item(data: bytes, bounds: Bounds) -> dict[int, Any] | None:
    """The item of a message that is one valid frame, as most are; None for any other message.

    It takes 60 % of the time of `each_item`, and costs a message of several frames 5 us in vain.
    """
    count, begin = data[0] - _MAP if data else -1, 1
    if count == _LONG_MAP - _MAP:
        count, begin = _long_count(data), 2
    if not 0 <= count <= bounds.most_fields:
        return None
    try:
        flat = cbor2.loads(_HEADS_WITH_END[count] + data[begin:] + END_ITEM, **bounds.options)
    except cbor2.CBORDecodeError:
        return None
    keys = flat[:-1:2]
    if flat[-1] != _END or not set(map(type, keys)) <= {int}:
        return None
    item = dict(zip(keys, flat[1::2], strict=True))
    return item if len(item) == count else None


def _long_count(data: bytes | memoryview) -> int:
    """The number of pairs of a map that begins with `_LONG_MAP`; -1 if its head is cut short or longer than need be."""
    return data[1] if len(data) > 1 and data[1] > _LONG_MAP - _MAP - 1 else -1


def each_item(data: bytes, bounds: Bounds) -> Iterator[dict[int, Any]]:
    size = len(data)
    if not size:
        raise RemoteProtocolError(CloseCode.BAD_FRAME, "an empty WebSocket message holds no frame")
    stream = BytesIO(b"\0" + data)  # The head of a long array takes a byte more than that of a map.
    decoder = cbor2.CBORDecoder(stream, **bounds.options)
    stream.seek(1)
    # Released however this ends: a buffer that the garbage collector finds crashes CPython 3.12.1 (its issue 111049).
    with stream.getbuffer() as heads:
        while (start := stream.tell() - 1) < size:
            begin, count = _become_array(heads, start + 1, bounds.most_fields)
            stream.seek(begin)
            try:
                flat = decoder.decode()
            except cbor2.CBORDecodeEOF:
                raise RemoteProtocolError(CloseCode.BAD_FRAME, f"the item at byte {start} is cut short") from None
            except cbor2.CBORDecodeError as error:
                detail = f"the item at byte {start}: {why_not_read(error)}"
                raise RemoteProtocolError(CloseCode.BAD_FRAME, detail) from None
            keys = flat[::2]
            if not set(map(type, keys)) <= {int}:
                raise RemoteProtocolError(CloseCode.BAD_FRAME, f"the keys of the item at byte {start} must be integers")
            item = dict(zip(keys, flat[1::2], strict=True))
            if len(item) != count:
                raise RemoteProtocolError(
                    CloseCode.BAD_FRAME, f"the item at byte {start} has a key twice; each may occur once"
                )
            yield item


def _become_array(heads: memoryview, at: int, most_fields: int) -> tuple[int, int]:
    """Turn the head of the map here into that of an array of its keys and values: so no key is in a dict before its
    type was checked. Returns where the array begins, and the number of pairs.

    :param at: the byte of the head; the byte before it may be overwritten.
    :raises RemoteProtocolError: if it is no such map, or has too many pairs.
    """
    count = heads[at] - _MAP
    is_long = count == _LONG_MAP - _MAP
    if is_long:
        count = _long_count(heads[at : at + 2])
    if not 0 <= count <= most_fields:
        detail = f"the item at byte {at - 1} is not a map of at most {most_fields} fields"
        raise RemoteProtocolError(CloseCode.BAD_FRAME, detail)
    if is_long:
        heads[at : at + 2] = bytes((_LONG_ARRAY, 2 * count))
        return at, count
    if 2 * count <= 23:
        heads[at] = _ARRAY + 2 * count
        return at, count
    heads[at - 1 : at + 1] = bytes((_LONG_ARRAY, 2 * count))
    return at - 1, count


def why_not_read(error: Exception) -> str:
    """The fault of some CBOR, in words of the RFC: cbor2 names Python's types, and repeats bytes of the peer."""
    said = f"{error} {error.__cause__}"
    return next((reason for part, reason in _UNREADABLE if part in said), "it is not well-formed CBOR")


_UNREADABLE: Final = (
    ("indefinite length", "indefinite lengths are not used in this protocol"),
    ("semantic tag", "tags are not used in this protocol"),
    ("Duplicate map key", "a map has a key twice; each may occur once"),
    ("map key must be", "the keys of a map within a field must be texts or byte strings"),
    ("nesting depth", "it has more levels than are allowed"),
    ("codec can't decode", "a text must be UTF-8"),
    ("simple value", "a simple value is not one of RFC 8949"),
)
