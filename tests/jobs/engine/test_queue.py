"""The queue as callers see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from jobs.engine import consumer_group, run, streams
from jobs.engine import worker as worker_module
from jobs.engine.consumer_group import GROUP
from jobs.engine.job import GiveUp, Job, Snooze
from jobs.engine.queue import Queue
from jobs.engine.streams import JobStream
from jobs.engine.task import Backoff, BadPayload, Task
from store import jobs
from store.errors import Overloaded
from store.postgres.driver import connected
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.jobs.jobs_world import RecordingTask, ended, no_jobs
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


@pytest.fixture(params=[False, True], ids=["durable", "volatile"])
def task(recorder: RecordingTask, request: pytest.FixtureRequest) -> Task:
    return Task(recorder.note, is_volatile=request.param, attempts=3, backoff=Backoff(0.02, 0.02), keep_result_s=60)


async def test_a_job_runs_once_with_its_arguments(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 7})
    assert await ended(queue, job) == "done"
    assert recorder.calls == [(job, 1, 7)]
    assert (await queue.state(job)).result == "7"


async def test_a_failed_run_is_followed_by_others_and_then_by_death(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
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
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.errors = [GiveUp("no such user")]
    await start_worker(task)
    await queue.enqueue(task, {"number": 1})

    async def dead() -> list[Any]:
        return await pool.fetch("select attempts, reason from dead_jobs")

    assert await wait_until(dead, "the job is dead") == [(1, "no such user")]


async def test_a_snoozed_run_does_not_count(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
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


@pytest.mark.parametrize(
    "what", ["\0", "a\\\0", "\ud800", "x" * 9000, float("nan"), object()], ids=lambda what: repr(what)[:12]
)
async def test_the_queue_refuses_a_payload_that_cannot_be_stored_with_bad_payload(
    queue: Queue, pool: Pool, what: Any
) -> None:
    async def take(job: Job, what: Any) -> None:
        pass

    for is_volatile in (False, True):
        if is_volatile and what != what:
            continue  # JSON has no such number, and writes null.
        task = Task(take, is_volatile=is_volatile)
        if what != what:
            await queue.enqueue(task, {"what": what})
            assert await pool.fetch("select payload from jobs") == [({"what": None},)]
            return
        with pytest.raises(BadPayload):
            await queue.enqueue(task, {"what": what})
        with pytest.raises(BadPayload):
            await queue.enqueue_many(task, [{"what": 1}, {"what": what}])
    assert await pool.fetch("select * from jobs") == []


async def test_the_queue_refuses_a_payload_that_only_postgres_refuses_with_bad_payload(
    queue: Queue, pool: Pool
) -> None:
    """A number in the notation that JSON allows and a column of numbers does not; a payload that grows in there."""

    async def take(job: Job, what: Any) -> None:
        pass

    task = Task(take)
    for what in ([1e300] * 1000, [1] * 7000):
        for key in ("", "key"):
            with pytest.raises(BadPayload, match=r"bytes|refuses"):
                await queue.enqueue(task, {"what": what}, key=key)
    with pytest.raises(BadPayload, match="refuses"):
        await queue.enqueue(task, {"what": [1e300] * 100})
    # As text it is half as long again in Postgres, which accepts it all the same.
    await queue.enqueue(task, {"what": [1] * 3900})
    assert await pool.fetch("select count(*) from jobs") == [(1,)]


@pytest.mark.parametrize("key", ["k" * 201, "\0"], ids=["long", "NUL"])
async def test_a_key_that_cannot_be_kept_is_refused_by_name(queue: Queue, task: Task, key: str) -> None:
    with pytest.raises(BadPayload, match="key"):
        await queue.enqueue(task, {"number": 1}, key=key)


async def test_higher_priorities_run_first(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    for number, priority in enumerate(["low", "normal", "high", "low", "normal", "high"]):
        await queue.enqueue(task, {"number": number}, priority=priority)
    await start_worker(task, concurrency=1)
    await recorder.wait_calls(6)
    assert recorder.numbers == [2, 5, 1, 4, 0, 3]


async def test_the_lowest_priority_is_not_held_up_for_ever(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    task = Task(recorder.note)
    await queue.enqueue(task, {"number": 1000}, priority="low")
    await queue.enqueue_many(task, [{"number": number} for number in range(40)], priority="high")
    await start_worker(task, concurrency=1)
    await recorder.wait_calls(41)
    assert 0 < recorder.numbers.index(1000) < 20


async def test_many_jobs_of_one_task_do_not_hold_up_those_of_another(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    flood, trickle = Task(recorder.note, name="flood"), Task(recorder.note, name="trickle")
    await queue.enqueue_many(flood, [{"number": number} for number in range(60)])
    await queue.enqueue_many(trickle, [{"number": number} for number in range(100, 105)])
    await start_worker(flood, trickle, concurrency=1)
    await recorder.wait_calls(65)
    assert max(recorder.numbers.index(number) for number in range(100, 105)) < 20


async def test_a_delayed_job_runs_when_its_time_has_come(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    await start_worker(task)
    began = trio.current_time()
    job = await queue.enqueue(task, {"number": 1}, delay_s=0.3)
    assert (await queue.state(job)).state == ("unknown" if task.is_volatile else "delayed")
    await recorder.wait_calls(1)
    # Postgres and Redis count in whole milliseconds.
    assert recorder.times[0] - began >= 0.298


async def test_a_delay_of_next_to_nothing_or_less_is_a_short_one(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    for number, delay_s in enumerate((-1, 0.0001)):
        for key in ("", f"k{number}"):
            await queue.enqueue(task, {"number": number}, key=key, delay_s=delay_s)
    await start_worker(task)
    await recorder.wait_calls(4)
    assert sorted(recorder.numbers) == [0, 0, 1, 1]


async def test_enqueued_in_order_they_begin_in_order(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    ids = await queue.enqueue_many(task, [{"number": number} for number in range(120)])
    assert len(set(ids)) == 120
    await start_worker(task, concurrency=1)
    calls = await recorder.wait_calls(120)
    assert calls == [(job, 1, number) for number, job in enumerate(ids)]


async def test_under_a_key_one_waits_at_a_time(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    """A durable one with the latest arguments; of a volatile task the first one stays as it is."""
    ids = [await queue.enqueue(task, {"number": number}, key="k") for number in (1, 2, 3)]
    assert len(set(ids)) == 1
    other = await queue.enqueue(task, {"number": 4}, key="other")
    await start_worker(task)
    assert [await ended(queue, job) for job in (ids[0], other)] == ["done", "done"]
    assert sorted(recorder.calls) == sorted([(ids[0], 1, 1 if task.is_volatile else 3), (other, 1, 4)])


async def test_a_job_with_the_key_of_a_running_job_runs_next_or_is_not_enqueued(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    """Is a durable job's next run; of a volatile task it is not enqueued, until that one has ended."""
    recorder.gate = trio.Event()
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 1}, key="k")
    await recorder.wait_calls(1)
    assert await queue.enqueue(task, {"number": 2}, key="k") == job
    assert await queue.enqueue(task, {"number": 3}, key="k") == job
    recorder.gate.set()
    assert await ended(queue, job) == "done"
    if not task.is_volatile:
        await wait_until(lambda: no_jobs(pool), "the second run has ended")
        assert recorder.calls == [(job, 1, 1), (job, 1, 3)]
        return
    assert recorder.calls == [(job, 1, 1)]
    again = await queue.enqueue(task, {"number": 4}, key="k")
    assert again != job
    assert await ended(queue, again) == "done"


