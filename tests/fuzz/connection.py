"""`Connection` of `server.gateway.connection`, alive: on a real socket, beside doubles that answer at once.

The client writes any bytes, in any pieces, and leaves in any way: the connection stays open or ends, `run` raises
no error, leaves no task or socket behind and logs no error, and the client reads valid bytes to the last one.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from queue import SimpleQueue
from typing import Any, Final

import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from protocol import limits
from protocol.codec import decode_from_server, encode
from protocol.codes import CloseCode
from protocol.frames import Done, Hello, MarkDelivered, MarkRead, Message, Request, Send, Sent, Welcome
from protocol.websocket import BINARY, CLOSE, FINAL, MAX_CONTROL_BYTES, PING, PONG, is_sendable
from server.gateway.budgets import Budget
from server.gateway.connection import Connection
from server.transport.wire_counts import WireCounts
from store.errors import Overloaded, Unavailable
from store.tokens import GreetedDevice, Identity
from tests.fuzz.mutators import client_frame
from tests.fuzz.plan import Plan, read_plan

WELCOMED: Final = 0x01
"""Flag: the server has answered a hello before the input comes."""
LEAVES: Final = 0x02
"""The client closes its half after the input; without this flag it stays."""
IS_DEAF: Final = 0x04
"""The client reads nothing before the end, and the kernel's buffer is small."""
VANISHES: Final = 0x08
"""The client closes the socket after the input and reads nothing."""
REFUSES: Final = 0x10
"""The store refuses all requests."""
PUSHES: Final = 0x20
"""The node pushes messages of other users between the pieces."""
DRAINS: Final = 0x40
"""The node stops before the last piece."""
IS_RAW: Final = 0x80
"""The client sends only the input, from the first byte on, through a trusted proxy."""

REQUEST: Final = (
    f"GET {limits.SOCKET_PATH} HTTP/1.1\r\nHost: alo\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {limits.SUBPROTOCOL}\r\n\r\n"
).encode()
HELLO: Final = client_frame(encode(Hello(0, "token", limits.PROTOCOL_VERSION)))

NOW: Final = 1_790_000_000_000_000
PATIENCE_S: Final = 300.0
"""Longer than all deadlines of a connection together, on a clock that jumps."""
SMALL_BUFFER_BYTES: Final = 4096
FULL_BUFFER_BYTES: Final = 32 * 1024
"""The kernel's buffer holds more than this, unless SO_SNDBUF sets a smaller size."""


