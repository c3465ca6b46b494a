"""The moments of a connection's life that a client cannot time: the test plays the gateway."""

from __future__ import annotations

import socket

import msgspec
import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from protocol import limits
from protocol.codec import encode, encode_fields
from protocol.codes import CloseCode
from protocol.frames import (
    Done,
    Error,
    Frame,
    Hello,
    History,
    MarkDelivered,
    MarkRead,
    Message,
    Ping,
    Request,
    Send,
    Welcome,
)
from server.gateway import budgets
from server.gateway.budgets import Budget
from server.gateway.connection import Connection
from server.transport import outbox
from server.transport.handshake import refused_address
from server.transport.outbox import MAX_BYTES
from server.transport.wire_counts import WireCounts
from store.errors import DeviceRevoked, Overloaded, StoreError, TokenExpired, TokenUnknown, Unavailable
from store.tokens import GreetedDevice, Identity
from tests.server.node_world import RawClient
from tests.waiting import wait_until

USER, DEVICE = b"u" * 16, b"d" * 16
PUSH = encode(Message(b"c" * 16, 1, b"m" * 16, 1, b"s" * 16, "text", b"x", None, None))


class FakeGateway:
    """A gateway that a test controls."""

    def __init__(self) -> None:
        self.told = encode_fields(Welcome(0, 0, b"", b"", 0, 0, 0, ["edit"], [("marks", 2)]), ("features", "limits"))
        self.counts = WireCounts()
        self.clients: list[str | None] = []
        self.identified: Identity | Exception = Identity(USER, DEVICE, 1, 1 + 60_000_000, 1)
        self.registering = trio.Event()
        self.may_register = trio.Event()
        self.may_register.set()
        self.left = trio.Event()
        self.last_push: bytes | None = None
        self.crowded: bytes | None = None
        self.proxies: tuple[str, ...] = ()
        self.user_is_full = False
        self.budget = Budget()
        self.asked: list[Request] = []
        self.sends: list[Send] = []
        self.may_answer = trio.Event()
        self.may_answer.set()
        self.reply = b""

    def trusts(self, address: str) -> bool:
        return address in self.proxies

    def forwarded(self, address: str, forwarded_for: list[str]) -> str:
        return forwarded_for[-1] if forwarded_for and self.trusts(address) else address

    def admit(self, connection: Connection) -> bytes | None:
        if self.crowded is None:
            connection.counted_as = connection.address
        return self.crowded

    def has_room(self, user: bytes) -> bool:
        return not self.user_is_full

    def welcomed(self, _: Connection, name: str | None) -> str:
        self.clients.append(name)
        return name or ""

    async def answer_plain(self, head: bytes) -> bytes | None:
        return None

    def now_us(self) -> int:
        return 0

    async def wait_turn(self) -> None:
        await trio.lowlevel.checkpoint()

    def budget_of(self, connection: Connection) -> Budget:
        return self.budget

    async def identify(self, connection: Connection, token: str) -> GreetedDevice:
        if isinstance(self.identified, Exception):
            raise self.identified
        return GreetedDevice(self.identified, [], False)

    async def register(self, connection: Connection) -> None:
        connection.registered_at = trio.current_time()
        self.registering.set()
        await self.may_register.wait()

    def leave(self, connection: Connection) -> None:
        # A push of this very moment: the hub still knows the connection.
        if self.last_push is not None:
            connection.outbox.push(self.last_push)
            connection.outbox.flush()
        self.left.set()

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        self.sends.append(frame)

    def mark_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None: ...

    async def answer(self, connection: Connection, frame: Request) -> bytes:
        self.asked.append(frame)
        await self.may_answer.wait()
        return self.reply or encode(Done(frame.request))


class Served:
    """A connection that is being served, and its other end."""

    def __init__(self, gateway: FakeGateway, sock: socket.socket, client: RawClient) -> None:
        self.gateway = gateway
        self.sock = sock
        self.connection = Connection(gateway, sock, "test")
        self.client = client
        self.ended = trio.Event()

    async def run(self) -> None:
        await self.connection.run()
        self.ended.set()


