"""Delivery times that a gateway measures: from a message's commit to the delivered mark."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
import structlog
import trio
import trio.testing

from client.http import Credentials
from protocol.codec import encode
from protocol.frames import Frame, MarkDelivered, MarkRead, Message, Send, Sent, Tombstone
from server.gateway import delivery_times
from server.gateway.delivery_times import DeliveryTimes
from store import analytics
from store.analytics import Day
from store.errors import Overloaded
from store.latencies import DAY_US
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from tests.server.idle_device import IdleDevice
from tests.server.node_world import RawClient, open_node
from tests.waiting import let_pass, wait_until


async def today_of(pool: Pool) -> Day:
    today = await analytics.today(pool)
    [found] = await analytics.days(pool, today, today)
    return found


def a_send(conversation: bytes, content: bytes = b"x") -> Send:
    return Send(9, conversation, "text", content, None, None, uuid4().bytes)


async def send(client: RawClient, conversation: bytes) -> Sent:
    *_, reply = await client.ask(a_send(conversation))
    assert isinstance(reply, Sent)
    return reply


@pytest.fixture
def _every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_times, "SAMPLE", 1)
    monkeypatch.setattr(delivery_times, "INTERVAL_S", 0.05)


@pytest.mark.usefixtures("_every_message")
@pytest.mark.parametrize("mark", [MarkDelivered, MarkRead])
async def test_a_delivered_mark_says_how_long_the_delivery_took(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, mark: Callable[..., Frame]
) -> None:
    """Between two nodes: the time is at least the device's pause, and at most the duration of the test."""
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        other = there.gateway.node.id
        await wait_until(lambda: other in here.gateway.node.live_nodes(), "they know each other")
        async with here.open_websocket(alice.token) as writer, there.open_websocket(bob.token) as reader:
            began = trio.current_time()
            sent = await send(writer, direct)
            await reader.find(Message)
            await let_pass(0.06, why="the device takes its time to mark")
            await reader.ask(mark(1, [(direct, sent.seq)]))
            took_ms = (trio.current_time() - began) * 1000

            async def is_measured() -> bool:
                return (await today_of(pool)).delivery is not None

            await wait_until(is_measured, "it has been written")
    found = (await today_of(pool)).delivery
    assert found is not None
    assert found.samples == 1
    assert 60 * 0.98 <= found.p50 == found.p99 <= took_ms * 1.1221 + 5


@pytest.mark.usefixtures("_every_message")
async def test_a_node_that_stops_writes_what_it_has_measured(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_times, "INTERVAL_S", 3600)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as writer,
        node.open_websocket(bob.token) as reader,
    ):
        sent = await send(writer, direct)
        await reader.find(Message)
        await reader.ask(MarkDelivered(1, [(direct, sent.seq)]))
        assert (await today_of(pool)).delivery is None
        await writer.stream.aclose()
        await reader.stream.aclose()
        await wait_until(lambda: not node.gateway.connections, "they are gone")
        node.gateway.stop()

        async def is_measured() -> bool:
            return (await today_of(pool)).delivery is not None

        await wait_until(is_measured, "it has been written")


