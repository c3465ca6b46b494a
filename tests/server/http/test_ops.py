"""What operators ask: who may, of which days, and what a real gateway has to show for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog
import trio
import trio.testing

from protocol.codec import encode
from protocol.frames import Frame, MarkDelivered, MarkRead, Message, Send, Sent, Tombstone
from server.delivery.hub import Hub
from server.gateway import delivery_times, last_seen
from server.gateway.delivery_times import DeliveryTimes
from server.gateway.last_seen import LastSeen
from store import analytics, outbox
from store.analytics import Day
from store.errors import Overloaded
from store.latencies import DAY_US
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from tests.people import new_direct, new_user
from tests.server.http_world import Api, open_api, say
from tests.server.node_world import RawClient, open_node, wait_for

TOKEN = "an-operators-token"
both_forms = pytest.mark.parametrize("form", ["json", "cbor"])


@asynccontextmanager
async def open_ops(pool: Pool, redis_url: str, form: str = "json") -> AsyncGenerator[Api, None]:
    async with open_api(pool, redis_url, form, ops_token=TOKEN) as api:
        yield api.of(TOKEN)


async def today_of(pool: Pool) -> Day:
    today = await analytics.today(pool)
    [found] = await analytics.days(pool, today, today)
    return found


async def until(is_right: Callable[[], Awaitable[Any]], *, what: str) -> None:
    deadline = trio.current_time() + 10
    while not await is_right():
        assert trio.current_time() < deadline, f"not within 10 s: {what}"
        await trio.sleep(0.01)


@both_forms
async def test_operators_are_shown_all_figures_of_the_days_they_ask_for(pool: Pool, redis_url: str, form: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    await say(pool, await new_direct(pool, alice, bob), alice.user, b"1", b"2")
    await outbox.decide(pool, window_s=0)
    today = await analytics.today(pool)
    number = (today - date(1970, 1, 1)).days
    await analytics.count_day(pool, today)
    await analytics.note_storage(pool)
    await pool.fetch("insert into latencies values (%s, 40, 9), (%s, 60, 1)", (today, today))
    async with open_ops(pool, redis_url, form) as ops:
        found = await ops.get("/v1/ops/analytics", **{"from": f"{today - timedelta(days=2)}", "until": f"{today}"})
    assert found.status == 200
    *before, last = found.body["days"]
    assert [day["day"] for day in (*before, last)] == [f"{today - timedelta(days=ago)}" for ago in (2, 1, 0)]
    assert before[1] == {
        "day": f"{today - timedelta(days=1)}",
        "messages": None,
        "active_users": None,
        "new_users": None,
        "delivery_ms": None,
        "storage_bytes": dict.fromkeys(last["storage_bytes"]),
    }
    storage = last.pop("storage_bytes")
    assert storage.pop("objects") is None
    assert set(storage) == {"message_tables", "message_indexes", "other_tables", "other_indexes"}
    assert all(type(value) is int and value > 0 for value in storage.values())
    assert last == {
        "day": f"{today}",
        "messages": 2,
        "active_users": 0,
        "new_users": 2,
        "delivery_ms": {"samples": 10, "p50": 100.0, "p95": 1000.0, "p99": 1000.0},
    }
    assert number > 20_000


NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
"""Whoever asks this for something has got too far."""


async def test_who_has_not_the_operators_token_learns_nothing(redis_url: str) -> None:
    """Not even whether the query is right."""
    headers = [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xe4\xf6\xfc",
    ]
    async with open_ops(Pool(NOWHERE, 2), redis_url) as ops:
        for header in headers:
            for query in ({}, {"from": "2026-01-01", "until": "2026-01-02"}):
                given = {} if header is None else {"Authorization": header}
                answer = await ops.of("").request("GET", "/v1/ops/analytics", headers=given, query_string=query)
                assert (answer.status, answer.code) == (401, "unauthenticated"), header


async def test_the_token_of_a_device_is_no_operators_token_nor_the_other_way_round(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_ops(pool, redis_url) as ops:
        assert (await ops.of(alice.token).get("/v1/ops/analytics")).status == 401
        assert (await ops.get("/v1/devices")).status == 401
        assert (await ops.of(alice.token).get("/v1/devices")).status == 200
        assert (await ops.get("/v1/ops/analytics")).status == 400


async def test_without_a_token_there_is_no_ops_api(redis_url: str) -> None:
    async with open_api(Pool(NOWHERE, 2), redis_url) as api:
        for asking in (api, api.of(TOKEN), api.of("")):
            there, nowhere = await asking.get("/v1/ops/analytics"), await asking.get("/v1/nowhere")
            assert (there.status, there.code) == (404, "not_found")
            assert there.body == nowhere.body


BAD_QUERIES: list[tuple[dict[str, str], str]] = [
    ({}, "from"),
    ({"from": "2026-01-01"}, "until"),
    ({"until": "2026-01-01"}, "from"),
    ({"from": "yesterday", "until": "2026-01-01"}, "from"),
    ({"from": "2026-02-30", "until": "2026-03-01"}, "from"),
    ({"from": "20260101", "until": "2026-01-01"}, "from"),
    ({"from": "2026-W01-1", "until": "2026-01-01"}, "from"),
    ({"from": "2026-01-01", "until": "2026-01-01T00:00"}, "until"),
    ({"from": "2026-01-01", "until": "0000-01-01"}, "until"),
    ({"from": "2026-01-01", "until": "2026-01-\u0661\u0661"}, "until"),
    ({"from": "2026-01-02", "until": "2026-01-01"}, "until"),
    ({"from": "2025-01-01", "until": "2026-01-02"}, "until"),
    ({"from": "0001-01-01", "until": "9999-12-31"}, "until"),
]


async def test_days_that_are_none_or_too_many_are_refused_by_name(redis_url: str) -> None:
    async with open_ops(Pool(NOWHERE, 2), redis_url) as ops:
        for query, named in BAD_QUERIES:
            answer = await ops.get("/v1/ops/analytics", **query)
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert answer.body["error"]["detail"].startswith(named), query


async def test_a_whole_year_and_the_ends_of_the_calendar_are_answered(pool: Pool, redis_url: str) -> None:
    async with open_ops(pool, redis_url) as ops:
        for first, last, count in (
            ("2024-01-01", "2024-12-31", 366),
            ("0001-01-01", "0001-01-01", 1),
            ("9999-12-31", "9999-12-31", 1),
        ):
            answer = await ops.get("/v1/ops/analytics", **{"from": first, "until": last})
            assert [answer.status, len(answer.body["days"])] == [200, count]


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
    pool: Pool, redis_url: str, mark: Callable[..., Frame]
) -> None:
    """Between two nodes; no less than the device took its time, no more than all of it took."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    talk = await new_direct(pool, alice, bob)
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        other = there.gateway._node.id
        await wait_for(lambda: other in here.gateway._node.live_nodes(), what="they know each other")
        async with here.open_websocket(alice.token) as writer, there.open_websocket(bob.token) as reader:
            began = trio.current_time()
            sent = await send(writer, talk)
            await reader.find(Message)
            await trio.sleep(0.06)
            await reader.ask(mark(1, [(talk, sent.seq)]))
            took_ms = (trio.current_time() - began) * 1000

            async def is_measured() -> bool:
                return (await today_of(pool)).delivery is not None

            await until(is_measured, what="it has been written")
    found = (await today_of(pool)).delivery
    assert found is not None
    assert found.samples == 1
    assert 60 * 0.98 <= found.p50 == found.p99 <= took_ms * 1.1221 + 5