@pytest.fixture
async def accepted() -> Served:
    """A TCP connection without a handshake."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    stream = await trio.open_tcp_stream(*listening.getsockname())
    sock, _ = listening.accept()
    listening.close()
    sock.setblocking(False)
    gateway = FakeGateway()
    return Served(gateway, sock, RawClient(stream))


@pytest.fixture
async def served(accepted: Served, nursery: trio.Nursery) -> Served:
    """A connection after the opening handshake."""
    nursery.start_soon(accepted.run)
    await accepted.client.handshake()
    return accepted


async def test_a_push_in_the_moment_of_the_end_harms_only_this_connection(served: Served) -> None:
    """The hub knows a connection until it has ended. A push to it that the kernel cannot take whole must not try to
    start a task in the nursery that has just closed: that would raise in the task that pushes and commits for all."""
    served.gateway.last_push = bytes(1024 * 1024)
    served.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await served.client.send(Hello(0, "token", 1))
    await served.client.read(1)
    # Half of a TCP connection: the other half still takes bytes, as far as they fit.
    await served.client.stream.send_eof()
    with trio.fail_after(3):
        await served.ended.wait()
    await served.client.stream.aclose()
    assert served.gateway.left.is_set()


async def test_pushes_come_after_the_welcome(served: Served) -> None:
    """The hub offers pushes from registering on, while the directory's answer is still awaited."""
    served.gateway.may_register = trio.Event()
    await served.client.send(Hello(0, "token", 1))
    await served.gateway.registering.wait()
    for _ in range(3):
        served.connection.outbox.push(PUSH)
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
    assert served.client.unread == []
    await served.client.stream.aclose()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("Postgres", "db.example:5432", "connection refused, password=hunter2"), 4002),
        (Overloaded("the pool", 7), 4002),
        (StoreError("a fault"), 1011),
        (RuntimeError("a fault"), 1011),
        (TokenUnknown(), 4501),
        (TokenExpired(), 4504),
        (DeviceRevoked(), 4505),
    ],
)
async def test_a_hello_that_cannot_be_answered_ends_with_its_code_and_tells_nothing_of_the_inside(
    served: Served, error: Exception, code: int
) -> None:
    served.gateway.identified = error
    with structlog.testing.capture_logs():
        await served.client.send(Hello(0, "token", 1))
        assert await served.client.wait_end() == code
    assert "example" not in (served.client.close_reason or "")
    assert "fault" not in (served.client.close_reason or "") or code == 1011
    await served.client.stream.aclose()
    await wait_until(served.ended.is_set, "the connection has ended")
    assert not served.gateway.registering.is_set()


async def test_a_hello_that_takes_too_long_ends_in_time(served: Served) -> None:
    """The deadline covers the look-up and the directory too; a connection registered by then is unregistered."""
    served.gateway.may_register = trio.Event()
    served.connection.expire_in(0.2)
    await served.client.send(Hello(0, "token", limits.PROTOCOL_VERSION))
    assert await served.client.wait_end() == 4000
    await served.client.stream.aclose()
    with trio.fail_after(3):
        await served.gateway.left.wait()


def narrow(served: Served) -> None:
    """Give the kernel small buffers, so that they are soon full."""
    served.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    served.client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


async def welcomed(served: Served) -> RawClient:
    await served.client.send(Hello(0, "token", 1))
    [welcome] = await served.client.read(1)
    assert isinstance(welcome, Welcome)
    return served.client


async def test_a_token_that_expires_ends_the_connection(served: Served) -> None:
    served.gateway.identified = Identity(USER, DEVICE, 1_000_000, 1_200_000, 1_000_000)
    client = await welcomed(served)
    assert await client.wait_end() == 4504
    await client.stream.aclose()


