"""The moments of one connection's life that a client cannot time: with a gateway that the test is."""

from __future__ import annotations

import socket

import pytest
import structlog
import trio
from server_node import RawClient, wait_for

from protocol import limits
from protocol.codec import encode
from protocol.codes import CloseCode
from protocol.frames import Hello, MarkDelivered, Message, Send, Welcome
from server.connection import Connection
from store.accounts import Identity
from store.errors import Overloaded, StoreError, Unavailable

USER, DEVICE = b"u" * 16, b"d" * 16
PUSH = encode(Message(b"c" * 16, 1, b"m" * 16, 1, b"s" * 16, "text", b"x", None, None))


class FakeGateway:
    """A gateway that does what a test tells it."""

    def __init__(self) -> None:
        self.identified: Identity | StoreError | Exception | None = Identity(USER, DEVICE, 1)
        self.registering = trio.Event()
        self.may_register = trio.Event()
        self.may_register.set()
        self.unregistered = trio.Event()
        self.last_push: bytes | None = None

    async def identify(self, token: str) -> Identity | None:
        if isinstance(self.identified, Exception):
            raise self.identified
        return self.identified

    async def register(self, connection: Connection) -> None:
        connection.registered_at = trio.current_time()
        self.registering.set()
        await self.may_register.wait()

    def unregister(self, connection: Connection) -> None:
        # A push of this very moment: the hub still knows the connection.
        if self.last_push is not None:
            connection.outbox.offer(self.last_push)
            connection.outbox.flush()
        self.unregistered.set()

    def send_nowait(self, connection: Connection, frame: Send) -> None: ...

    def mark_nowait(self, connection: Connection, frame: MarkDelivered) -> None: ...


class Served:
    """A connection that is being served, and its other end."""

    def __init__(self, gateway: FakeGateway, connection: Connection, client: RawClient) -> None:
        self.gateway = gateway
        self.connection = connection
        self.client = client
        self.ended = trio.Event()

    async def run(self) -> None:
        await self.connection.run()
        self.ended.set()


@pytest.fixture
async def served(nursery: trio.Nursery) -> Served:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    stream = await trio.open_tcp_stream(*listening.getsockname())
    sock, _ = listening.accept()
    listening.close()
    sock.setblocking(False)
    gateway = FakeGateway()
    served = Served(gateway, Connection(gateway, sock, "test"), RawClient(stream))
    nursery.start_soon(served.run)
    await served.client.handshake()
    return served


async def test_a_push_in_the_moment_of_the_end_harms_only_this_connection(served: Served) -> None:
    """The hub knows a connection until it has ended. A push to it that the kernel cannot take whole must not try to
    start a task in the nursery that has just closed: that would raise in whoever pushed, in everybody's commit."""
    served.gateway.last_push = bytes(1024 * 1024)
    served.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await served.client.send(Hello(0, "token", 1))
    await served.client.read(1)
    # Half of a TCP connection: the other half still takes bytes, as far as they fit.
    await served.client.stream.send_eof()
    with trio.fail_after(3):
        await served.ended.wait()
    await served.client.stream.aclose()
    assert served.gateway.unregistered.is_set()


async def test_pushes_come_after_the_welcome(served: Served) -> None:
    """From registering on they are offered, while the directory's answer is still awaited."""
    served.gateway.may_register = trio.Event()
    await served.client.send(Hello(0, "token", 1))
    await served.gateway.registering.wait()
    for _ in range(3):
        served.connection.outbox.offer(PUSH)
        served.connection.outbox.flush()
    served.gateway.may_register.set()
    frames = await served.client.read(4)
    assert [type(frame) for frame in frames] == [Welcome, Message, Message, Message]
    await served.client.stream.aclose()


async def test_a_node_that_drains_while_it_greets_does_not_welcome(served: Served) -> None:
    served.gateway.may_register = trio.Event()
    await served.client.send(Hello(0, "token", 1))
    await served.gateway.registering.wait()
    served.connection.drain()
    served.gateway.may_register.set()
    served.connection.close(CloseCode.GOING_AWAY, "going")
    assert await served.client.wait_end() == 1012
    assert served.client._events == []
    await served.client.stream.aclose()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("Postgres", "db.example:5432", "connection refused, password=hunter2"), 4002),
        (Overloaded("the pool", 7), 4002),
        (StoreError("a fault"), 1011),
        (RuntimeError("a fault"), 1011),
        (None, 4501),
    ],
)
async def test_a_hello_that_cannot_be_answered_ends_with_its_code_and_tells_nothing_of_the_inside(
    served: Served, error: Exception | None, code: int
) -> None:
    served.gateway.identified = error
    with structlog.testing.capture_logs():
        await served.client.send(Hello(0, "token", 1))
        assert await served.client.wait_end() == code
    assert "example" not in (served.client.close_reason or "")
    assert "fault" not in (served.client.close_reason or "") or code == 1011
    await served.client.stream.aclose()
    await wait_for(served.ended.is_set, what="the connection has ended")
    assert not served.gateway.unregistered.is_set()


async def test_a_hello_that_takes_too_long_ends_in_time(served: Served) -> None:
    """The deadline counts the look-up and the directory too; who was registered by then is unregistered."""
    served.gateway.may_register = trio.Event()
    served.connection._scope.deadline = trio.current_time() + 0.2
    await served.client.send(Hello(0, "token", limits.PROTOCOL_VERSION))
    assert await served.client.wait_end() == 4000
    await served.client.stream.aclose()
    with trio.fail_after(3):
        await served.gateway.unregistered.wait()
