"""Jobs of quick tasks are taken before there is room for them: fewer round trips, and the promises hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from jobs.engine import consumer_group, heartbeat, pace, runner, streams
from jobs.engine.consumer_group import TaskLimits
from jobs.engine.job import Job
from jobs.engine.pace import AHEAD_S, MAX_AHEAD, TaskPace
from jobs.engine.queue import Queue
from jobs.engine.run import Run
from jobs.engine.streams import JobStream
from jobs.engine.task import Task
from store import jobs
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.jobs.jobs_world import RecordingTask, no_jobs
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]

FIRST = 100
"""The number of the job whose run waits."""


class Gated:
    """A quick task; the run of the job `FIRST` waits until the gate opens.

    :ivar attempts: of the other runs, by the number of the job.
    """

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.waits = trio.Event()
        self.attempts: dict[int, list[int]] = {}

    async def run(self, job: Job, number: int) -> None:
        if number == FIRST:
            self.waits.set()
            await self.gate.wait()
        else:
            self.attempts.setdefault(number, []).append(job.attempt)


@pytest.fixture(params=[False, True], ids=["durable", "volatile"])
def is_volatile(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def _known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is quick after one quick run."""
    monkeypatch.setattr(pace, "FORGETTING", 0.0)
    monkeypatch.setattr(pace, "AHEAD_S", 10.0)


async def is_empty(redis: Redis, task: Task) -> bool:
    """Whether no entry is left."""
    return sum(await streams.lengths(redis, streams.streams_of([task.name]))) == 0


@pytest.mark.parametrize(
    ("seconds", "ahead"),
    [([], 0), ([0.0], 0), ([0.0] * 35, 1), ([0.0] * 300, MAX_AHEAD), ([0.002] * 300, 10), ([0.0] * 300 + [1.0], 0)],
)
def test_the_quicker_the_slowest_of_the_latest_runs_the_more_are_taken_ahead(seconds: list[float], ahead: int) -> None:
    its = TaskPace([Task(RecordingTask().note)])
    for each in seconds:
        its.note("note", each)
    assert its.ahead("note") == ahead


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"rate": (9, 60)}, {"attempts": 1}], ids=str)
def test_jobs_are_never_taken_ahead_if_limits_or_the_only_attempt_would_count_them_as_begun(limits: Any) -> None:
    its = TaskPace([Task(RecordingTask().note, **limits)])
    for _ in range(1000):
        its.note("note", AHEAD_S / 1000)
    assert its.ahead("note") == 0


@pytest.mark.parametrize(
    ("order", "room", "taken"),
    [
        (("quick", "slow"), 1, {"quick": 1 + 4}),
        (("quick", "slow"), 9, {"quick": 6, "slow": 3}),
        (("slow", "quick"), 1, {"slow": 1}),
        (("slow", "quick"), 8, {"slow": 6, "quick": 2}),
        (("quick", "quicker"), 2, {"quick": 6}),
        (("quicker", "quick"), 2, {"quicker": 6}),
        (("quicker", "quick"), 4, {"quicker": 6, "quick": 2}),
    ],
)
async def test_none_waits_behind_a_job_of_a_slow_task(
    redis: Redis, order: tuple[str, ...], room: int, taken: dict[str, int]
) -> None:
    """Six entries of each task; slow ones do not wait, of quick ones 4 may, of quicker ones 8."""
    each = streams.streams_of(order)
    await consumer_group.make_groups(redis, each)
    await streams.add(redis, [(JobStream(task, 1), streams.durable_fields(7)) for task in order for _ in range(6)])
    ahead = {"slow": 0, "quick": 4, "quicker": 8}
    found = await consumer_group.take(redis, "worker", {task: TaskLimits() for task in order}, room, ahead=ahead)
    counts = {task: sum(entry.stream.task == task for entry in found.entries) for task in order}
    assert {task: count for task, count in counts.items() if count} == taken
    assert found.ahead == sum(taken.values()) - room


