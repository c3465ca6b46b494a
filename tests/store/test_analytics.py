"""Figures by day: exact while several workers count and some are killed, and the same when counted again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from itertools import cycle

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from client.http import Credentials
from store import analytics, attachments, contacts, latencies, orphans, outbox, sql
from store.analytics import AttachmentFigures, Day, Delivery, count_day, days
from store.errors import Unavailable
from store.last_seen import touch
from store.latencies import BUCKETS, add_latencies, bucket_of, percentile_ms, upper_ms
from store.messages import Committed, send
from store.objects.quotas import QUOTAS
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.store.attachment_world import a_file
from tests.store.store_world import a_message, is_waiting_for
from tests.waiting import wait_until


async def day_of(pool: Pool, *, ago: int = 0) -> date:
    return await analytics.today(pool) - timedelta(days=ago)


async def one_day(pool: Pool, day: date) -> Day:
    [found] = await days(pool, day, day)
    return found


async def say(pool: Pool, conversation: bytes, sender: Credentials, count: int) -> None:
    outcomes = await send(pool, ParticipantsCache(), [a_message(conversation, sender.user) for _ in range(count)])
    assert all(isinstance(outcome, Committed) for outcome in outcomes)


async def decide_all(pool: Pool) -> None:
    while (await outbox.decide(pool, window_s=0))[0]:
        pass


async def spread_over_days(pool: Pool, count: int) -> None:
    """Spread the rows of the outbox over the last days, by turns."""
    await pool.fetch("update outbox set created = created - make_interval(days => (id %% %s)::int)", (count,))


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH", 5)


@pytest.mark.usefixtures("_small_batches")
async def test_each_message_is_counted_once_by_deciders_at_once_while_more_is_sent(
    pool: Pool, people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    sent = 0
    is_over = False

    async def decide_on() -> None:
        while not is_over:
            await outbox.decide(pool, window_s=0)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(decide_on)
        for sender, count in zip(cycle(people), range(1, 13), strict=False):
            await say(pool, group, sender, count)
            sent += count
        is_over = True
    await decide_all(pool)
    assert (await one_day(pool, await day_of(pool))).messages == sent


async def test_deciders_that_wait_for_a_day_hold_no_later_one_so_none_waits_in_a_circle(
    pool: Pool, people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch has messages of several days; a worker does not see rows that a second worker has taken."""
    monkeypatch.setattr(outbox, "BATCH", 4)
    group, first = await new_group(pool, *people), await day_of(pool, ago=3)
    await pool.fetch("insert into analytics select %s::date + n, 'messages', 0 from generate_series(0, 3) n", (first,))
    await say(pool, group, people[0], 40)
    await pool.fetch("update participants set delivered_seq = 40")  # so that the days are all there is to wait for
    await spread_over_days(pool, 4)

    async def do_two_wait() -> bool:
        [(waiting,)] = await pool.fetch(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        return bool(waiting == 2)

    async with connected(pool.url) as other, trio.open_nursery() as nursery:
        await other.query("begin")
        await other.query("select from analytics where day = %s for update", (first,))
        for _ in range(2):
            nursery.start_soon(decide_all, pool)
        await wait_until(do_two_wait, "both wait")
        free = await pool.fetch("select day from analytics order by day for update skip locked")
        assert free == [(first + timedelta(days=n),) for n in (1, 2, 3)]
        await other.query("rollback")
    assert [day.messages for day in await days(pool, first, first + timedelta(days=3))] == [10] * 4


async def test_look_that_is_killed_before_its_commit_has_counted_nothing(
    pool: Pool, people: list[Credentials], direct: bytes
) -> None:
    alice, _, _ = people
    await say(pool, direct, alice, 3)
    async with connected(pool.url) as killed:
        [(pid,)] = await killed.query("select pg_backend_pid()")
        await killed.query("begin")
        decided = await killed.query(sql.load("outbox").decide, {"window_s": 0, "limit": 1000})
        assert decided == [(3, 1)]
        await say(pool, direct, alice, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(decide_all, pool)  # it waits for the row of the day

            async def waits() -> bool:
                return await is_waiting_for(pool, "Lock", "outbox")

            await wait_until(waits, "the other one waits")
            await pool.fetch("select pg_terminate_backend(%s, 5000)", (pid,))
            with pytest.raises(Unavailable):
                await killed.query("commit")
    await decide_all(pool)
    assert (await one_day(pool, await day_of(pool))).messages == 5


async def test_accepted_message_counts_although_its_recipient_blocks_the_sender(
    pool: Pool, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, _ = people
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    await say(pool, direct, alice, 2)
    [(silent,)] = await pool.fetch("select count(*) from messages where is_silent")
    assert silent == 2
    await decide_all(pool)
    assert (await one_day(pool, await day_of(pool))).messages == 2


async def test_counting_again_finds_the_same_and_never_less_than_was_there(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    talk, day = await new_direct(pool, alice, bob), await day_of(pool)
    await say(pool, talk, alice, 3)
    await decide_all(pool)
    await touch(pool, [alice.user, bob.user])
    for _ in range(2):
        await count_day(pool, day)
        found = await one_day(pool, day)
        assert (found.messages, found.active_users, found.new_users) == (3, 2, 3)
    await pool.fetch("delete from sends")
    await pool.fetch("delete from messages")
    await pool.fetch("delete from activity")
    await pool.fetch("update users set created = created - interval '1 year'")
    await count_day(pool, day)
    assert await one_day(pool, day) == found


async def test_a_day_on_which_nothing_was_decided_has_no_messages_and_one_that_was_not_counted_nothing(
    pool: Pool, people: list[Credentials]
) -> None:
    await pool.fetch("update users set created = created - interval '2 days'")
    for ago in (2, 5):
        await count_day(pool, await day_of(pool, ago=ago))
    shown = {ago: await one_day(pool, await day_of(pool, ago=ago)) for ago in (1, 2, 5)}
    assert {ago: (day.messages, day.active_users, day.new_users) for ago, day in shown.items()} == {
        1: (None, None, None),
        2: (0, 0, 3),
        5: (0, 0, 0),
    }


async def test_a_user_that_registered_first_and_was_committed_last_is_counted(
    pool: Pool, people: list[Credentials]
) -> None:
    day = await day_of(pool)
    async with connected(pool.url) as slow:
        await slow.query("begin")
        await slow.query("insert into users (id, username, password_hash) values (gen_random_uuid(), 'slow', 'x')")
        await new_user(pool, "quick")
        await count_day(pool, day)
        assert (await one_day(pool, day)).new_users == 4
        await slow.query("commit")
    await count_day(pool, day)
    assert (await one_day(pool, day)).new_users == 5


async def test_a_user_is_active_on_each_day_of_being_here_and_once(pool: Pool, people: list[Credentials]) -> None:
    """By Postgres' clock, at the time when the user was online, not at the time of writing."""
    alice, bob, carol = (person.user for person in people)
    [(since_midnight_us,)] = await pool.fetch(
        "select (extract(epoch from now() - date_trunc('day', now(), 'UTC')) * 1000000)::bigint"
    )
    before_midnight = since_midnight_us + 60_000_000
    async with trio.open_nursery() as nursery:
        for batch in ([alice, bob, bob], [bob, alice, b"?" * 16]) * 3:
            nursery.start_soon(touch, pool, batch, [0, before_midnight, 0])
    await touch(pool, [carol], [before_midnight])
    for ago in (0, 1):
        day = await day_of(pool, ago=ago)
        await count_day(pool, day)
        # Today: alice and bob. Yesterday: bob, alice, and carol.
        assert (await one_day(pool, day)).active_users == 2 + ago
    [(seen, today_began)] = await pool.fetch(
        "select at, date_trunc('day', now(), 'UTC') from last_seen where user_id = %s", (carol.hex(),)
    )
    assert seen < today_began


async def test_old_activity_is_forgotten_after_its_day_is_closed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics, "FORGET_BATCH", 30)
    await pool.fetch(
        "insert into activity select (now() at time zone 'UTC')::date - n, gen_random_uuid()"
        " from generate_series(0, 139) n"
    )
    assert await analytics.forget_activity(pool) == 0, "no day is closed"
    await analytics.close_day(pool, await day_of(pool, ago=100))
    assert [await analytics.forget_activity(pool) for _ in range(3)] == [30, 10, 0]
    await analytics.close_day(pool, await day_of(pool, ago=1))
    await analytics.close_day(pool, await day_of(pool, ago=120))  # late, and without effect
    assert await analytics.forget_activity(pool) == 9
    [(left, oldest)] = await pool.fetch("select count(*), min(day) from activity")
    assert (left, oldest) == (analytics.ACTIVITY_DAYS + 1, await day_of(pool, ago=analytics.ACTIVITY_DAYS))


async def test_days_are_closed_in_order_once_they_are_over_for_an_hour(pool: Pool, people: list[Credentials]) -> None:
    [(hour,)] = await pool.fetch("select extract(hour from now() at time zone 'UTC')::int")
    last = await day_of(pool, ago=1 if hour >= 1 else 2)
    assert (await analytics.unclosed(pool)).day is None, "the first user came today"
    await pool.fetch("update users set created = created - interval '4 days'")
    closed = []
    while (day := (await analytics.unclosed(pool)).day) is not None:
        closed.append(day)
        await analytics.close_day(pool, day)
    assert closed == [await day_of(pool, ago=ago) for ago in range(4, (await day_of(pool) - last).days - 1, -1)]


async def test_storage_is_that_of_the_last_look_and_adds_up_to_all_there_is(
    pool: Pool, people: list[Credentials]
) -> None:
    day = await day_of(pool)
    await pool.fetch("insert into analytics values (%s, 'bytes_message_tables', 99999999999)", (day,))
    await analytics.note_storage(pool)
    await analytics.note_objects(pool, 12)
    assert await analytics.has_objects(pool)
    await analytics.note_objects(pool, 7)
    storage = (await one_day(pool, day)).storage
    assert storage.pop("objects") == 7
    [(everything,)] = await pool.fetch(
        "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c"
        " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
    )
    assert abs(sum(value or 0 for value in storage.values()) - everything) <= 64 * 1024
    assert all(storage.values())


async def test_figures_of_attachments_are_those_of_the_rows_while_files_come_and_go(
    pool: Pool, people: list[Credentials]
) -> None:
    """By several users at once, some of which complete a file twice. What is stored is the sum of all days before."""

    async def upload(user: bytes, count: int) -> None:
        for n in range(count):
            rows = await attachments.declare(pool, user, [a_file(10 + n), a_file(100)], QUOTAS)
            ids = [row.id for row in rows]
            for _ in range(2):
                await attachments.complete(pool, user, ids[:1] if n % 3 else ids)
            if n % 2:
                await orphans.remove(pool, await attachments.give_up(pool, user, ids))

    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(upload, person.user, 6)
    await pool.fetch("update analytics set day = day - 1")
    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(upload, person.user, 3)
    yesterday, today = (day.attachments for day in await days(pool, await day_of(pool, ago=1), await day_of(pool)))
    sizes = await pool.fetch("select count(*), sum(size_bytes)::bigint from attachments where completed is not null")
    assert [(today.stored, today.stored_bytes)] == sizes
    assert (yesterday.uploaded, today.uploaded) == (3 * 8, 3 * 4)
    assert (yesterday.removed, today.removed) == (3 * 4, 3 * 1)
    assert yesterday.stored == yesterday.uploaded - yesterday.removed
    assert today.stored == yesterday.stored + today.uploaded - today.removed
    assert today.uploaded_bytes == 3 * (10 + 100 + 11 + 12)
    assert today.removed_bytes == 3 * 11


async def test_every_day_that_was_asked_for_is_there(pool: Pool) -> None:
    first, last = date(2024, 2, 28), date(2024, 3, 1)
    none = AttachmentFigures(0, 0, 0, 0, 0, 0, 0)
    nothing = dict.fromkeys(("message_tables", "message_indexes", "other_tables", "other_indexes", "objects"))
    assert await days(pool, first, last) == [
        Day(day, None, None, None, None, nothing, none) for day in (first, date(2024, 2, 29), last)
    ]


async def test_samples_of_nodes_add_up(pool: Pool) -> None:
    day = await day_of(pool)
    number = (day - date(1970, 1, 1)).days
    batches = [{(number - n % 2, bucket): bucket + 1 for bucket in (0, 60, 131)} for n in range(2)]

    def adding(batch: dict[tuple[int, int], int]) -> Callable[[], Awaitable[None]]:
        return lambda: add_latencies(pool, batch)

    async with trio.open_nursery() as nursery:
        for batch in batches * 5:
            nursery.start_soon(adding(batch))
    assert (await one_day(pool, day)).delivery == Delivery(5 * (1 + 61 + 132), *(3 * [upper_ms(131)]))
    assert (await one_day(pool, day - timedelta(days=1))).delivery is not None


microseconds = st.integers(1_000, 3_600_000_000)


@given(st.lists(microseconds, min_size=1, max_size=300), st.sampled_from(analytics.PERCENTS))
def test_a_percentile_is_never_too_low_and_too_high_by_a_bucket_at_most(values: list[int], percent: int) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    exact_ms = sorted(values)[math.ceil(len(values) * percent / 100) - 1] / 1000
    assert exact_ms <= percentile_ms(counts, percent) <= exact_ms * 1.1221 + 0.001


@given(st.integers(-(10**9), 10**12))
def test_every_latency_has_a_bucket_that_holds_it(latency_us: int) -> None:
    bucket = bucket_of(latency_us)
    assert 0 <= bucket < BUCKETS
    clamped_ms = min(max(latency_us / 1000, latencies.SHORTEST_MS), latencies.LONGEST_MS)
    assert clamped_ms <= upper_ms(bucket)
    assert bucket == 0 or upper_ms(bucket - 1) < clamped_ms + 0.001


def test_bounds_grow_from_a_millisecond_to_an_hour() -> None:
    bounds = [upper_ms(bucket) for bucket in range(BUCKETS)]
    assert bounds == sorted(set(bounds))
    assert (BUCKETS, bounds[0], bounds[20], bounds[-1]) == (133, 1.0, 10.0, 3_600_000.0)
    assert upper_ms(bucket_of(10_000)) == 10.0, "a bound belongs to the bucket below it"


def test_no_samples_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile_ms({}, 50)