async def test_a_key_is_not_held_by_what_could_not_be_enqueued(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(recorder.note, is_volatile=True, keep_result_s=60)
    with monkeypatch.context() as full:
        full.setattr(streams, "MAX_WAITING", 0)
        for delay_s in (0.0, 1.0):
            with pytest.raises(Overloaded):
                await queue.enqueue(task, {"number": 1}, key="k", delay_s=delay_s)
    await start_worker(task)
    assert await ended(queue, await queue.enqueue(task, {"number": 2}, key="k")) == "done"


async def test_debounce_puts_off_and_not_for_ever(queue: Queue, recorder: RecordingTask, pool: Pool) -> None:
    task = Task(recorder.note)
    due = "select extract(epoch from due - clock_timestamp())::float8, (payload->'number')::int from jobs"

    async def call(number: int) -> None:
        await queue.enqueue(task, {"number": number}, key="k", delay_s=10, max_wait_s=25)

    await call(1)
    await pool.fetch("update jobs set created = created - interval '9 s', due = due - interval '9 s'")
    await call(2)
    [(wait_s, number)] = await pool.fetch(due)
    assert (number, 9 < wait_s <= 10) == (2, True)
    await pool.fetch("update jobs set created = created - interval '9 s', due = due - interval '9 s'")
    await call(3)
    [(wait_s, number)] = await pool.fetch(due)
    assert (number, 6 < wait_s <= 7) == (3, True)
    with pytest.raises(ValueError, match="key"):
        await queue.enqueue(task, {"number": 4}, delay_s=1, max_wait_s=2)


async def test_a_job_cancelled_before_it_ran_does_not_begin(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    """Waiting or delayed; and its key is free again."""
    waiting = await queue.enqueue(task, {"number": 1}, key="k")
    delayed = await queue.enqueue(task, {"number": 2}, delay_s=0.1)
    for job in (waiting, delayed):
        assert await queue.cancel(job) == ("stopping" if task.is_volatile else "cancelled")
    last = await queue.enqueue(task, {"number": 3}, delay_s=0.3)
    await start_worker(task)
    assert await ended(queue, last) == "done"
    assert recorder.numbers == [3]
    again = await queue.enqueue(task, {"number": 4}, key="k")
    assert await ended(queue, again) == "done"


@pytest.mark.usefixtures("_quick_take_over")
async def test_job_cancelled_while_it_runs_is_stopped(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.gate = trio.Event()
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 1})
    await recorder.wait_calls(1)
    assert await queue.cancel(job) == "stopping"
    assert await ended(queue, job) == "cancelled"
    assert (recorder.running, await no_jobs(pool)) == (0, True)
    assert await queue.cancel(job) == ("stopping" if task.is_volatile else "unknown")
    for unknown in ("", "x", "-1", "9" * 30):
        assert await queue.cancel(unknown) == "unknown"


@pytest.mark.usefixtures("_quick_take_over")
async def test_job_enqueued_after_a_cancel_runs(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, pool: Pool
) -> None:
    """Under the same key, while the cancelled run goes on: by enqueuing, or by the tick of a schedule."""
    task = Task(recorder.note, keep_result_s=60)
    recorder.gate = trio.Event()
    await start_worker(task)
    job = await queue.enqueue(task, {"number": 1}, key="k")
    await recorder.wait_calls(1)
    await pool.fetch("update jobs set is_cancelled = true")
    await queue.enqueue(task, {"number": 2}, key="k")
    recorder.gate.set()
    calls = await recorder.wait_calls(2)
    assert calls[1] == (job, 1, 2)
    await wait_until(lambda: no_jobs(pool), "it has ended")


async def test_progress_can_be_asked_for_and_results_are_kept_for_their_time(
    queue: Queue, redis: Redis, start_worker: StartWorker
) -> None:
    gate = trio.Event()

    async def work(job: Job) -> dict[str, int]:
        await job.report("3 of 12 \ud800" + "." * 500)
        await gate.wait()
        return {"found": 12}

    for task in (Task(work, keep_result_s=0.4), Task(work, name="other", keep_result_s=0.4, is_volatile=True)):
        gate = trio.Event()
        _, scope = await start_worker(task)
        job = await queue.enqueue(task, {})

        async def progress() -> str:
            return (await queue.state(job)).progress  # noqa: B023

        assert (await wait_until(progress, "progress is reported"))[:9] == "3 of 12 ?"
        gate.set()
        assert await ended(queue, job) == "done"
        state = await queue.state(job)
        assert (state.result, state.attempt, len(state.progress)) == ('{"found":12}', 1, 200)

        async def forgotten() -> bool:
            return (await queue.state(job)).state == "unknown"  # noqa: B023

        await wait_until(forgotten, "the result's time is over")
        scope.cancel()


async def test_a_run_that_takes_too_long_is_a_failed_attempt(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.gate = trio.Event()
    task = Task(recorder.note, attempts=2, timeout_s=0.05, backoff=Backoff(0.01, 0.01))
    await start_worker(task)
    await queue.enqueue(task, {"number": 1})
    [(attempts, reason)] = await wait_until(lambda: the_dead(pool), "the job is dead")
    assert (attempts, reason, recorder.running) == (2, "not done within 0.05 s", 0)


async def the_dead(pool: Pool) -> list[Any]:
    return await pool.fetch("select attempts, reason from dead_jobs")


async def test_jobs_of_a_paused_task_wait_also_for_a_worker_that_has_just_started(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    other = Task(recorder.note, name="other", keep_result_s=60)
    await jobs.pause(pool, "note")
    job = await queue.enqueue(task, {"number": 1})
    await start_worker(task, other)
    for number in (2, 3):
        assert await ended(queue, await queue.enqueue(other, {"number": number})) == "done"
    assert recorder.numbers == [2, 3]
    await jobs.resume(pool, "note")
    assert await ended(queue, job) == "done"


@pytest.mark.usefixtures("_quick_take_over")
async def test_a_dead_workers_job_of_a_paused_task_waits_too(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool, redis: Redis
) -> None:
    each = JobStream("note", 1)
    await consumer_group.make_groups(redis, [each])
    job = await queue.enqueue(task, {"number": 1})
    await redis.call("XREADGROUP", "GROUP", GROUP, "dead", "STREAMS", each.name, ">")
    await jobs.pause(pool, "note")
    other = Task(recorder.note, name="other", keep_result_s=60)
    await start_worker(task, other)
    assert await ended(queue, await queue.enqueue(other, {"number": 2}, delay_s=1)) == "done"
    assert recorder.numbers == [2]
    await jobs.resume(pool, "note")
    assert await ended(queue, job) == "done"


async def test_no_more_jobs_of_a_task_run_at_a_time_than_it_allows_over_all_workers(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    limited = Task(recorder.pause, name="limited", is_volatile=task.is_volatile, concurrency=2)
    for _ in range(2):
        await start_worker(limited)
    await queue.enqueue_many(limited, [{"number": number} for number in range(12)])
    await recorder.wait_calls(12)
    assert recorder.most_running == 2


async def test_no_more_jobs_of_a_task_begin_in_a_time_than_it_allows_over_all_workers(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    limited = Task(recorder.note, name="limited", is_volatile=task.is_volatile, rate=(4, 0.5))
    await queue.enqueue_many(limited, [{"number": number} for number in range(9)])
    before = trio.current_time()
    for _ in range(2):
        await start_worker(limited)
    calls = await recorder.wait_calls(9)
    assert len(calls) == 9
    assert recorder.times[4] - before >= 0.5
    assert recorder.times[8] - before >= 1.0


async def test_a_worker_that_is_told_to_stop_finishes_what_runs_and_begins_nothing(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    recorder.gate = trio.Event()
    worker, _ = await start_worker(task, concurrency=1)
    first, second = await queue.enqueue_many(task, [{"number": 1}, {"number": 2}])
    await recorder.wait_calls(1)
    worker.stop()
    await trio.testing.wait_all_tasks_blocked(0.01)
    recorder.gate.set()
    assert await ended(queue, first) == "done"
    recorder.gate = None
    await start_worker(task)
    assert await ended(queue, second) == "done"
    assert recorder.calls == [(first, 1, 1), (second, 1, 2)]


async def test_a_job_that_outlives_the_drain_is_put_back_uncounted_and_begins_elsewhere_at_once(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_S", 0.1)
    recorder.gate = trio.Event()
    worker, _ = await start_worker(task)
    job = await queue.enqueue(task, {"number": 1})
    await recorder.wait_calls(1)
    await start_worker(task)
    stopped_at = trio.current_time()
    worker.stop()
    await recorder.wait_calls(2)
    # Long before any lease ends.
    assert trio.current_time() - stopped_at < 4
    recorder.gate.set()
    assert await ended(queue, job) == "done"
    assert recorder.calls == [(job, 1, 1), (job, 1, 1)]


async def test_an_exception_from_a_job_that_the_worker_stops_does_not_count_as_a_failure(
    queue: Queue, start_worker: StartWorker, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DRAIN_S", 0.05)
    attempts: list[int] = []
    started = trio.Event()

    async def work(job: Job) -> None:
        attempts.append(job.attempt)
        if len(attempts) > 1:
            return
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the middle of something")

    task = Task(work, attempts=1)
    worker, _ = await start_worker(task)
    await queue.enqueue(task, {})
    await started.wait()
    worker.stop()
    await start_worker(task)
    await wait_until(lambda: no_jobs(pool), "it has run elsewhere")
    assert attempts == [1, 1]
    assert await the_dead(pool) == []


async def test_job_enqueued_in_a_transaction_runs_if_that_commits(
    recorder: RecordingTask, start_worker: StartWorker, pool: Pool
) -> None:
    await start_worker(Task(recorder.note))
    async with connected(pool.url) as connection:
        for number, end in enumerate(["rollback", "commit", "rollback", "commit"]):
            await connection.query("begin")
            await connection.query("select enqueue('note', jsonb_build_object('number', %s::int))", (number,))
            await connection.query(end)
    await recorder.wait_calls(2)
    await wait_until(lambda: no_jobs(pool), "all have ended")
    assert recorder.numbers == [1, 3]


async def test_replayed_dead_job_begins_again(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, pool: Pool
) -> None:
    recorder.errors = [GiveUp("no")]
    await start_worker(task)
    await queue.enqueue(task, {"number": 7}, key="k")
    await wait_until(lambda: the_dead(pool), "the job is dead")
    assert await jobs.replay(pool, limit=10) == 1
    calls = await recorder.wait_calls(2)
    assert calls[1][1:] == (1, 7)
    await wait_until(lambda: no_jobs(pool), "it has ended")
    assert await the_dead(pool) == []


async def test_jobs_of_a_task_that_no_worker_knows_wait_and_hold_up_no_others(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, pool: Pool
) -> None:
    known, newer = Task(recorder.note, keep_result_s=60), Task(recorder.note, name="newer", keep_result_s=60)
    waiting = [await queue.enqueue(newer, {"number": 1}), await queue.enqueue(newer, {"number": 2}, delay_s=0.01)]
    await start_worker(known)
    assert await ended(queue, await queue.enqueue(known, {"number": 3})) == "done"
    assert recorder.numbers == [3]
    await start_worker(newer)
    assert [await ended(queue, job) for job in waiting] == ["done", "done"]


@pytest.mark.usefixtures("_quick_take_over")
async def test_bad_payloads_go_to_the_dead_with_their_reason(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, pool: Pool, redis: Redis
) -> None:
    """Payloads that SQL enqueued unchecked, and volatile entries that are not JSON or not text."""
    durable = Task(recorder.note, keep_result_s=60)
    volatile = Task(recorder.note, name="other", is_volatile=True, keep_result_s=60)
    await pool.fetch("select enqueue('note', '{\"number\": \"x\"}'), enqueue('note', '{}')")
    bad = (b"{", b"\0\xff", b"[1]", b'{"number": "\\u0000"}', b"")
    for number, payload in enumerate(bad):
        await redis.call("XADD", JobStream("other", 1).name, "*", "v", f"\0{number}", "p", payload)
    await start_worker(durable, volatile)
    for task in (durable, volatile):
        assert await ended(queue, await queue.enqueue(task, {"number": 1})) == "done"

    async def all_dead() -> bool:
        return len(await the_dead(pool)) == 2 + len(bad)

    await wait_until(all_dead, "all of them are dead")
    assert {reason.partition(":")[0] for _, reason in await the_dead(pool)} == {
        "the arguments do not fit note",
        "the arguments do not fit other",
    }
    unread = await pool.fetch("select payload->>'unreadable' from dead_jobs where task = 'other' order by id")
    assert sorted(str(text) for (text,) in unread) == sorted(["{", "\\0\\xff", "None", '{"number": "\\u0000"}', ""])
    assert recorder.numbers == [1, 1]


async def test_a_second_entry_of_a_job_that_has_failed_does_not_shorten_its_wait(
    queue: Queue, recorder: RecordingTask, start_worker: StartWorker, pool: Pool, redis: Redis
) -> None:
    """The relay hands jobs in again whose entries wait for longer than their lease."""
    task = Task(recorder.note, backoff=Backoff(60, 60), keep_result_s=60)
    recorder.errors = [ValueError("no")]
    job = await queue.enqueue(task, {"number": 1})
    await streams.add(redis, [(JobStream("note", 1), streams.durable_fields(int(job)))] * 3)
    await start_worker(task, concurrency=1)
    last = await queue.enqueue(task, {"number": 2})
    assert await ended(queue, last) == "done"
    assert recorder.numbers == [1, 2]
    assert (await queue.state(job)).attempt == 1


class Mean(Exception):
    def __str__(self) -> str:
        raise ValueError("not to be had")


@pytest.mark.parametrize(
    "error", [Snooze(float("inf")), Snooze(float("nan")), Snooze(-1), Mean(), ExceptionGroup("g", [Mean()])], ids=repr
)
async def test_the_worker_survives_any_exception_of_a_handler(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker, error: Exception
) -> None:
    recorder.errors = [error]
    await start_worker(task)
    await queue.enqueue(task, {"number": 1})
    await recorder.wait_calls(1)
    last = await queue.enqueue(task, {"number": 2})
    assert await ended(queue, last) == "done"


async def test_a_back_off_without_end_is_one_that_can_be_written(
    queue: Queue, recorder: RecordingTask, task: Task, start_worker: StartWorker
) -> None:
    endless = Task(
        recorder.note, name="endless", is_volatile=task.is_volatile, backoff=Backoff(1e300, float("inf")), attempts=3
    )
    recorder.errors = [ValueError("no")]
    await start_worker(endless, task)
    await queue.enqueue(endless, {"number": 1})
    await recorder.wait_calls(1)
    assert await ended(queue, await queue.enqueue(task, {"number": 2})) == "done"


async def test_an_ending_that_cannot_be_written_does_not_keep_others_from_being_written(
    queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    log_output: list[dict[str, Any]],
) -> None:
    """Delays of handlers are bounded; this one is not, and lies beyond the dates of Postgres."""
    monkeypatch.setattr(run, "MAX_DELAY_S", 1e13)
    task = Task(recorder.note, keep_result_s=60)
    recorder.errors = [Snooze(1e13)]
    recorder.gate = trio.Event()
    await start_worker(task)
    jobs = await queue.enqueue_many(task, [{"number": number} for number in range(5)])
    await recorder.wait_calls(5)
    recorder.gate.set()

    async def others_done() -> bool:
        return [(await queue.state(job)).state for job in jobs].count("done") == 4

    await wait_until(others_done, "the others are done")
    [unwritten] = {line["job"] for line in log_output if line["event"] == "ending_cannot_be_written"}
    assert (await queue.state(str(unwritten))).state == "running"