@pytest.mark.usefixtures("_known_at_once")
async def test_a_worker_with_one_slot_claims_and_ends_many_jobs_in_one_statement(
    queue: Queue,
    pool: Pool,
    redis: Redis,
    recorder: RecordingTask,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time, each once, in order."""
    counts = {"claim": 0, "end": 0}

    def counted(name: str) -> Callable[..., Awaitable[Any]]:
        real = getattr(jobs, name)

        async def count(*values: Any) -> Any:
            counts[name] += 1
            return await real(*values)

        return count

    for name in counts:
        monkeypatch.setattr(jobs, name, counted(name))
    task = Task(recorder.note)
    await queue.enqueue_many(task, [{"number": number} for number in range(200)])
    await start_worker(task, concurrency=1)
    await wait_until(lambda: no_jobs(pool), "all have ended")
    assert recorder.numbers == list(range(200))
    assert {attempt for _, attempt, _ in recorder.calls} == {1}
    assert recorder.most_running == 1
    assert max(counts.values()) < 50
    await wait_until(lambda: is_empty(redis, task), "no entry is left")


@pytest.mark.usefixtures("_known_at_once")
async def test_jobs_that_wait_for_a_run_that_has_become_slow_go_to_other_workers(
    queue: Queue,
    redis: Redis,
    start_worker: StartWorker,
    is_volatile: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it goes on; to have waited is no attempt."""
    monkeypatch.setattr(runner, "PUT_BACK_AFTER_S", 0.01)
    gated = Gated()
    task = Task(gated.run, is_volatile=is_volatile)
    await queue.enqueue_many(task, [{"number": number} for number in (1, FIRST, *range(2, 10))])
    await start_worker(task, concurrency=1)
    await gated.waits.wait()
    await start_worker(task, concurrency=1)
    await wait_until(lambda: len(gated.attempts) == 9, "the others have run")
    assert gated.attempts == {number: [1] for number in range(1, 10)}
    gated.gate.set()
    await wait_until(lambda: is_empty(redis, task), "no entry is left")


@pytest.mark.usefixtures("_known_at_once", "_quick_take_over")
async def test_jobs_that_wait_on_a_worker_that_dies_run_on_another(
    queue: Queue,
    redis: Redis,
    start_worker: StartWorker,
    is_volatile: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They count as begun once, as jobs do that their worker has claimed and not begun."""
    monkeypatch.setattr(runner, "PUT_BACK_AFTER_S", 60.0)
    gated = Gated()
    task = Task(gated.run, is_volatile=is_volatile)
    await queue.enqueue_many(task, [{"number": number} for number in (1, FIRST, *range(2, 10))])
    _, scope = await start_worker(task, concurrency=1)
    await gated.waits.wait()
    scope.cancel()
    gated.gate.set()
    await start_worker(task, concurrency=1)
    await wait_until(lambda: len(gated.attempts) == 9, "the others have run")
    assert gated.attempts == {1: [1], **{number: [2] for number in range(2, 10)}}
    await wait_until(lambda: is_empty(redis, task), "no entry is left")


@pytest.mark.usefixtures("_known_at_once")
async def test_a_job_that_is_cancelled_while_it_waits_on_a_worker_does_not_run(
    queue: Queue, redis: Redis, start_worker: StartWorker, is_volatile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = trio.Event()

    def stop(run: Run, reason: str) -> None:
        real(run, reason)
        if reason == "cancelled":
            told.set()

    real = Run.stop
    monkeypatch.setattr(Run, "stop", stop)
    monkeypatch.setattr(runner, "PUT_BACK_AFTER_S", 60.0)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    gated = Gated()
    task = Task(gated.run, is_volatile=is_volatile, keep_result_s=60)
    ids = await queue.enqueue_many(task, [{"number": number} for number in (1, FIRST, 2, 3)])
    await start_worker(task, concurrency=1)
    await gated.waits.wait()
    assert await queue.cancel(ids[2]) == "stopping"
    await told.wait()
    gated.gate.set()
    await wait_until(lambda: is_empty(redis, task), "no entry is left")
    assert sorted(gated.attempts) == [1, 3]
    assert (await queue.state(ids[2])).state == "cancelled"
