"""A gateway in this process, on real sockets, with users that chat through it while other clients misbehave."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import structlog
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.events import Ping as KeepAlivePing

from client.connection import connect
from client.http import Credentials
from protocol import limits
from protocol.codec import decode_from_server, encode
from protocol.frames import Frame, Hello, Message, Ping, Push, Reply, Sync, Synced
from protocol.frames import Pong as PongReply
from runtime.config import Config
from server.gateway.process import SocketGateway
from store.postgres.pool import Pool
from tests.cddl import check_from_server
from tests.people import new_direct, new_user
from tests.processes import START_TIMEOUT_S
from tests.waiting import PATIENCE_S, wait_until

_F = TypeVar("_F")


class RawClient:
    """A WebSocket client that can send any bytes, and reports all that it receives.

    :ivar status: of the HTTP answer; None before it.
    :ivar close_code: of the server's close frame; None if the connection ended without one.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._parts = b""
        self.status: int | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.pongs: list[bytes] = []
        self._found_with: list[Reply | Push] = []
        self.answers_close = True

    async def write(self, raw: bytes) -> None:
        """Write these bytes unchanged."""
        await self.stream.send_all(raw)

    async def handshake(
        self, *, path: str = limits.SOCKET_PATH, subprotocols: tuple[str, ...] = (limits.SUBPROTOCOL,)
    ) -> None:
        await self.write(self._websocket.send(Request(host="test", target=path, subprotocols=list(subprotocols))))
        with trio.fail_after(PATIENCE_S):
            while self.status is None:
                assert await self.receive(), "no answer to the handshake"

    def message(self, payload: bytes, *, finished: bool = True) -> bytes:
        """A masked binary message, or a part of one, as bytes."""
        return self._websocket.send(BytesMessage(data=payload, message_finished=finished))

    async def send(self, *frames: Frame | bytes) -> None:
        """Send these frames as one message."""
        payload = b"".join(frame if isinstance(frame, bytes) else encode(frame) for frame in frames)
        await self.write(self.message(payload))

    async def hello(self, token: str) -> None:
        await self.send(Hello(0, token, limits.PROTOCOL_VERSION))
        await self.read(1)

    async def read(self, count: int, *, patience_s: float = PATIENCE_S) -> list[Reply | Push]:
        """At least `count` frames: the rest of the last bytes that have come is read with them.

        All must fit the grammar in alo.cddl, and be in the one encoding that the specification allows a server.
        """
        frames: list[Reply | Push] = []
        self._found_with = []
        with trio.fail_after(patience_s):
            while len(frames) < count:
                for event in await self._take():
                    assert isinstance(event, BytesMessage), f"after {len(frames)} frames: {event}, {self.close_reason}"
                    self._parts += event.data
                    if event.message_finished:
                        check_from_server(self._parts)
                        message = list(decode_from_server(self._parts))
                        assert b"".join(map(encode, message)) == self._parts
                        frames += message
                        self._parts = b""
        return frames

    async def ask(self, frame: Frame) -> list[Reply | Push]:
        """Send a request; returns all frames until its reply, the reply last. Pushes that came with it, and after it,
        are dropped: `frames_so_far` drops none."""
        await self.send(frame)
        frames: list[Reply | Push] = []
        while True:
            for each in await self.read(1):
                frames.append(each)
                if getattr(each, "request", None) == frame.request:  # type: ignore[union-attr]
                    return frames

    async def frames_so_far(self) -> list[Reply | Push]:
        """All frames that the server has sent by now, and the reply to a ping, perhaps with pushes after it."""
        await self.send(Ping(78))
        frames: list[Reply | Push] = []
        while not any(isinstance(each, PongReply) for each in frames):
            frames += await self.read(1)
        return frames

    @property
    def unread(self) -> list[Event]:
        """Events that have come and that no test has taken yet."""
        return list(self._events)

    async def nothing_came(self) -> None:
        """Check that no frame comes before the reply to a request."""
        [only] = await self.ask(Ping(77))
        assert isinstance(only, PongReply)

    async def find(self, type_: type[_F], *, patience_s: float = PATIENCE_S) -> _F:
        """The next frame of this type. Frames before it are dropped. The next `find` begins with those that came after
        it in the same message; any other read drops them."""
        while True:
            frames = self._found_with or await self.read(1, patience_s=patience_s)
            while frames:
                each = frames.pop(0)
                if isinstance(each, type_):
                    self._found_with = frames
                    return each

    async def wait_end(self, *, timeout_s: float = PATIENCE_S) -> int | None:
        """Read until the server has closed the TCP connection; returns the close code, if any."""
        with trio.fail_after(timeout_s):
            while await self.receive():
                pass
        return self.close_code

    async def _take(self) -> list[Event]:
        while not self._events:
            assert await self.receive(), f"closed with {self.close_code} {self.close_reason}"
        events, self._events = self._events, []
        return events

    async def receive(self) -> bool:
        """Receive more bytes from the server; false at the end of the stream."""
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        if not data:
            return False
        self._websocket.receive_data(bytes(data))
        for event in self._websocket.events():
            await self._note(event)
        return True

    async def _note(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self.status = 101
            case RejectConnection():
                self.status = event.status_code
            case RejectData():
                pass
            case Pong():
                self.pongs.append(bytes(event.payload))
            case CloseConnection():
                self.close_code, self.close_reason = event.code, event.reason
                if self.answers_close:
                    await self._answer(event)
            case KeepAlivePing():
                # On a busy machine a test may take so long that the server asks whether its client is still there.
                await self._answer(event)
            case _:
                self._events.append(event)

    async def _answer(self, event: CloseConnection | KeepAlivePing) -> None:
        # The server may be gone, or a different task of the test may be writing.
        with suppress(trio.BrokenResourceError, trio.BusyResourceError):
            await self.write(self._websocket.send(event.response()))

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


class Chat:
    """Two users that write to each other all the time. Each message must arrive in time, in order, once."""

    def __init__(self, pool: Pool, node: TestNode) -> None:
        self._pool = pool
        self._node = node
        self.exchanges = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        name = secrets.token_hex(4)
        alice, bob = await new_user(self._pool, f"a{name}"), await new_user(self._pool, f"b{name}")
        conversation = await new_direct(self._pool, alice, bob)
        send, receive = trio.open_memory_channel[Push](100)
        async with connect(self._node.url, alice.token) as talks, connect(self._node.url, bob.token, on_push=send.send):
            while True:
                content = b"%d" % self.exchanges
                with trio.fail_after(PATIENCE_S):
                    sent = await talks.send(conversation, content, temp_id=uuid4().bytes)
                    push = await receive.receive()
                assert isinstance(push, Message)
                assert (push.content, push.seq, sent.seq) == (content, self.exchanges + 1, self.exchanges + 1)
                self.exchanges += 1
                if self.exchanges == 1:
                    task_status.started()

    async def wait_exchange(self) -> None:
        """Return after one more message has been sent and has arrived, both after this call."""
        goal = self.exchanges + 2
        await wait_until(lambda: self.exchanges >= goal, "the bystanders chat")


class TestNode:
    """A gateway, with a test's view of its inside."""

    __test__ = False

    def __init__(self, gateway: SocketGateway, port: int, logs: list[MutableMapping[str, Any]]) -> None:
        self.gateway = gateway
        self.port = port
        self.url = f"ws://127.0.0.1:{port}"
        self.logs = logs

    @asynccontextmanager
    async def open_raw(self) -> AsyncIterator[RawClient]:
        """A TCP connection before the handshake."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        client = RawClient(stream)
        try:
            yield client
        finally:
            if stream.socket.fileno() >= 0:
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def open_websocket(self, token: str | None = None) -> AsyncIterator[RawClient]:
        """A client after the WebSocket handshake, and welcomed if there is a token."""
        async with self.open_raw() as client:
            await client.handshake()
            if token is not None:
                await client.hello(token)
            yield client

    @asynccontextmanager
    async def open_synced(self, *people: Credentials) -> AsyncIterator[list[RawClient]]:
        """A client for each person, which has synced. The node has caught up with the time before: it pushes none of
        that later."""
        await self.gateway.node.catch_up.settled.wait()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self.open_websocket(person.token)) for person in people]
            for client in clients:
                assert isinstance((await client.ask(Sync(1, None)))[-1], Synced)
            yield clients

    def footprint(self) -> dict[str, int]:
        """Counts that an ended connection must not raise. The pool's connections to Postgres come and go."""
        pool = self.gateway.pool.statistics()
        hub = self.gateway.hub.statistics()
        return {
            "connections": len(self.gateway.connections),
            "registered": hub.connections,
            "users": hub.users,
            "tasks": sum(1 for _ in _tasks(trio.lowlevel.current_root_task())),
            "fds": len(list(Path("/proc/self/fd").iterdir())) - (pool.connects - pool.discarded),
        }

    async def wait_footprint(self, before: dict[str, int], *, timeout_s: float = PATIENCE_S) -> None:
        with trio.move_on_after(timeout_s):
            await wait_until(lambda: self.footprint() == before, "nothing is left behind", timeout_s=2 * timeout_s)
        assert self.footprint() == before, (self.footprint(), before)

    async def wait_event(self, event: str) -> None:
        """Return once the node has logged this."""
        await wait_until(lambda: any(line["event"] == event for line in self.logs), f"the event {event}")

    def faults(self) -> list[MutableMapping[str, Any]]:
        """Logged errors: no client's action may cause a traceback."""
        return [line for line in self.logs if line["log_level"] in ("error", "critical")]


def _tasks(task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    if task is None:
        return
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child)


@asynccontextmanager
async def open_node(database_url: str, redis_url: str, **settings: Any) -> AsyncGenerator[TestNode, None]:
    """A gateway, which is cancelled at the end of the block. It must not have logged an error. If it does not begin,
    its log is in the error."""
    config = Config(database_url=database_url, redis_url=redis_url, socket_port=0, **settings)
    gateway = SocketGateway(config)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            port = await _begun(nursery, gateway, logs)
            node = TestNode(gateway, port, logs)
            yield node
            nursery.cancel_scope.cancel()
        assert node.faults() == [], node.faults()


async def _begun(nursery: trio.Nursery, gateway: SocketGateway, logs: list[MutableMapping[str, Any]]) -> int:
    """Start the gateway; returns its port once it accepts connections."""
    try:
        with trio.fail_after(START_TIMEOUT_S):
            port: int = await nursery.start(gateway.run)
    except (trio.TooSlowError, RuntimeError) as error:
        raise AssertionError(f"the node has not begun: {logs}") from error
    return port


async def wait_caught_up(*nodes: TestNode) -> None:
    """Return once each node has logged its first `caught_up`, which covers the time before the test.

    Until then a node may push messages from before its start, and may take itself for the only one (decision 7). The
    logs of nodes that run at the same time may all be in the list of one of them, so the lines are counted together.
    """
    lines = lambda: sum(line["event"] == "caught_up" for node in nodes for line in node.logs)  # noqa: E731
    await wait_until(lambda: lines() >= len(nodes), "all nodes have caught up")


@asynccontextmanager
async def open_chat(pool: Pool, node: TestNode) -> AsyncGenerator[Chat, None]:
    """Bystanders that chat until the end of the block, and exchange a last message after it."""
    async with trio.open_nursery() as nursery:
        chat = Chat(pool, node)
        await nursery.start(chat.run)
        yield chat
        await chat.wait_exchange()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def undisturbed(
    pool: Pool, node: TestNode, *, timeout_s: float = PATIENCE_S
) -> AsyncGenerator[Credentials, None]:
    """Check that the block does not disturb bystanders, and leaves nothing behind on the node.

    Yields a user with a valid token.
    """
    somebody = await new_user(pool, f"m{secrets.token_hex(4)}")
    async with open_chat(pool, node) as chat:
        before = node.footprint()
        yield somebody
        await chat.wait_exchange()
        await node.wait_footprint(before, timeout_s=timeout_s)


def on_linux() -> bool:
    return os.path.exists("/proc/self/fd")