@pytest.mark.usefixtures("_every_message")
async def test_a_node_that_stops_writes_what_it_has_measured(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_times, "INTERVAL_S", 3600)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    talk = await new_direct(pool, alice, bob)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as writer,
        node.open_websocket(bob.token) as reader,
    ):
        sent = await send(writer, talk)
        await reader.find(Message)
        await reader.ask(MarkDelivered(1, [(talk, sent.seq)]))
        assert (await today_of(pool)).delivery is None
        await writer.stream.aclose()
        await reader.stream.aclose()
        await wait_for(lambda: not node.gateway._connections, what="they are gone")
        node.gateway._terminated.set()

        async def is_measured() -> bool:
            return (await today_of(pool)).delivery is not None

        await until(is_measured, what="it has been written")


@pytest.mark.usefixtures("_every_message")
async def test_a_node_waits_for_no_mark_of_who_has_gone_or_answered(pool: Pool, redis_url: str) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    talk = await new_direct(pool, alice, bob)
    async with open_node(pool.url, redis_url) as node:
        times = node.gateway._delivery_times

        def awaited() -> list[bytes]:
            return [client.user for client in times._awaited]

        async with node.open_websocket(alice.token) as writer, node.open_websocket(bob.token) as reader:
            await send(writer, talk)
            await reader.find(Message)
            assert awaited() == [bob.user]
            await send(reader, talk)
            assert awaited() == [alice.user]
        await wait_for(lambda: not node.gateway._connections, what="they are gone")
        assert awaited() == []


class FakeOutbox:
    is_lagging = False


class Device:
    """A client of the hub that nothing is sent to."""

    def __init__(self, user: bytes, *, since_s: float = 3600.0) -> None:
        self.user = user
        self.device = user
        self.outbox: Any = FakeOutbox()
        self.registered_at = trio.current_time() - since_s

    def close(self, code: Any, detail: str) -> None:
        raise AssertionError("nothing is closed here")


