"""The hot path in pieces, without a network, Postgres or Redis: what a node does for each message, as loops to measure.

Each loop does its work a number of times. `reference` is a loop of the same nature that calls nothing of ours: objects,
dicts, bytes and small functions. A machine that is slower at one is slower at the others, so the ratio stays.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final, cast

from protocol.codec import decode_from_client, encode
from protocol.frames import Message, Send, Sent
from protocol.limits import MAX_FRAGMENTS, MAX_WEBSOCKET_MESSAGE_BYTES
from protocol.websocket import WebSocketReceiver
from server.delivery.hub import Hub
from server.transport.outbox import Outbox
from server.transport.wire_counts import WireCounts
from store.messages import NewMessage
from store.redis.addressing import entries_by_node
from store.redis.entries import AddressedPush, decode_entry

Loop = Callable[[int], object]

CONVERSATION: Final = b"c" * 16
SENDER: Final = b"s" * 16
DEVICE: Final = b"d" * 16
TEMP_ID: Final = b"t" * 16
CONTENT: Final = bytes(range(200))
MASK: Final = b"\x01\x02\x03\x04"


class NullSocket:
    """A socket whose kernel takes everything at once."""

    def send(self, data: bytes) -> int:
        return len(data)


class Receiver:
    """A connection, as the hub sees it."""

    def __init__(self, user: bytes) -> None:
        self.user = user
        self.device = user
        self.registered_at = 0.0
        self.outbox = Outbox(cast(socket.socket, NullSocket()), _never, _never, WireCounts())


def _never(*_: object) -> None:
    raise AssertionError("the kernel takes everything")


def loops() -> Mapping[str, Loop]:
    """The pieces by name."""
    return {
        "frame_in": _frame_in(),
        "digest": _digest(),
        "frames_out": _frames_out(),
        "push_to_2": _push_to(2),
        "push_to_20": _push_to(20),
        "entry_to_a_node": _entry(),
    }


_HEAD: Final = Struct(">BBHI")


class _Item:
    __slots__ = ("key", "parts", "size")

    def __init__(self, key: bytes, size: int) -> None:
        self.key = key
        self.size = size
        self.parts: list[bytes] = []


def reference(count: int) -> int:
    """A unit is some 10 us."""
    total = 0
    for number in range(count):
        items = {}
        for part in range(8):
            key = b"%d:%d" % (number, part)
            item = items[key] = _Item(key, part)
            item.parts.append(_HEAD.pack(part, 1, 2, number))
            item.parts.append(CONTENT[part:64])
            item.size += len(item.parts[1])
        joined = b"".join([data for item in items.values() if item.size for data in item.parts])
        total += _HEAD.unpack_from(joined)[3] + len(joined)
    return total


def _send_frame() -> bytes:
    send = Send(7, CONVERSATION, "text", CONTENT, b"n" * 24, b"e" * 32, TEMP_ID)
    return encode(send)


def _frame_in() -> Loop:
    """A masked WebSocket message becomes a frame."""
    payload = _send_frame()
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    data = b"\x82" + bytes((0x80 | 126,)) + len(payload).to_bytes(2, "big") + MASK + masked
    receiver = WebSocketReceiver(MAX_WEBSOCKET_MESSAGE_BYTES, MAX_FRAGMENTS)

    def loop(count: int) -> None:
        for _ in range(count):
            for message in receiver.receive(data):
                for frame in decode_from_client(cast(bytes, message)):
                    assert type(frame) is Send

    return loop


def _digest() -> Loop:
    """A send becomes a row of a batch."""

    def loop(count: int) -> None:
        for _ in range(count):
            message = NewMessage(CONVERSATION, SENDER, TEMP_ID, "text", CONTENT, b"n" * 24, b"e" * 32, device=DEVICE)
            message.digest()

    return loop


def _message(seq: int) -> bytes:
    message = Message(
        CONVERSATION,
        seq,
        b"m" * 16,
        1_700_000_000_000_000,
        SENDER,
        "text",
        CONTENT,
        b"n" * 24,
        b"e" * 32,
        device=DEVICE,
    )
    return encode(message)


def _frames_out() -> Loop:
    """A committed send becomes a reply and a push."""

    def loop(count: int) -> None:
        for seq in range(1, count + 1):
            encode(Sent(7, seq, b"m" * 16, 1_700_000_000_000_000))
            _message(seq)

    return loop


def _push_to(receivers: int) -> Loop:
    """A push reaches the outboxes of some devices, and leaves."""
    hub, frame = Hub(), _message(1)
    users = [number.to_bytes(16, "big") for number in range(receivers)]
    for user in users:
        hub.add(cast(Any, Receiver(user)))

    def loop(count: int) -> None:
        for _ in range(count):
            hub.push(AddressedPush(CONVERSATION, 0, frame, users, cause=SENDER))
            hub.flush()

    return loop


def _entry() -> Loop:
    """A push becomes an entry of another node's stream, and a push again."""
    users = [number.to_bytes(16, "big") for number in range(8)]
    nodes_of = dict.fromkeys(users, (b"node",))
    push = AddressedPush(CONVERSATION, 1, _message(1), users, cause=SENDER, temp_id=TEMP_ID, committed_us=1)

    def loop(count: int) -> None:
        for _ in range(count):
            for _, entry in entries_by_node([push], nodes_of):
                for _ in decode_entry(entry):
                    pass

    return loop