@pytest.mark.usefixtures("_every_message")
async def test_a_node_awaits_no_mark_of_a_device_that_has_gone_or_answered(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_node(pool.url, redis_url) as node:
        async with node.open_websocket(alice.token) as writer, node.open_websocket(bob.token) as reader:
            await send(writer, direct)
            await reader.find(Message)
            assert node.gateway.statistics().marks_awaited == 1
            await send(reader, direct)
            assert node.gateway.statistics().marks_awaited == 1, "only Alice's device is waited for"
        await wait_until(lambda: not node.gateway.connections, "they are gone")
        assert node.gateway.statistics().marks_awaited == 0


ALICE, BOB, TALK, OTHER = (letter * 16 for letter in (b"a", b"b", b"t", b"o"))


NOW_US = 20_000 * DAY_US + DAY_US // 2


AGO_US = 5_000_000


class Measured:
    """A sampler with a clock that stands still, and a message of Alice's from 5 s ago."""

    def __init__(self, pool: Pool) -> None:
        self.now_us = NOW_US
        self.times = DeliveryTimes(pool, lambda: self.now_us)

    def push(self, device: IdleDevice, *, seq: int = 7, frame: bytes | None = None) -> None:
        message = Message(TALK, seq, b"m" * 16, NOW_US - AGO_US, ALICE, "text", b"x", None, None)
        self.times.pushed(
            AddressedPush(TALK, seq, encode(message) if frame is None else frame, (device.user,)), [device]
        )

    @property
    def counts(self) -> dict[tuple[int, int], int]:
        return self.times.statistics().counts

    @property
    def awaited(self) -> int:
        return self.times.statistics().awaited


@pytest.fixture
def measured(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr(delivery_times, "SAMPLE", 1)
    return Measured(pool)


def marks(measured: Measured, device: IdleDevice, *of: tuple[bytes, int]) -> dict[tuple[int, int], int]:
    measured.times.marked(device, MarkDelivered(1, list(of)))
    return measured.counts


ONE = {(20_000, 74): 1}
"""5 s, within 12 %: 10 ** (74 / 20) ms are 5,012."""


async def test_the_first_mark_that_passes_a_message_is_what_counts(measured: Measured) -> None:
    bob = IdleDevice(BOB)
    measured.push(bob)
    assert marks(measured, bob, (TALK, 6), (OTHER, 9)) == {}
    assert marks(measured, bob, (OTHER, 9), (TALK, 8)) == ONE
    assert marks(measured, bob, (TALK, 9)) == ONE


async def test_a_delivery_that_takes_long_is_not_forgotten_for_the_next_one(measured: Measured) -> None:
    """Else only quick deliveries would count."""
    bob = IdleDevice(BOB)
    measured.push(bob)
    measured.push(bob, seq=8)
    assert marks(measured, bob, (TALK, 7)) == ONE


async def test_a_device_that_connected_after_the_message_is_not_awaited(measured: Measured) -> None:
    late, early = IdleDevice(BOB, since_s=4), IdleDevice(BOB, since_s=6)
    measured.push(late)
    assert marks(measured, late, (TALK, 7)) == {}
    measured.push(early)
    assert marks(measured, early, (TALK, 7)) == ONE


async def test_a_device_that_went_before_the_mark_does_not_count(measured: Measured) -> None:
    bob = IdleDevice(BOB)
    measured.push(bob)
    measured.times.left(bob)
    assert marks(measured, bob, (TALK, 7)) == {}
    measured.times.left(bob)


async def test_a_user_who_has_answered_need_not_mark_and_does_not_count(measured: Measured) -> None:
    bob = IdleDevice(BOB)
    measured.push(bob)
    measured.times.sent(bob, OTHER)
    assert measured.awaited == 1
    measured.times.sent(bob, TALK)
    assert marks(measured, bob, (TALK, 9)) == {}


@pytest.mark.parametrize(
    "frame",
    [
        encode(Tombstone(TALK, 7, b"m" * 16, NOW_US - AGO_US, ALICE)),
        encode(Message(TALK, 7, b"m" * 16, NOW_US - AGO_US, BOB, "text", b"x", None, None)),
        b"\xa1\x00\x18\xc8",
        b"\xa1\x00\x18\x80",
        b"\xff",
    ],
    ids=["a tombstone", "their own", "of a later release", "without its fields", "no frame"],
)
async def test_frames_that_are_not_messages_for_others_are_not_awaited(measured: Measured, frame: bytes) -> None:
    bob = IdleDevice(BOB)
    measured.push(bob, frame=frame)
    assert marks(measured, bob, (TALK, 7)) == {}


async def test_a_device_that_lags_and_a_push_without_recipients_are_not_waited_for(measured: Measured) -> None:
    bob = IdleDevice(BOB)
    bob.outbox.is_lagging = True
    measured.push(bob)
    measured.times.pushed(AddressedPush(TALK, 7, b"", ()), [])
    assert measured.awaited == 0
    bob.outbox.is_lagging = False


async def test_marks_that_never_come_are_not_waited_for_without_end(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_times, "MAX_AWAITED", 2)
    monkeypatch.setattr(delivery_times, "INTERVAL_S", 0.01)
    devices = [IdleDevice(BOB) for _ in range(3)]
    for device in devices:
        measured.push(device)
    assert measured.awaited == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measured.times.run)
        await let_pass(0.05, why="a look at what is awaited")
        assert measured.awaited == 2, "marks may still come"
        measured.now_us += 3_600_000_000
        await wait_until(lambda: measured.awaited == 0, "they are forgotten")
        nursery.cancel_scope.cancel()


async def test_one_message_of_sixteen_is_looked_at(pool: Pool) -> None:
    measured = Measured(pool)
    for seq in range(1, 16 * 4 + 1):
        bob = IdleDevice(BOB)
        measured.push(bob, seq=seq)
        marks(measured, bob, (TALK, seq))
    assert measured.counts == {(20_000, 74): 4}


async def test_samples_that_could_not_be_written_are_lost_and_logged(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples whose outcome is unknown are dropped; samples that were not sent are kept."""
    lost = Measured(Pool("postgresql://nobody@127.0.0.1:1/none", 2))
    for each in (measured, lost):
        bob = IdleDevice(BOB)
        each.push(bob)
        marks(each, bob, (TALK, 7))

    async def overloaded(*_: object) -> None:
        raise Overloaded("the Postgres pool", 1)

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(delivery_times, "add_latencies", overloaded)
        await measured.times.flush()
    assert ([line["event"] for line in logs], measured.counts) == (["latencies_wait"], ONE)
    with structlog.testing.capture_logs() as logs:
        await lost.times.flush()
    assert ([line["event"] for line in logs], lost.counts) == (["latencies_lost"], {})