async def test_a_token_that_is_refreshed_keeps_it_open(served: Served) -> None:
    served.gateway.identified = Identity(USER, DEVICE, 1_000_000, 1_200_000, 1_000_000)
    client = await welcomed(served)
    served.connection.expire_in(3600)
    served.gateway.may_answer = trio.Event()
    with trio.move_on_after(0.5):
        await served.ended.wait()
    assert not served.ended.is_set()
    await client.stream.aclose()


async def test_a_user_with_too_many_connections_is_told_which_limit(served: Served) -> None:
    served.gateway.user_is_full = True
    await served.client.send(Hello(0, "token", 1))
    assert await served.client.wait_end() == 4003
    limit = limits.CONNECTIONS_PER_USER
    assert served.client.close_reason == f"limit {limit.name}: {limit.value}"
    assert not served.gateway.registering.is_set()
    await served.client.stream.aclose()


async def test_an_address_with_too_many_connections_is_answered_with_429_before_it_asks(
    accepted: Served, nursery: trio.Nursery
) -> None:
    accepted.gateway.crowded = refused_address(7)
    nursery.start_soon(accepted.run)
    answer = b""
    with trio.fail_after(3):
        async for data in accepted.client.stream:
            answer += data
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 60" in answer.lower()
    assert b"connections_per_address: 7" in answer
    await accepted.client.stream.aclose()


PROXY_HEADERS = (
    b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\x12\x67\1\xbb",
)
"""Of version 1 and 2."""


@pytest.mark.parametrize("header", PROXY_HEADERS)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_a_trusted_proxy_says_whom_it_speaks_for(
    accepted: Served, nursery: trio.Nursery, header: bytes, piece: int
) -> None:
    """PROXY protocol, v1 and v2, however the network cuts it."""
    accepted.gateway.proxies = ("test",)
    nursery.start_soon(accepted.run)
    for at in range(0, len(header), piece):
        await accepted.client.write(header[at : at + piece])
        await wait_all_tasks_blocked()
    await accepted.client.handshake()
    assert accepted.client.status == 101
    assert accepted.connection.address == accepted.connection.counted_as == "203.0.113.9"
    await welcomed(accepted)
    await accepted.client.stream.aclose()


async def test_a_malformed_proxy_header_ends_the_connection(accepted: Served, nursery: trio.Nursery) -> None:
    accepted.gateway.proxies = ("test",)
    nursery.start_soon(accepted.run)
    await accepted.client.write(b"PROXY TCP4 nonsense\r\n")
    assert await accepted.client.wait_end() is None
    await accepted.client.stream.aclose()


@pytest.mark.parametrize("header", PROXY_HEADERS)
async def test_the_bytes_of_others_are_never_read_as_a_proxy_header(
    accepted: Served, nursery: trio.Nursery, header: bytes
) -> None:
    nursery.start_soon(accepted.run)
    await accepted.client.write(header + b"\r\n")
    assert await accepted.client.wait_end() is None
    assert accepted.connection.counted_as == "test"
    await accepted.client.stream.aclose()


async def test_requests_beyond_the_budget_are_refused_by_name_and_told_when(served: Served) -> None:
    client = await welcomed(served)
    debt_s = 20
    served.gateway.budget.charge(trio.current_time(), limits.MAX_COST_AT_ONCE + debt_s * limits.MAX_COST_PER_S)
    await client.send(*map(Ping, range(3)))
    for error in await client.read(3):
        assert isinstance(error, Error)
        assert error.code == "rate_limited"
        assert (error.limit, error.limit_value) == ("cost_per_user", limits.MAX_COST_PER_S)
        assert error.retry_after_ms is not None
        assert 1 <= error.retry_after_ms <= 1000 * debt_s + 1000
        assert f"{limits.MAX_COST_PER_S} a second" in error.detail
    await client.stream.aclose()


