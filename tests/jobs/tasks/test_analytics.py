"""The tasks of analytics find the same figures at any time, on any worker, and after any interruption."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import structlog
import trio

from client.http import Credentials
from jobs.engine.job import GiveUp
from jobs.engine.task import BadPayload, Every, Task
from jobs.tasks import analytics as jobs_analytics
from jobs.tasks.analytics import Analytics
from store import analytics, outbox
from store.analytics import Day
from store.last_seen import touch
from store.objects.interface import StoredObject
from store.postgres.pool import Pool
from tests.jobs.jobs_world import a_job, send_message
from tests.people import new_direct, new_user


@pytest.fixture
async def people(pool: Pool) -> list[Credentials]:
    """They joined three days ago; two of them have sent a message on each day since, including today."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    talk = await new_direct(pool, alice, bob)
    await send_message(pool, talk, alice.user, *[b"x"] * 8)
    for table in ("outbox", "sends"):
        await pool.fetch(f"update {table} set created = created - make_interval(days => mod(seq, 4)::int)")
    await touch(pool, [alice.user, bob.user] * 4, [n // 2 * 86_400_000_000 for n in range(8)])
    await touch(pool, [carol.user])
    await pool.fetch("update users set created = created - interval '3 days'")
    return [alice, bob, carol]


async def last_days(pool: Pool, count: int = 4) -> list[Day]:
    today = await analytics.today(pool)
    return await analytics.days(pool, today - timedelta(days=count - 1), today)


def figures(found: list[Day]) -> list[tuple[int | None, int | None, int | None]]:
    return [(day.messages, day.active_users, day.new_users) for day in found]


RIGHT = [(2, 2, 3), (2, 2, 0), (2, 2, 0), (2, 3, 0)]


async def test_a_run_counts_all_days_that_were_not_counted_and_another_changes_nothing(
    pool: Pool, people: list[Credentials]
) -> None:
    reports: list[str] = []
    task = Analytics(pool)
    while (await outbox.decide(pool, window_s=0))[0]:
        pass
    await task.analytics(a_job("analytics", reports=reports))
    found = await last_days(pool)
    assert figures(found) == RIGHT
    today = found[-1].day
    assert reports[:2] == [f"closed {today - timedelta(days=ago)}" for ago in (3, 2)]
    reports.clear()
    await task.analytics(a_job("analytics", reports=reports))
    assert (figures(await last_days(pool)), reports) == (RIGHT, [])


async def test_runs_at_once_while_messages_are_decided_count_right(pool: Pool, people: list[Credentials]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(Analytics(pool).analytics, a_job("analytics"))
            nursery.start_soon(lambda: outbox.decide(pool, window_s=0))
    assert figures(await last_days(pool)) == RIGHT


async def test_a_run_that_is_cut_off_anywhere_is_completed_by_the_next(
    pool: Pool, people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after each of its queries in turn; it may repeat the writes before that."""
    await outbox.decide(pool, window_s=0)
    fetch: Callable[..., object] = Pool.fetch
    is_cut, runs = True, 0
    while is_cut:
        left = runs
        await pool.fetch("delete from progress")
        await pool.fetch("delete from analytics where metric <> 'messages'")
        with trio.CancelScope() as scope:

            async def cut(self: Pool, *arguments: object) -> object:
                nonlocal left
                found = await fetch(self, *arguments)  # type: ignore[misc]
                left -= 1
                if left < 0:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                return found

            with monkeypatch.context() as patch:
                patch.setattr(Pool, "fetch", cut)
                await Analytics(pool).analytics(a_job("analytics"))
        is_cut = scope.cancelled_caught
        await Analytics(pool).analytics(a_job("analytics"))
        assert figures(await last_days(pool)) == RIGHT
        runs += 1
    assert runs > 10


async def test_user_active_yesterday_and_reported_late_is_counted(pool: Pool, people: list[Credentials]) -> None:
    task = Analytics(pool)
    await task.analytics(a_job("analytics"))
    await touch(pool, [people[2].user], [86_400_000_000])
    await task.analytics(a_job("analytics"))
    assert [day.active_users for day in await last_days(pool, 2)] == [3, 3]


class SomeObjects:
    """An object store that can be listed, and counts how often it is."""

    def __init__(self) -> None:
        self.listed = 0
        self.hanging = False

    async def list(self, prefix: str, after: str = "", limit: int = 1000) -> list[StoredObject]:
        self.listed += 1
        if self.hanging:
            await trio.sleep_forever()
        return [StoredObject(f"a/{n}", size_bytes, 0) for n, size_bytes in enumerate((4000, 711))]


async def test_the_object_store_is_looked_at_once_a_day(pool: Pool) -> None:
    objects: Any = SomeObjects()
    task = Analytics(pool, objects)
    for _ in range(2):
        await task.analytics(a_job("analytics"))
    [today] = await last_days(pool, 1)
    assert (objects.listed, today.storage["objects"]) == (1, 4711)
    assert today.storage["message_tables"]


async def test_an_object_store_that_takes_too_long_is_left_out_and_logged(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_analytics, "OBJECTS_S", 0.05)
    objects: Any = SomeObjects()
    objects.hanging = True
    with structlog.testing.capture_logs() as logs:
        await Analytics(pool, objects).analytics(a_job("analytics"))
    assert [line["event"] for line in logs] == ["objects_not_measured"]
    [today] = await last_days(pool, 1)
    assert today.storage["objects"] is None
    assert today.storage["message_tables"]


async def test_a_day_is_recounted_and_is_the_same(pool: Pool, people: list[Credentials]) -> None:
    task = Analytics(pool)
    yesterday = await analytics.today(pool) - timedelta(days=1)
    await outbox.decide(pool, window_s=0)
    for removed in ("analytics where metric <> 'messages'", "sends", "activity"):
        await task.recount(a_job("analytics"), yesterday)
        assert figures(await last_days(pool, 2))[0] == (2, 2, 0)
        await pool.fetch(f"delete from {removed}")
    await task.recount(a_job("analytics"), yesterday)
    assert figures(await last_days(pool, 2))[0] == (2, 2, 0), "rows that retention has removed still count"


async def test_a_day_that_is_yet_to_come_is_not_counted(pool: Pool) -> None:
    with pytest.raises(GiveUp, match="must not be after today"):
        await Analytics(pool).recount(a_job("analytics"), await analytics.today(pool) + timedelta(days=1))


async def test_they_are_tasks(pool: Pool) -> None:
    both = Analytics(pool)
    assert Task(both.analytics, schedule=Every(300), timeout_s=300).name == "analytics"
    recount = Task(both.recount, timeout_s=300)
    await recount.call(a_job("analytics"), recount.encode({"day": date(2026, 1, 31)}))
    with pytest.raises(BadPayload):
        recount.decode(b'{"day": "2026-02-30"}')
