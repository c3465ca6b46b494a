"""Schedules in Postgres: each tick fires once, with any number of workers, and when the clock jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import trio

from jobs.engine import scheduler
from jobs.engine.job import Job
from jobs.engine.scheduler import declare_all, fire_once
from jobs.engine.task import Cron, Every, Task
from jobs.engine.ticks import BadRule
from store import schedules
from store.postgres.pool import Pool
from tests.jobs.jobs_world import RecordingTask
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


class Sweeping:
    """A task without arguments, that writes down when it runs."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.gate: trio.Event | None = None

    async def sweep(self, job: Job) -> None:
        self.runs.append(job.id)
        if self.gate is not None:
            await self.gate.wait()


@pytest.fixture
def sweeping() -> Sweeping:
    return Sweeping()


def tasks_of(*tasks: Task) -> dict[str, Task]:
    return {task.name: task for task in tasks}


async def pretend_last_tick(pool: Pool, ago_s: float, name: str = "sweep") -> None:
    await pool.fetch(
        "update schedules set next = clock_timestamp() - make_interval(secs => %s) where name = %s", (ago_s, name)
    )


async def waiting(pool: Pool) -> int:
    [(number,)] = await pool.fetch("select count(*) from jobs where task = 'sweep'")
    return int(number)


async def test_workers_that_look_at_the_same_time_fire_a_tick_once(pool: Pool, sweeping: Sweeping) -> None:
    tasks = tasks_of(Task(sweeping.sweep, schedule=Cron("* * * * *", missed="all")))
    await declare_all(pool, tasks)
    fired = 0

    async def look() -> None:
        nonlocal fired
        found = await fire_once(pool, tasks)
        fired += found

    for round_ in range(1, 6):
        await pretend_last_tick(pool, 1)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(look)
        assert fired == round_
        assert await waiting(pool) == round_


async def test_several_workers_keep_to_the_interval(pool: Pool, sweeping: Sweeping, start_worker: StartWorker) -> None:
    task = Task(sweeping.sweep, schedule=Every(0.3))
    began = trio.current_time()
    for _ in range(3):
        await start_worker(task)

    async def four() -> bool:
        return len(sweeping.runs) >= 4

    await wait_until(four, "four ticks have come")
    seconds = trio.current_time() - began
    assert len(sweeping.runs) <= seconds / 0.3 + 1


async def test_a_tick_joins_the_job_that_waits_and_follows_the_one_that_runs(
    pool: Pool, sweeping: Sweeping, start_worker: StartWorker
) -> None:
    """Jobs of a schedule do not pile up behind a slow worker, and each tick has a job."""
    task = Task(sweeping.sweep, schedule=Cron("0 0 1 1 *"))
    tasks = tasks_of(task)
    await declare_all(pool, tasks)
    for _ in range(3):
        await pretend_last_tick(pool, 1)
        assert await fire_once(pool, tasks) == 1
    assert await waiting(pool) == 1
    sweeping.gate = trio.Event()
    await start_worker(task)

    async def runs() -> bool:
        return len(sweeping.runs) == 1

    await wait_until(runs, "it runs")
    await pretend_last_tick(pool, 1)

    async def ticked() -> bool:
        return bool(await pool.fetch("select 1 from jobs where version = 2"))

    await wait_until(ticked, "a tick has come meanwhile")
    sweeping.gate.set()

    async def over() -> bool:
        return await waiting(pool) == 0

    await wait_until(over, "both have ended")
    assert len(sweeping.runs) == 2


async def test_a_paused_schedule_fires_nothing_and_what_it_missed_is_handled_as_declared(
    pool: Pool, sweeping: Sweeping
) -> None:
    tasks = tasks_of(Task(sweeping.sweep, schedule=Cron("* * * * *", missed="skip")))
    await declare_all(pool, tasks)
    await pretend_last_tick(pool, 600)
    assert await schedules.pause(pool, "sweep")
    assert await fire_once(pool, tasks) == 0
    assert await schedules.resume(pool, "sweep")
    assert await fire_once(pool, tasks) == 1
    [((schedule, *_), now)] = [await schedules.all_schedules(pool)]
    assert schedule.next > (now or schedule.next) - timedelta(seconds=61)
    # Unless one of its ticks has just been.
    assert await waiting(pool) <= 1