class SmallestGateway:
    """The smallest `Gateway` of `server.gateway.connection`: it admits all clients and answers all requests at once."""

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self.is_registered = False
        self.left = 0
        self.told: tuple[int, bytes] = (0, b"")
        self.counts = WireCounts()

    def trusts(self, address: str) -> bool:
        return bool(self._flags & IS_RAW)

    def forwarded(self, address: str, forwarded_for: list[str]) -> str:
        return address

    def admit(self, connection: Connection) -> bytes | None:
        return None

    async def identify(self, connection: Connection, token: str) -> GreetedDevice:
        await trio.lowlevel.checkpoint()
        return GreetedDevice(Identity(b"u" * 16, b"d" * 16, NOW, NOW + 90_000_000, NOW), [], False)

    def has_room(self, user: bytes) -> bool:
        return True

    async def register(self, connection: Connection) -> None:
        connection.registered_at = trio.current_time()
        self.is_registered = True
        await trio.lowlevel.checkpoint()

    def leave(self, connection: Connection) -> None:
        self.left += 1

    unregister = leave

    async def answer_plain(self, head: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return None

    def now_us(self) -> int:
        return 0

    def welcomed(self, _: Connection, name: str | None) -> str:
        return name or ""

    async def wait_turn(self) -> None:
        await trio.lowlevel.checkpoint()

    def budget_of(self, connection: Connection) -> Budget:
        return Budget()

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        if self._flags & REFUSES:
            raise Overloaded("sends", 1)
        self._reply(connection, encode(Sent(frame.request, 1, frame.temp_id, NOW)))

    def mark_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        if self._flags & REFUSES:
            raise Unavailable("Redis", "alo", "gone")
        self._reply(connection, encode(Done(frame.request)))

    async def answer(self, connection: Connection, frame: Request) -> bytes:
        await trio.lowlevel.checkpoint()
        return encode(Done(frame.request))

    def _reply(self, connection: Connection, reply: bytes) -> None:
        connection.outbox.offer(reply)
        connection.answered()


class Client:
    """The other end of the socket. Its calls do not wait for the server; `settle` does."""

    def __init__(self, sock: socket.socket, *, is_deaf: bool) -> None:
        self._sock = sock
        self.is_deaf = is_deaf
        self.heard = bytearray()

    async def write(self, data: bytes) -> bool:
        """Write it all; false if the server stops reading, as it may if it has ended or its client is deaf."""
        while data:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                before = len(self.heard)
                await self.settle()
                if len(self.heard) == before:
                    return False
                continue
            except OSError:
                return False
            data = data[sent:]
        await self.settle()
        return True

    async def settle(self) -> None:
        """Return once the server has done everything that it can do now."""
        await wait_all_tasks_blocked()
        # Only a large read makes room, so that the server can write on.
        while not self.is_deaf and self.read() > FULL_BUFFER_BYTES:
            await wait_all_tasks_blocked()

    def read(self) -> int:
        """Read the bytes that have come; returns their number."""
        try:
            data = self._sock.recv(1 << 20)
        except OSError:
            return 0
        self.heard += data
        return len(data)


async def check_live(data: bytes) -> None:
    """Serve an input: a plan and the client's bytes, after the handshake and perhaps a hello or from the first byte."""
    plan = read_plan(data)
    ours, theirs = socket.socketpair()
    with ours, structlog.testing.capture_logs() as logs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        if plan.flags & IS_DEAF:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
        node = SmallestGateway(plan.flags)
        connection = Connection(node, theirs, "192.0.2.1")  # type: ignore[arg-type]
        client = Client(ours, is_deaf=False)
        before = trio.lowlevel.current_statistics().tasks_living
        async with _running(connection) as ended:
            await _talk(plan, client, node, connection)
            await _part(plan, ours, client, ended)
        assert trio.lowlevel.current_statistics().tasks_living == before, "a task is left"
        assert theirs.fileno() == -1, "the socket is open"
        assert node.left == 1 or not node.is_registered, f"left {node.left} times"
        while client.read():
            pass
    faults = [line for line in logs if line["log_level"] in ("error", "critical")]
    assert not faults, faults
    check_heard(bytes(client.heard), plan.flags)


@asynccontextmanager
async def _running(connection: Connection) -> AsyncGenerator[trio.Event, None]:
    """Serve the connection in the background; at the end of the block it must have ended by itself."""
    ended = trio.Event()

    async def serve() -> None:
        await connection.run()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield ended
        assert ended.is_set(), "the connection does not end though its client has gone"


async def _talk(plan: Plan, client: Client, node: SmallestGateway, connection: Connection) -> None:
    if not plan.flags & IS_RAW:
        assert await client.write(REQUEST + (HELLO if plan.flags & WELCOMED else b""))
        assert node.is_registered == bool(plan.flags & WELCOMED)
    client.is_deaf = bool(plan.flags & IS_DEAF)
    pieces = list(plan.pieces())
    for number, piece in enumerate(pieces, 1):
        if plan.flags & DRAINS and number == len(pieces):
            connection.drain()
        if plan.flags & PUSHES and node.is_registered and not node.left:
            _push(connection, client)
        if not await client.write(piece):
            break
    if plan.flags & DRAINS:
        connection.close(CloseCode.GOING_AWAY, "the node is stopping")


def _push(connection: Connection, client: Client) -> None:
    """Push a message; push five large ones to a deaf client, so that a few pieces overflow its outbox."""
    content, count = (bytes(60_000), 5) if client.is_deaf else (b"hello", 1)
    frame = encode(Message(b"c" * 16, 1, b"m" * 16, NOW, b"s" * 16, "text", content, None, None))
    push: Callable[[bytes], object] = getattr(connection.outbox, "push", connection.outbox.offer)
    for _ in range(count):
        push(frame)
    connection.outbox.flush()


async def _part(plan: Plan, ours: socket.socket, client: Client, ended: trio.Event) -> None:
    if plan.flags & VANISHES:
        ours.close()
    elif plan.flags & LEAVES:
        ours.shutdown(socket.SHUT_WR)
    else:
        await _wait_end(ended, client)
        if not ended.is_set():
            ours.shutdown(socket.SHUT_WR)
    await _wait_end(ended, client)
    if not ended.is_set():
        raise AssertionError("it does not end though its client has gone")


async def _wait_end(ended: trio.Event, client: Client) -> None:
    await client.settle()
    with trio.move_on_after(PATIENCE_S):
        await ended.wait()


def check_heard(heard: bytes, flags: int) -> None:
    """Check the server's bytes: the answer to a handshake, then WebSocket messages of frames; nothing after a close."""
    may_be_cut = bool(flags & (IS_DEAF | VANISHES))
    head, end, rest = heard.partition(b"\r\n\r\n")
    if not heard.startswith(b"HTTP/1.1 101 "):
        assert flags & (IS_RAW | VANISHES), heard[:200]
        assert not heard or (heard.startswith(b"HTTP/1.1 ") and end), heard[:200]
        return
    assert f"Sec-WebSocket-Protocol: {limits.SUBPROTOCOL}".lower().encode() in head.lower()
    messages, leftover = _server_messages(rest)
    assert may_be_cut or not leftover, f"{len(leftover)} bytes of a frame, and no end"
    frames = list(chain.from_iterable(messages))
    if flags & WELCOMED and not flags & (IS_RAW | VANISHES):
        assert isinstance(frames[0], Welcome), frames[:1]


def _server_messages(data: bytes) -> tuple[list[list[Any]], bytes]:
    """The frames of each message, and the bytes of an incomplete frame at the end."""
    messages = []
    at = 0
    while at + 2 <= len(data):
        first, size, start = data[at], data[at + 1], at + 2
        assert size < 128, "a server masks nothing"
        if size > 125:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
            assert size > 125 if width == 2 else size > 65535
        if start + size > len(data):
            break
        at = start + size
        payload = data[start:at]
        if first == FINAL | BINARY:
            messages.append(_frames(payload))
        elif first == FINAL | CLOSE:
            assert is_sendable(int.from_bytes(payload[:2], "big")), payload
            assert payload[2:].decode().isprintable()
            assert at == len(data), "bytes follow the close frame"
        else:
            assert first in (FINAL | PING, FINAL | PONG), hex(first)
        assert first == FINAL | BINARY or size <= MAX_CONTROL_BYTES
    return messages, data[at:]


def _frames(payload: bytes) -> list[Any]:
    assert len(payload) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES
    frames = list(decode_from_server(payload))
    assert b"".join(map(encode, frames)) == payload, "the frame is not in deterministic encoding or has an unknown type"
    return frames


class Loop:
    """Trio's loop, kept from one input to the next: starting it takes as long as serving a connection.

    It is a guest of the caller of `check`, and stands still between two calls. Its clock jumps to the next deadline
    as soon as all tasks wait.
    """

    def __init__(self) -> None:
        self._is_closing = False
        self._due: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._input: bytes | None = None
        self._failed: BaseException | None = None
        self._is_done = False
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._due.put,
            done_callback=self._end,
            host_uses_signal_set_wakeup_fd=True,
            clock=MockClock(autojump_threshold=0),
        )

    def check(self, data: bytes) -> None:
        """Run `check_live` from sync code. After a failure the loop is unusable."""
        self._input = data
        while self._input is not None and not self._is_done:
            self._due.get()()
        if self._is_done:
            raise self._failed or AssertionError("the loop has ended")

    def close(self) -> None:
        self._is_closing = True
        while not self._is_done:
            self._due.get()()

    async def _main(self) -> None:
        while not self._is_closing:
            if self._input is not None:
                await check_live(self._input)
                self._input = None
            # This task never blocks, so Trio never waits in a thread: the caller of `check` decides when it goes on.
            await trio.lowlevel.checkpoint()

    def _end(self, outcome: Any) -> None:
        self._is_done = True
        self._failed = getattr(outcome, "error", None)


@contextmanager
def open_loop() -> Generator[Callable[[bytes], None], None, None]:
    """`check_live` as a function of an input, in a loop that ends with the block."""
    loop = Loop()
    try:
        yield loop.check
    finally:
        loop.close()
