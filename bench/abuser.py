"""One user who costs a gateway as much as the gateway allows; `bench.abuse` measures the others meanwhile.

    python -m bench.abuser --attack pings --port 8001 --chats-file chats.json

The first chat of the file is a direct chat of an abuser, the second a large group with another one: the first
participant of each attacks, and some of the group's others are connected and read. The program prints `ready`, attacks
until its standard input ends, and then prints one JSON line. Its priority is low: on a real network the abuser's CPU is
not the server's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import cbor2
import trio

from bench import websocket
from bench.attackers import NICENESS
from bench.processes import LOOPBACK
from bench.program import print_line
from bench.websocket import MessageReader, Opcode, ServerFault
from bench.workload import Chat, ChatParticipant, read_chats
from protocol import limits
from protocol.codec import encode
from protocol.frames import (
    Delete,
    Edit,
    Frame,
    Hello,
    History,
    Key,
    List,
    MarkRead,
    Ping,
    Send,
    SetTyping,
    Sync,
    Type,
)

CONNECTIONS: Final = 4
"""Connections of the abuser, who has no more devices than other people."""

PAUSE_S: Final = 0.02
"""From the end of a connection to the next attempt."""

_FIRST: Final = 10
_READ_BYTES: Final = 2**18
_UNKNOWN_TYPE: Final = 100_000
_GROUPS: Final = 318
_HTTP_AT_ONCE: Final = 4


@dataclass
class Counts:
    """What the abuser did, and what came of it.

    :ivar pushed_bytes: bytes that the connected participants of the group received.
    """

    messages: int = 0
    message_bytes: int = 0
    received_bytes: int = 0
    pushed_bytes: int = 0
    connects: int = 0
    codes: dict[str, int] = field(default_factory=dict)

    def count(self, code: object) -> None:
        self.codes[str(code)] = self.codes.get(str(code), 0) + 1


@dataclass(frozen=True)
class Target:
    """The abuser's conversations."""

    direct: Chat
    group: Chat

    @property
    def direct_id(self) -> bytes:
        return UUID(self.direct.conversation).bytes

    @property
    def group_id(self) -> bytes:
        return UUID(self.group.conversation).bytes


Payloads: TypeAlias = Callable[[Target], Iterator[bytes]]
"""Makes the WebSocket messages of one connection, without an end."""


def _repeated(frames: Callable[[Target, int], Sequence[Frame | bytes]]) -> Payloads:
    """The same message again and again, its requests numbered once."""

    def payloads(target: Target) -> Iterator[bytes]:
        return itertools.repeat(_joined(frames(target, _FIRST)))

    return payloads


def _joined(frames: Sequence[Frame | bytes]) -> bytes:
    return b"".join(frame if isinstance(frame, bytes) else encode(frame) for frame in frames)


def _unknown(_: Target, first: int) -> list[bytes]:
    return [cbor2.dumps({0: _UNKNOWN_TYPE, 1: first + n}) for n in range(1000)]


def _sends(conversation: Callable[[Target], bytes], content_bytes: int, per_message: int) -> Payloads:
    def payloads(target: Target) -> Iterator[bytes]:
        content, of = os.urandom(content_bytes), conversation(target)
        for first in itertools.count(_FIRST, per_message):
            sends = [
                Send(n % limits.MAX_REQUEST, of, "text", content, None, None, uuid4().bytes)
                for n in range(first, first + per_message)
            ]
            yield _joined(sends)

    return payloads


def _edits(target: Target) -> Iterator[bytes]:
    """Edits of the abuser's first message in the group, each of the revision that the one before made."""
    yield _joined([Send(1, target.group_id, "text", b"first", None, None, uuid4().bytes)])
    for first in itertools.count(0, 10):
        edits = [
            Edit(_FIRST + n, target.group_id, 1, "text", b"%d" % n, None, None, n) for n in range(first, first + 10)
        ]
        yield _joined(edits)


def _deletes(target: Target) -> Iterator[bytes]:
    for first in itertools.count(1, 10):
        sends = [
            Send(_FIRST + n, target.group_id, "text", b"x", None, None, uuid4().bytes) for n in range(first, first + 10)
        ]
        deletes = [Delete(10**6 + n, target.group_id, n, True) for n in range(first, first + 10)]
        yield _joined([*sends, *deletes])


def _typing(target: Target, first: int) -> list[SetTyping]:
    return [SetTyping(first + n, target.group_id, n % 2 == 0) for n in range(100)]


def _reads(target: Target, first: int) -> list[Frame]:
    return [
        History(first + n, target.group_id, 100, None, None) if n % 2 else List(first + n, None, 100)
        for n in range(100)
    ]


ATTACKS: Final[dict[str, Payloads]] = {
    "unknown_frames": _repeated(_unknown),
    "pings": _repeated(lambda _, first: [Ping(first + n) for n in range(1000)]),
    "bad_cbor": _repeated(lambda _, __: [b"\xa2\x00\xff\xff" * 100]),
    "typing": _repeated(_typing),
    "reads": _repeated(_reads),
    "marks": _repeated(
        lambda target, first: [
            MarkRead(first + n, [(target.group_id, 2**40 + k) for k in range(limits.MAX_MARKS)]) for n in range(20)
        ]
    ),
    "group_sends": _sends(lambda target: target.group_id, 200, 20),
    "large_contents": _sends(lambda target: target.direct_id, limits.MAX_CONTENT_BYTES, 3),
    "syncs": _repeated(lambda _, first: [Sync(first + n, None, pages=limits.MAX_PAGES) for n in range(100)]),
    "edits": _edits,
    "deletes": _deletes,
}
"""The attacks over the socket, by name. Beside them: `reconnects`, and `groups` over HTTP."""

