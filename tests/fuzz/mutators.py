"""Changes to an input that keep most of it valid, so that the input passes the first checks of its target.

Each mutator takes an input, a random source and libFuzzer's own mutator, which works on bytes and knows the dictionary.
Half of the time it uses libFuzzer's mutator alone, which finds cases that these mutators do not make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import cbor2

from protocol.frames import PUSHES, REPLIES, REQUESTS, Key
from protocol.numbers import EXPERIMENTAL_KEYS
from protocol.websocket import BINARY, CLOSE, CONTINUATION, FINAL, FINAL_BINARY, MASKED, PING, PONG
from tests.fuzz.frames import EXAMPLES, VALUES, items_of
from tests.fuzz.plan import MAX_SIZES, plan, read_plan

Bytes = Callable[[bytes, int], bytes]
"""libFuzzer's mutator: takes an input and the largest size of its result."""

Mutator = Callable[[bytes, int, random.Random, Bytes], bytes]

_ID: Final = b"\x11" * 16
_BORDERS: Final = [0, 1, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**31 - 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
_ODD: Final[list[Any]] = [
    *(-1, -(2**63), -(2**64), 1.0, 1.5, float("nan"), float("inf"), True, False, None, cbor2.undefined),
    *(b"", b"\0", _ID, bytes(65), bytes(1025), bytes(2049), bytes(65537), "", "\0", "é", "a" * 65, "😀" * 65),
    *([], {}, [[_ID, 1]], [[_ID, 1]] * 256, [[_ID, 1]] * 257, [_ID] * 257, [[[[[[[[[]]]]]]]]], {"a": {"b": {}}}),
    *(2**64, cbor2.CBORTag(24, b"\xa0"), cbor2.CBORTag(28, []), cbor2.CBORSimpleValue(99)),
]
_STRUCTS: Final = (*REQUESTS, *REPLIES, *PUSHES)


def mutate_message(data: bytes, max_size: int, chance: random.Random, mutate: Bytes) -> bytes:
    """A CBOR sequence of frames."""
    items = items_of(data)
    if not items or chance.random() < 0.5:
        return mutate(data, max_size)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change_items(items, chance)
    return b"".join(map(_encoded, items))


def _encoded(item: Any) -> bytes:
    try:
        return cbor2.dumps(item)
    except (cbor2.CBOREncodeError, ValueError, OverflowError, UnicodeError):
        return b"\xa0"  # Something was decoded that has no encoding, such as a lone surrogate.


def _change_items(items: list[Any], chance: random.Random) -> None:
    at = chance.randrange(len(items))
    match chance.randrange(8):
        case 0:
            items.insert(at, _any_frame(chance))
        case 1:
            items.append(items[at])
        case 2 if len(items) > 1:
            del items[at]
        case 3:
            items[at:at] = _copies(items[at], chance.choices((1, 4, 32, 512), (8, 4, 2, 1))[0])
        case _:
            items[at] = _changed(items[at], chance)


def _any_frame(chance: random.Random) -> dict[int, Any]:
    struct = chance.choice(_STRUCTS)
    keys = [int(Key[name.upper()]) for name in struct.__struct_fields__]
    return {0: int(struct.TYPE)} | {key: chance.choice(VALUES.get(key) or _ODD) for key in keys}


def _changed(item: Any, chance: random.Random) -> Any:
    """The item with one change, at any depth."""
    if isinstance(item, dict) and item and chance.random() < 0.9:
        return _changed_map(dict(item), chance)
    if isinstance(item, list) and item and chance.random() < 0.8:
        return _changed_list(list(item), chance)
    return _value(item, chance)


def _changed_map(item: dict[Any, Any], chance: random.Random) -> dict[Any, Any]:
    key = chance.choice(list(item))
    match chance.randrange(6):
        case 0:
            del item[key]
        case 1:
            added = chance.choice((*Key, *EXPERIMENTAL_KEYS[:2]))
            item[int(added)] = chance.choice(VALUES.get(int(added)) or _ODD)
        case 2:
            item[key] = chance.choice(VALUES.get(key) or _ODD)
        case _:
            item[key] = _changed(item[key], chance)
    return item


def _changed_list(item: list[Any], chance: random.Random) -> list[Any]:
    at = chance.randrange(len(item))
    match chance.randrange(4):
        case 0:
            del item[at]
        case 1:
            item[at:at] = _copies(item[at], chance.choices((1, 4, 99, 255), (8, 4, 2, 1))[0])
        case _:
            item[at] = _changed(item[at], chance)
    return item


def _copies(item: Any, count: int) -> list[Any]:
    """Few enough that copies of copies do not fill the memory."""
    return [item] * (count if len(_encoded(item)) * count <= MAX_COPIED_BYTES else 1)


def _value(value: Any, chance: random.Random) -> Any:
    if type(value) is int and chance.random() < 0.7:
        return chance.choice((*_BORDERS, max(0, value - 1), value + 1))
    if isinstance(value, bytes | str) and value and chance.random() < 0.6:
        return chance.choice((value[:-1], value * 2, value * 65 if len(value) < 2048 else value))
    return chance.choice(_ODD)


class _Frame(NamedTuple):
    """A WebSocket frame of a client.

    :ivar first: byte of final, reserved and opcode.
    """

    first: int
    mask: bytes
    payload: bytes


def client_frame(payload: bytes, first: int = FINAL_BINARY, mask: bytes = bytes(4)) -> bytes:
    """A masked frame; a mask of zeroes leaves the payload readable, so libFuzzer can change it."""
    size = len(payload)
    width = 0 if size < 126 else 2 if size < 65536 else 8
    head = bytes((first, MASKED | (size if not width else 126 if width == 2 else 127)))
    length = size.to_bytes(width, "big") if width else b""
    return head + length + mask + _xor(payload, mask)


def _xor(payload: bytes, mask: bytes) -> bytes:
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def _read_frames(data: bytes) -> tuple[list[_Frame], bytes]:
    """The whole frames at the beginning, and the rest."""
    frames = []
    at = 0
    while at + 6 <= len(data):
        size, start = data[at + 1] & 127, at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        stop = start + 4 + size
        if not data[at + 1] & MASKED or stop > len(data):
            break
        mask = data[start : start + 4]
        frames.append(_Frame(data[at], mask, _xor(data[start + 4 : stop], mask)))
        at = stop
    return frames, data[at:]


def mutate_stream(data: bytes, max_size: int, chance: random.Random, mutate: Bytes) -> bytes:
    """A mutator for a plan, then WebSocket frames, which hold frames of the protocol."""
    flags, sizes, body = _split(data)
    frames, rest = _read_frames(body)
    if chance.random() < 0.2:
        flags ^= 1 << chance.randrange(8)
    if chance.random() < 0.2:
        sizes = chance.randbytes(chance.randrange(MAX_SIZES + 1))
    head = plan(b"", flags, sizes)
    room = max_size - len(head)
    if not frames or chance.random() < 0.4:
        return head + mutate(body, room)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change_frames(frames, room, chance, mutate)
    return head + b"".join(client_frame(frame.payload, frame.first, frame.mask) for frame in frames) + rest


def _split(data: bytes) -> tuple[int, bytes, bytes]:
    read = read_plan(data)
    return read.flags, data[2 : 2 + len(read.sizes)], read.body


def _change_frames(frames: list[_Frame], room: int, chance: random.Random, mutate: Bytes) -> None:
    at = chance.randrange(len(frames))
    frame = frames[at]
    match chance.randrange(10):
        case 0:
            frames.insert(at, _any_websocket_frame(chance))
        case 1 if len(frames) > 1:
            del frames[at]
        case 2:
            frames[at:at] = [frame] * chance.choices((1, 4, 64), (8, 4, 1))[0]
        case 3:
            cut = chance.randrange(len(frame.payload) + 1)
            frames[at : at + 1] = [
                _Frame(frame.first & ~FINAL, frame.mask, frame.payload[:cut]),
                _Frame(FINAL | CONTINUATION, frame.mask, frame.payload[cut:]),
            ]
        case 4:
            frames[at] = frame._replace(first=frame.first ^ 1 << chance.randrange(8))
        case 5:
            frames[at] = frame._replace(mask=chance.randbytes(4))
        case _:
            frames[at] = frame._replace(payload=mutate_message(frame.payload, room, chance, mutate))


def _any_websocket_frame(chance: random.Random) -> _Frame:
    first, payload = chance.choice(
        (
            (FINAL_BINARY, chance.choice(EXAMPLES.from_client)),
            (FINAL_BINARY, _encoded(_any_frame(chance))),
            (FINAL | PING, b"there?"),
            (FINAL | PONG, b""),
            (FINAL | CLOSE, b"\x03\xe8bye"),
            (BINARY, b"\xa2"),
            (CONTINUATION, b""),
            (FINAL | CONTINUATION, b""),
        )
    )
    return _Frame(first, chance.choice((bytes(4), b"mask")), payload)


def mutate_bytes(data: bytes, max_size: int, _: random.Random, mutate: Bytes) -> bytes:
    """Use libFuzzer's mutator alone."""
    return mutate(data, max_size)


def mutate_some_of(bytes_: Sequence[int]) -> Mutator:
    """A mutator for inputs whose bytes mostly have no meaning: half of its changes put in one of `bytes_`."""

    def mutate_some(data: bytes, max_size: int, chance: random.Random, mutate: Bytes) -> bytes:
        if chance.random() < 0.5:
            return mutate(data, max_size)
        at = chance.randrange(len(data) + 1)
        return data[:at] + bytes((chance.choice(bytes_),)) + data[at + chance.randrange(2) :]

    return mutate_some


def dictionary() -> list[bytes]:
    """libFuzzer's dictionary: a map's head with each type, each key, each value of the examples, CBOR heads."""
    types = [b"\0" + cbor2.dumps(int(struct.TYPE)) for struct in _STRUCTS]
    words = [bytes((0xA0 + count,)) + each for each in types for count in (2, 5)]
    words += [cbor2.dumps(int(key)) for key in Key]
    words += [cbor2.dumps(key) + _encoded(value) for key, values in VALUES.items() for value in values]
    words += [_encoded(value) for value in (*_BORDERS, *_ODD)]
    words += [b"\xb7", b"\xb8\x18", b"\xbf", b"\x9f", b"\xff", b"\x5f", b"\x7f", b"\xc2\x41\x01", b"\xd8\x1c"]
    return [word for word in dict.fromkeys(words) if len(word) <= MAX_WORD_BYTES]


MAX_COPIED_BYTES: Final = 64 * 1024

MAX_WORD_BYTES: Final = 64
"""libFuzzer rejects longer words."""