@pytest.mark.parametrize(("missed", "jobs"), [("once", 1), ("all", 11)])
async def test_ticks_that_came_while_no_worker_was_there(
    pool: Pool, sweeping: Sweeping, missed: str, jobs: int
) -> None:
    tasks = tasks_of(Task(sweeping.sweep, schedule=Cron("* * * * *", missed=missed)))
    await declare_all(pool, tasks)
    await pool.fetch("update schedules set next = date_trunc('minute', clock_timestamp()) - interval '10 minutes'")
    assert await fire_once(pool, tasks) == 1
    assert await waiting(pool) in (jobs, jobs + (jobs > 1))
    assert await fire_once(pool, tasks) in (0, 1)


async def test_the_first_tick_of_a_cron_schedule_is_in_the_future_and_a_new_rule_begins_again(
    pool: Pool, sweeping: Sweeping
) -> None:
    for rule in ("30 4 * * *", "0 5 * * *", "0 5 * * *"):
        tasks = tasks_of(Task(sweeping.sweep, schedule=Cron(rule, "Europe/Berlin")))
        await declare_all(pool, tasks)
        assert await fire_once(pool, tasks) == 0
        [(at,)] = await pool.fetch("select to_char(next at time zone 'Europe/Berlin', 'FMMI HH24') from schedules")
        minute, hour = rule.split()[:2]
        assert at == f"{minute} {int(hour):02}"


async def test_a_clock_that_went_back_fires_soon_and_one_that_was_put_right_fires_nothing_twice(
    pool: Pool, sweeping: Sweeping, log_output: list[dict[str, Any]]
) -> None:
    """The test moves the tick into the future, which has the same effect."""
    tasks = tasks_of(Task(sweeping.sweep, schedule=Every(60)))
    await declare_all(pool, tasks)
    await pool.fetch("update schedules set next = clock_timestamp() + interval '1 hour'")
    assert await fire_once(pool, tasks) == 0
    assert [line["event"] for line in log_output] == ["clock_of_postgres_went_back"]
    [(wait_s,)] = await pool.fetch("select extract(epoch from next - clock_timestamp())::float8 from schedules")
    assert 55 < wait_s <= 60
    await pool.fetch("update schedules set next = clock_timestamp() + interval '65 s'")
    assert await fire_once(pool, tasks) == 0
    assert len(log_output) == 1
    assert await waiting(pool) == 0


async def test_a_schedule_that_cannot_be_read_holds_up_no_other(
    pool: Pool, sweeping: Sweeping, log_output: list[dict[str, Any]]
) -> None:
    """As an operator, or a later release, may have left it."""
    tasks = tasks_of(Task(sweeping.sweep, schedule=Every(60)))
    for number, (rule, zone) in enumerate([("0 0 30 2 *", "UTC"), ("every 0 s", "UTC"), ("* * * * *", "Nowhere")]):
        await pool.fetch(
            "insert into schedules (name, task, rule, zone, next) values (%s, 'sweep', %s, %s, clock_timestamp())",
            (f"bad{number}", rule, zone),
        )
    await declare_all(pool, tasks)
    assert await fire_once(pool, tasks) == 1
    assert [line["event"] for line in log_output].count("bad_schedule") == 3
    with pytest.raises(BadRule):
        await declare_all(pool, tasks_of(Task(sweeping.sweep, schedule=Cron("0 0 30 2 *"))))


async def test_schedules_of_tasks_that_only_newer_workers_know_are_left_to_them(
    pool: Pool, sweeping: Sweeping, recorder: RecordingTask
) -> None:
    await declare_all(pool, tasks_of(Task(sweeping.sweep, schedule=Every(60))))
    assert await fire_once(pool, tasks_of(Task(recorder.note))) == 0
    assert await waiting(pool) == 0


async def test_ticks_that_were_missed_are_warned_of_by_a_worker_that_was_there_alone(
    pool: Pool, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, Any]]
) -> None:
    """At a start they are expected: perhaps no worker was meant to run."""
    monkeypatch.setattr(scheduler, "POLL_S", 0.02)
    tasks = tasks_of(Task(sweeping.sweep, schedule=Cron("* * * * *", missed="skip")))
    await declare_all(pool, tasks)

    def levels() -> list[str]:
        return [line["log_level"] for line in log_output if line["event"] == "ticks_missed"]

    async def said(times: int) -> bool:
        return len(levels()) >= times

    await pretend_last_tick(pool, 600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.fire_forever, pool, tasks)
        for expected in (["info"], ["info", "warning"]):
            await wait_until(partial(said, len(expected)), "missed ticks are spoken of")
            assert levels() == expected
            await pretend_last_tick(pool, 600)
        nursery.cancel_scope.cancel()