ALICE, BOB, TALK, OTHER = (letter * 16 for letter in (b"a", b"b", b"t", b"o"))
NOW_US = 20_000 * DAY_US + DAY_US // 2
AGO_US = 5_000_000


class Measured:
    """A sampler whose clock stands, and a message of Alice's from 5 s ago."""

    def __init__(self, pool: Pool) -> None:
        self.times = DeliveryTimes(pool, lambda: NOW_US)

    def push(self, device: Device, *, seq: int = 7, frame: bytes | None = None) -> None:
        message = Message(TALK, seq, b"m" * 16, NOW_US - AGO_US, ALICE, "text", b"x", None, None)
        self.times.pushed(
            AddressedPush(TALK, seq, encode(message) if frame is None else frame, (device.user,)), [device]
        )

    @property
    def counts(self) -> dict[tuple[int, int], int]:
        return dict(self.times._counts)


@pytest.fixture
def measured(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr(delivery_times, "SAMPLE", 1)
    return Measured(pool)


def marks(measured: Measured, device: Device, *of: tuple[bytes, int]) -> dict[tuple[int, int], int]:
    measured.times.marked(device, MarkDelivered(1, list(of)))
    return measured.counts


ONE = {(20_000, 74): 1}
"""5 s, within 12 %: 10 ** (74 / 20) ms are 5,012."""


async def test_the_first_mark_that_passes_a_message_is_what_counts(measured: Measured) -> None:
    bob = Device(BOB)
    measured.push(bob)
    assert marks(measured, bob, (TALK, 6), (OTHER, 9)) == {}
    assert marks(measured, bob, (OTHER, 9), (TALK, 8)) == ONE
    assert marks(measured, bob, (TALK, 9)) == ONE


async def test_a_delivery_that_takes_long_is_not_forgotten_for_the_next_one(measured: Measured) -> None:
    """Else only quick ones would count."""
    bob = Device(BOB)
    measured.push(bob)
    measured.push(bob, seq=8)
    assert marks(measured, bob, (TALK, 7)) == ONE


async def test_who_connected_after_the_message_had_no_delivery_to_wait_for(measured: Measured) -> None:
    late, early = Device(BOB, since_s=4), Device(BOB, since_s=6)
    measured.push(late)
    assert marks(measured, late, (TALK, 7)) == {}
    measured.push(early)
    assert marks(measured, early, (TALK, 7)) == ONE


async def test_who_went_before_the_mark_does_not_count(measured: Measured) -> None:
    bob = Device(BOB)
    measured.push(bob)
    measured.times.left(bob)
    assert marks(measured, bob, (TALK, 7)) == {}
    measured.times.left(bob)


async def test_who_has_answered_need_not_mark_and_does_not_count(measured: Measured) -> None:
    bob = Device(BOB)
    measured.push(bob)
    measured.times.sent(bob, OTHER)
    assert list(measured.times._awaited) == [bob]
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
async def test_what_is_no_message_for_them_is_not_waited_for(measured: Measured, frame: bytes) -> None:
    bob = Device(BOB)
    measured.push(bob, frame=frame)
    assert marks(measured, bob, (TALK, 7)) == {}


async def test_a_device_that_lags_and_a_push_to_nobody_are_not_waited_for(measured: Measured) -> None:
    bob = Device(BOB)
    bob.outbox.is_lagging = True
    measured.push(bob)
    measured.times.pushed(AddressedPush(TALK, 7, b"", ()), [])
    assert not measured.times._awaited
    bob.outbox.is_lagging = False


async def test_marks_that_never_come_are_not_waited_for_without_end(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_times, "MAX_AWAITED", 2)
    devices = [Device(BOB) for _ in range(3)]
    for device in devices:
        measured.push(device)
    assert list(measured.times._awaited) == devices[:2]
    measured.times._now_us = lambda: NOW_US + 3_600_000_000
    measured.times._forget_lost()
    assert not measured.times._awaited


async def test_one_message_of_sixteen_is_looked_at(pool: Pool) -> None:
    measured = Measured(pool)
    for seq in range(1, 16 * 4 + 1):
        bob = Device(BOB)
        measured.push(bob, seq=seq)
        marks(measured, bob, (TALK, seq))
    assert measured.counts == {(20_000, 74): 4}


async def test_samples_that_could_not_be_written_are_lost_and_logged(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether Postgres has them nobody knows; if it was not even asked, they are kept."""
    bob = Device(BOB)
    measured.push(bob)
    marks(measured, bob, (TALK, 7))

    async def overloaded(*_: object) -> None:
        raise Overloaded("the Postgres pool", 1)

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(delivery_times, "add_latencies", overloaded)
        await measured.times.flush()
    assert ([line["event"] for line in logs], measured.counts) == (["latencies_wait"], ONE)
    measured.times._pool = Pool("postgresql://nobody@127.0.0.1:1/none", 2)
    with structlog.testing.capture_logs() as logs:
        await measured.times.flush()
    assert ([line["event"] for line in logs], measured.counts) == (["latencies_lost"], {})


async def active(pool: Pool) -> set[bytes]:
    return {row[0] for row in await pool.fetch("select user_id from activity")}


async def test_who_connects_is_active_on_that_day_and_who_stays_is_so_on_the_next(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At midnight those who are here are written again; who has gone by then is not."""
    monkeypatch.setattr(last_seen, "LOOK_S", 0.02)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.02)
    monkeypatch.setattr(last_seen, "AT_ONCE", 1)
    stays = [await new_user(pool, name) for name in ("alice", "bob")]
    goes = await new_user(pool, "carol")
    days = 0
    async with open_node(pool.url, redis_url) as node:
        seen = node.gateway._last_seen
        now_us = seen._now_us
        seen._now_us = lambda: now_us() + days * DAY_US
        async with node.open_websocket(stays[0].token), node.open_websocket(stays[1].token):
            async with node.open_websocket(goes.token):

                async def are_all_active() -> bool:
                    return len(await active(pool)) == 3

                await until(are_all_active, what="they have come")
            await wait_for(lambda: node.gateway._hub.statistics().users == 2, what="one has gone")
            await seen.wait_idle()
            await pool.fetch("delete from activity")
            days = 1

            async def are_active_again() -> bool:
                return await active(pool) == {each.user for each in stays}

            await until(are_active_again, what="they are here on the next day")
            batches = seen._batcher.statistics().batches
            await pool.fetch("delete from activity")
            await trio.sleep(0.1)
            assert seen._batcher.statistics().batches == batches, "once a day"
    assert await active(pool) <= {each.user for each in stays}, "they go"


async def test_those_who_are_here_at_midnight_are_written_however_full_the_queue_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "LOOK_S", 0.01)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr("store.batching.fair_queue.MAX_QUEUED", 3)
    users = [(await new_user(pool, f"user{n}")).user for n in range(8)]
    hub = Hub()
    for user in users:
        hub.add(Device(user))
    now_us = NOW_US
    async with trio.open_nursery() as nursery:
        seen = LastSeen(pool, hub, lambda: now_us)
        nursery.start_soon(seen.run)
        await trio.testing.wait_all_tasks_blocked()
        now_us += DAY_US

        async def are_active() -> bool:
            return await active(pool) == set(users)

        await until(are_active, what="all are written")
        nursery.cancel_scope.cancel()