async def test_too_many_in_flight_names_the_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "TURN_COST", limits.MAX_COST_AT_ONCE)
    client = await welcomed(served)
    send = Send(0, b"c" * 16, "text", b"", None, None, b"t" * 16)
    await client.send(*[msgspec.structs.replace(send, request=n) for n in range(limits.MAX_IN_FLIGHT + 1)])
    [error] = await client.read(1)
    assert isinstance(error, Error)
    assert (error.request, error.code) == (limits.MAX_IN_FLIGHT, "too_many_in_flight")
    assert (error.limit, error.limit_value) == ("requests_in_flight", limits.MAX_IN_FLIGHT)
    assert error.retry_after_ms is not None
    await client.stream.aclose()


async def test_lookups_are_served_in_order_while_sends_and_pings_overtake_them(served: Served) -> None:
    client = await welcomed(served)
    served.gateway.may_answer = trio.Event()
    frames: list[Frame] = [History(n, b"c" * 16, None, None, None) for n in range(1000)]
    await client.send(*frames, Ping(5000), Send(6000, b"c" * 16, "text", b"", None, None, b"t" * 16))
    [pong] = await client.read(1)
    assert pong.request == 5000  # type: ignore[union-attr]
    await wait_until(lambda: served.gateway.sends and served.gateway.asked, "the send is served")
    assert len(served.gateway.asked) == 1, "lookups are served one at a time"
    served.gateway.may_answer.set()
    replies = await client.read(1000)
    assert [reply.request for reply in replies] == list(range(1000))  # type: ignore[union-attr]
    assert served.connection.in_flight == 1
    await client.stream.aclose()


async def test_reading_stops_when_the_outbox_is_full_and_goes_on_when_it_is_read(served: Served) -> None:
    """The outbox neither drops replies nor grows without a bound: requests wait in the network instead."""
    client = await welcomed(served)
    narrow(served)
    served.gateway.reply = bytes(100_000)
    sent = 0
    with trio.fail_after(10):
        while not served.connection.outbox.is_full:
            await client.send(*[History(sent + n, b"c" * 16, None, None, None) for n in range(100)])
            sent += 100
            await wait_all_tasks_blocked(0.01)
    await client.send(Ping(1))
    await wait_all_tasks_blocked(0.01)
    assert served.connection.outbox.size < 2 * MAX_BYTES
    assert len(served.gateway.asked) < 2 * MAX_BYTES / 100_000 + 60 < sent, (
        "replies beyond the kernel's buffers are bounded"
    )
    received = 0
    with trio.fail_after(10):
        while received < sent * 100_000:
            received += len(await client.stream.receive_some())
    assert len(served.gateway.asked) == sent
    await client.stream.aclose()


async def test_a_stuck_reader_is_cut_in_milliseconds(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer would not read a closing handshake, so the kernel is told to drop its buffers at once (a reset)."""
    monkeypatch.setattr(outbox, "STUCK_S", 0.3)
    client = await welcomed(served)
    narrow(served)
    served.connection.outbox.offer(bytes(3_000_000))
    served.connection.outbox.flush()
    began = trio.current_time()
    with trio.fail_after(3):
        await served.ended.wait()
    assert trio.current_time() - began < 0.3 + 0.7, "the connection does not wait some seconds for a closing handshake"
    assert served.connection.end_reason == "stuck_reader"
    assert await client.wait_end() is None
    await client.stream.aclose()


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_connection_that_makes_room_for_others_ends_at_once(
    accepted: Served, nursery: trio.Nursery, *, is_open: bool
) -> None:
    nursery.start_soon(accepted.run)
    if is_open:
        await accepted.client.handshake()
    await wait_all_tasks_blocked()
    accepted.connection.expire()
    await wait_all_tasks_blocked()
    assert accepted.ended.is_set(), "without a closing handshake, for which it would need its file"
    assert accepted.connection.end_reason == "no_room"
    await accepted.client.stream.aclose()


async def test_a_silent_peer_is_told_and_not_waited_for(served: Served) -> None:
    client = await welcomed(served)
    client.answers_close = False
    began = trio.current_time()
    served.connection.close(CloseCode.SILENT, "nothing came for 60 s")
    assert await client.wait_end() == 4004
    with trio.fail_after(1):
        await served.ended.wait()
    assert trio.current_time() - began < 0.5
    await client.stream.aclose()
