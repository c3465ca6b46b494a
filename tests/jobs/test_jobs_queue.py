"""The queue as those who enqueue see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from jobs_helpers import wait_until

from jobs.job import GiveUp, Job, Snooze
from jobs.queue import Queue
from jobs.task import Backoff, BadPayload, Task
from store.pool import Pool

StartWorker = Callable[..., Awaitable[Any]]


class Recorder:
    """Tasks that write down what they were called with, and do as they are told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self.errors: list[Exception] = []
        self.gate: trio.Event | None = None
        self._grew = trio.Condition()

    async def note(self, job: Job, number: int) -> int:
        async with self._grew:
            self.calls.append((job.id, job.attempt, number))
            self._grew.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return number

    async def wait_calls(self, count: int) -> list[tuple[str, int, int]]:
        with trio.fail_after(15):
            async with self._grew:
                while len(self.calls) < count:
                    await self._grew.wait()
        return self.calls


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=[False, True], ids=["durable", "volatile"])
def task(recorder: Recorder, request: pytest.FixtureRequest) -> Task:
    return Task(recorder.note, is_volatile=request.param, attempts=3, backoff=Backoff(0.02, 0.02), keep_result_s=60)


async def ended(queue: Queue, job: str) -> str:
    async def over() -> str:
        state = (await queue.state(job)).state
        return state if state in ("done", "failed", "dead", "cancelled") else ""

    return str(await wait_until(over, f"job {job} has ended"))


async def test_a_job_runs_once_with_its_arguments(
    queue: Queue, recorder: Recorder, task: Task, start_worker: StartWorker
) -> None:
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 7})
    assert await ended(queue, job) == "done"
    assert recorder.calls == [(job, 1, 7)]
    assert (await queue.state(job)).result == "7"


async def test_a_failed_run_is_followed_by_others_and_then_by_death(
    queue: Queue, recorder: Recorder, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.errors = [ValueError("one"), ValueError("two"), ValueError("three")]
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 1})
    await recorder.wait_calls(3)

    async def dead() -> list[Any]:
        return await pool.fetch("select task, payload, attempts, reason, traceback from dead_jobs")

    [(name, payload, attempts, reason, traceback)] = await wait_until(dead, "the job is dead")
    assert (name, payload, attempts, reason) == ("note", {"number": 1}, 3, "ValueError: three")
    assert "raise self.errors.pop(0)" in traceback
    assert recorder.calls == [(job, 1, 1), (job, 2, 1), (job, 3, 1)]


async def test_giving_up_is_death_at_once(
    queue: Queue, recorder: Recorder, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.errors = [GiveUp("no such user")]
    await start_worker(task)
    await queue.enqueue(task, {"number": 1})

    async def dead() -> list[Any]:
        return await pool.fetch("select attempts, reason from dead_jobs")

    assert await wait_until(dead, "the job is dead") == [(1, "no such user")]


async def test_a_snoozed_run_does_not_count(
    queue: Queue, recorder: Recorder, task: Task, start_worker: StartWorker
) -> None:
    recorder.errors = [Snooze(0.02)] * 5
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 1})
    assert await ended(queue, job) == "done"
    assert [attempt for _, attempt, _ in recorder.calls] == [1] * 6


async def test_bad_arguments_are_refused_by_name(queue: Queue, task: Task, pool: Pool) -> None:
    for arguments, what in (({}, "number"), ({"number": "x"}, "int"), ({"number": 1, "more": 2}, "more")):
        with pytest.raises(BadPayload, match=what):
            await queue.enqueue(task, arguments)
    assert await pool.fetch("select * from jobs") == []
