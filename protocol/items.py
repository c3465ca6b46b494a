"""The bytes of a WebSocket message to the maps in it: a CBOR sequence (RFC 8742) of maps with integer keys.

The decoder refuses, before they can cost anything: tags (shared references build cycles), kinds of keys that allow a
client to choose many with the same hash (bignums, arrays, integers; a message of them takes 13 s), indefinite lengths,
duplicate keys, and nesting beyond `limits.MAX_NESTING`. Its time is linear in the length of the message.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final, NoReturn

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
FROM_CLIENT: Final = {
    **_DECODER_OPTIONS,
    "max_depth": limits.MAX_NESTING,
    # Keys of maps in fields: texts and bytes alone, whose hashes a client cannot choose.
    "strict_hashable_types": True,
}
FROM_SERVER: Final = {**_DECODER_OPTIONS, "max_depth": limits.MAX_SERVER_NESTING}
"""A server's frames hold frames, whose keys are integers. So a malicious server can keep its own clients busy."""
_MAP: Final = 0xA0
_ARRAY: Final = 0x80
"""CBOR heads of an empty map and an empty array; up to 23 pairs or elements are added to it."""
_LONG_ARRAY: Final = 0x98
"""CBOR head of an array whose length is in the byte that follows."""
_END: Final = secrets.token_bytes(8)
"""A peer does not know it: if it is read as the last item, the message holds nothing behind the expected items."""
END_ITEM: Final = cbor2.dumps(_END)
_HEADS_WITH_END: Final = tuple(
    cbor2.dumps([0] * (2 * count + 1))[: -2 * count - 1] for count in range(limits.MAX_FIELDS + 1)
)
"""Number of a frame's fields -> head of an array of its keys, its values and `_END`."""


def items(data: bytes, options: Mapping[str, Any]) -> Iterator[dict[int, Any]]:
    only = only_item(data, options)
    return each_item(data, options) if only is None else iter((only,))


def only_item(data: bytes, options: Mapping[str, Any]) -> dict[int, Any] | None:
    """The item of a message that is one valid frame, as most are; None for any other message.

    It takes 60 % of the time of `each_item`, and costs a message of several frames 5 us in vain.
    """
    count = data[0] - _MAP if data else -1
    if not 0 <= count <= limits.MAX_FIELDS:
        return None
    try:
        flat = cbor2.loads(_HEADS_WITH_END[count] + data[1:] + END_ITEM, **options)
    except cbor2.CBORDecodeError:
        return None
    keys = flat[:-1:2]
    if flat[-1] != _END or not set(map(type, keys)) <= {int}:
        return None
    item = dict(zip(keys, flat[1::2], strict=True))
    return item if len(item) == count else None


def each_item(data: bytes, options: Mapping[str, Any]) -> Iterator[dict[int, Any]]:
    size = len(data)
    if not size:
        raise RemoteProtocolError(CloseCode.BAD_FRAME, "an empty WebSocket message holds no frame")
    stream = BytesIO(b"\0" + data)  # The head of a long array takes a byte more than that of a map.
    decoder = cbor2.CBORDecoder(stream, **options)
    stream.seek(1)
    # Released however this ends: a buffer that the garbage collector finds crashes CPython 3.12.1 (its issue 111049).
    with stream.getbuffer() as heads:
        while (start := stream.tell() - 1) < size:
            count = heads[start + 1] - _MAP
            if not 0 <= count <= limits.MAX_FIELDS:
                detail = f"the item at byte {start} is not a map of at most {limits.MAX_FIELDS} fields"
                raise RemoteProtocolError(CloseCode.BAD_FRAME, detail)
            # Read as an array of keys and values: no key is in a dict before its type was checked.
            if 2 * count <= 23:
                heads[start + 1] = _ARRAY + 2 * count
            else:
                heads[start : start + 2] = bytes((_LONG_ARRAY, 2 * count))
                stream.seek(start)
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