async def test_who_goes_while_those_who_are_here_are_written_is_not_written_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going was the last time of being here."""
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr(last_seen, "AT_ONCE", 1)
    hub = Hub()
    devices = [Device((await new_user(pool, name)).user) for name in ("alice", "bob")]
    for device in devices:
        hub.add(device)
    seen = LastSeen(pool, hub, lambda: NOW_US)
    async with trio.open_nursery() as running:
        running.start_soon(seen.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen._note_all)
            await trio.testing.wait_all_tasks_blocked()
            hub.remove(devices[1])
        await seen.wait_idle()
        running.cancel_scope.cancel()
    assert await active(pool) == {devices[0].user}


async def test_what_postgres_could_not_take_is_written_later_with_the_time_at_which_it_was(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.05)
    alice = (await new_user(pool, "alice")).user
    seen = LastSeen(Pool("postgresql://nobody@127.0.0.1:1/none", 2), Hub(), lambda: NOW_US)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        seen.note(alice)
        [(noted,)] = await pool.fetch("select clock_timestamp()")
        await wait_for(lambda: seen._batcher.statistics().batches >= 4, what="it has been tried")
        seen._pool = pool
        await seen.wait_idle()
        nursery.cancel_scope.cancel()
    [(off_s,)] = await pool.fetch("select extract(epoch from at - %s)::float8 from last_seen", (noted,))
    assert abs(off_s) < 0.1
    assert await active(pool) == {alice}


async def test_what_could_not_be_written_for_long_is_given_up(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr(last_seen, "INSIST_S", 0.1)
    seen = LastSeen(Pool("postgresql://nobody@127.0.0.1:1/none", 2), Hub(), lambda: NOW_US)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        seen.note(ALICE)
        with trio.fail_after(5):
            await seen.wait_idle()
        nursery.cancel_scope.cancel()
