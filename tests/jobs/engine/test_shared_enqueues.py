"""Calls that enqueue at the same time share a transaction, and nothing else."""

from __future__ import annotations

from typing import Any

import trio

from jobs.engine.job import Job
from jobs.engine.queue import Queue
from jobs.engine.streams import JobStream
from jobs.engine.task import BadPayload, Task
from store.postgres.pool import Pool
from store.redis.client import Redis


async def take(job: Job, what: Any) -> None:
    """A task for any argument."""


TASKS = [Task(take, name="one"), Task(take, name="other")]
UNSTORABLE = [1e300] * 100
"""Only Postgres refuses it: its text is too long there."""


async def enqueue_at_once(queue: Queue, whats: list[Any]) -> list[str | BadPayload]:
    """Enqueue a job of each argument, with the tasks in turn, all in calls of their own at the same time."""
    outcomes: list[str | BadPayload] = [""] * len(whats)

    async def enqueue(number: int) -> None:
        try:
            priority = "high" if number % 3 else "normal"
            outcomes[number] = await queue.enqueue(TASKS[number % 2], {"what": whats[number]}, priority=priority)
        except BadPayload as error:
            outcomes[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(len(whats)):
            nursery.start_soon(enqueue, number)
    return outcomes


async def test_calls_at_the_same_time_share_a_transaction(queue: Queue, pool: Pool, redis: Redis) -> None:
    """Each gets the id of its own job, and each job is handed to the stream of its task and priority."""
    before = pool.query_seconds["jobs.enqueue_plain"].count
    ids = await enqueue_at_once(queue, list(range(40)))
    assert pool.query_seconds["jobs.enqueue_plain"].count - before <= 2
    rows = await pool.fetch("select id::text, task, priority, payload -> 'what', is_handed from jobs")
    assert sorted(rows) == sorted(
        (job, TASKS[number % 2].name, 0 if number % 3 else 1, number, True) for number, job in enumerate(ids)
    )
    for task in TASKS:
        for priority in (0, 1):
            entries = await redis.call("XRANGE", JobStream(task.name, priority).name, "-", "+")
            handed = {fields[1].decode() for _, fields in entries}
            assert handed == {row[0] for row in rows if row[1:3] == (task.name, priority)}


async def test_a_job_that_postgres_refuses_fails_its_own_call_alone(queue: Queue, pool: Pool) -> None:
    outcomes = await enqueue_at_once(queue, [0, UNSTORABLE, 2, 3])
    assert isinstance(outcomes[1], BadPayload)
    rows = await pool.fetch("select id::text, payload -> 'what' from jobs")
    assert sorted(rows) == sorted((outcomes[number], number) for number in (0, 2, 3))


async def test_a_cancelled_call_takes_no_answer_from_those_that_share_its_transaction(queue: Queue, pool: Pool) -> None:
    """The first call writes for all; it is cancelled when it has begun to."""
    others: list[str] = []

    async def cancel(scope: trio.CancelScope) -> None:
        scope.cancel()

    async def enqueue(number: int) -> None:
        others.append(await queue.enqueue(TASKS[0], {"what": number}))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            for number in range(3):
                nursery.start_soon(enqueue, number)
            nursery.start_soon(cancel, first)
            await queue.enqueue(TASKS[0], {"what": 99})
    assert len(set(others)) == 3
    rows = {row[0] for row in await pool.fetch("select id::text from jobs")}
    assert set(others) <= rows