ON_DIRECT: Final = frozenset({"large_contents"})
"""Attacks by the abuser in the direct chat."""


async def attack(name: str, target: Target, port: int, http_port: int, readers: int) -> Counts:
    """Attack until standard input ends, while other participants of the group read."""
    counts = Counts()
    async with trio.open_nursery() as nursery:
        for reader in target.group.participants[1 : 1 + readers]:
            await nursery.start(_read_pushes, port, reader, counts)
        print("ready", flush=True)
        counts.pushed_bytes = 0
        if name == "groups":
            numbers = iter(range(_GROUPS))
            for _ in range(_HTTP_AT_ONCE):
                nursery.start_soon(_make_groups, http_port, target.group, numbers, counts)
        else:
            user = (target.direct if name in ON_DIRECT else target.group).participants[0]
            for _ in range(CONNECTIONS):
                nursery.start_soon(_repeat, name, target, port, user, counts)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()
    return counts


async def _repeat(name: str, target: Target, port: int, user: ChatParticipant, counts: Counts) -> None:
    while True:
        try:
            async with _connected(port, user, counts) as stream:
                if name != "reconnects":
                    await _flood(stream, ATTACKS[name](target), counts)
        except (OSError, trio.BrokenResourceError, ServerFault):
            counts.count("broken")
        await trio.sleep(PAUSE_S if name != "reconnects" else 0)


async def _flood(stream: trio.SocketStream, payloads: Iterator[bytes], counts: Counts) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, stream, counts, nursery.cancel_scope)
        for payload in payloads:
            await stream.send_all(websocket.encode(Opcode.BINARY, payload))
            counts.messages += 1
            counts.message_bytes += len(payload)


async def _drain(stream: trio.SocketStream, counts: Counts, scope: trio.CancelScope) -> None:
    reader = MessageReader()
    while data := await stream.receive_some(_READ_BYTES):
        counts.received_bytes += len(data)
        for opcode, payload in reader.feed(data):
            if opcode == Opcode.CLOSE:
                counts.count(int.from_bytes(payload[:2], "big"))
            else:
                _count_errors(payload, counts)
    scope.cancel()


def _count_errors(payload: bytes, counts: Counts) -> None:
    """Count the refusals in a message by their codes: the attack may be another than was meant."""
    frames = BytesIO(payload)
    while frames.tell() < len(payload):
        frame = cbor2.load(frames)
        if frame[Key.TYPE] == Type.ERROR:
            counts.count(frame[Key.CODE])


@asynccontextmanager
async def _connected(port: int, user: ChatParticipant, counts: Counts) -> AsyncIterator[trio.SocketStream]:
    """A connection after its welcome."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
        counts.connects += 1
        await stream.send_all(websocket.handshake(f"{LOOPBACK}:{port}", limits.SOCKET_PATH, limits.SUBPROTOCOL))
        data = b""
        while (end := websocket.handshake_end(data)) is None:
            data += await _receive(stream)
        hello = encode(Hello(0, user.token, limits.PROTOCOL_VERSION))
        await stream.send_all(websocket.encode(Opcode.BINARY, hello))
        reader, data = MessageReader(), data[end:]
        while True:
            for opcode, payload in reader.feed(data):
                if opcode == Opcode.CLOSE:
                    counts.count(int.from_bytes(payload[:2], "big"))
                    raise ServerFault("closed before the welcome")
                if cbor2.loads(payload)[Key.TYPE] == Type.WELCOME:
                    yield stream
                    return
            data = await _receive(stream)


async def _receive(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(_READ_BYTES)
    if not data:
        raise ServerFault("the server ended the connection")
    return bytes(data)


async def _read_pushes(
    port: int, reader: ChatParticipant, counts: Counts, *, task_status: trio.TaskStatus[None]
) -> None:
    async with _connected(port, reader, counts) as stream:
        task_status.started()
        while data := await stream.receive_some(_READ_BYTES):
            counts.pushed_bytes += len(data)


async def _make_groups(http_port: int, group: Chat, numbers: Iterator[int], counts: Counts) -> None:
    """Make groups of all participants, one after the other on one connection."""
    admin, *others = group.participants
    body = json.dumps({"kind": "group", "name": "g", "participants": [other.user for other in others]}).encode()
    head = (
        f"POST /v1/conversations HTTP/1.1\r\nhost: {LOOPBACK}\r\nauthorization: Bearer {admin.token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    for _ in numbers:
        async with await trio.open_tcp_stream(LOOPBACK, http_port) as stream:
            await stream.send_all(head + body)
            counts.messages += 1
            counts.message_bytes += len(body)
            counts.count((await _receive(stream)).split(b" ", 2)[1].decode())


def figures(counts: Counts) -> dict[str, Any]:
    """A line of what happened."""
    return {
        "messages": counts.messages,
        "sent_mb": round(counts.message_bytes / 1e6, 2),
        "received_mb": round(counts.received_bytes / 1e6, 2),
        "pushed_mb": round(counts.pushed_bytes / 1e6, 2),
        "connects": counts.connects,
        "codes": counts.codes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.abuser", description=__doc__.partition("\n")[0])
    parser.add_argument("--attack", required=True, choices=[*ATTACKS, "reconnects", "groups"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--chats-file", type=Path, required=True)
    parser.add_argument("--readers", type=int, default=300, help="participants of the group who are connected")
    options = parser.parse_args()
    os.nice(NICENESS)
    direct, group = read_chats(options.chats_file)
    counts = trio.run(
        attack,
        options.attack,
        Target(direct, group),
        options.port,
        options.http_port,
        options.readers,
    )
    print_line(figures(counts))


if __name__ == "__main__":
    main()
