"""Enqueues and cancels jobs, and reads their state.

A durable job is a row in Postgres; its entry in Redis only wakes a worker. SQL can enqueue one too, in the transaction
that causes it: `select enqueue('TASK', PAYLOAD)`. A job of a volatile task is in Redis alone: faster, and lost with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
import trio
from msgspec import Struct

from jobs.engine import streams, volatile
from jobs.engine.progress import fields_of
from jobs.engine.streams import PRIORITIES, JobStream
from jobs.engine.task import BadPayload, Task
from store import jobs
from store.errors import BadJob, Overloaded, StoreError
from store.jobs import NewJob
from store.postgres.pool import Pool
from store.postgres.shared import SharedTrips
from store.redis.client import Redis

log = structlog.get_logger(__name__)

MAX_BATCH: Final = 1000
"""Jobs in one transaction, or in one round trip to Redis."""

MAX_KEY: Final = 200
"""Characters of a key, as in the table."""

MAX_WAITING: Final = 1024
"""Calls that wait for the transaction of those before them; the next gets `Overloaded`. Some 50 ms of work."""

RECHECK_S: Final = 0.5
"""How often to ask again for the length of a stream that was full."""


class JobState(Struct, frozen=True):
    """The state of a job.

    :ivar state: "waiting", "delayed", "running" or "dead"; once the job has ended, "done", "failed" or "cancelled"
        while its result is kept, then "unknown". A volatile job is "unknown" until it has ended.
    :ivar attempt: runs that have begun.
    :ivar progress: the last progress report.
    :ivar result: JSON.
    :ivar reason: why the job is dead.
    """

    state: str
    attempt: int = 0
    progress: str = ""
    result: str = ""
    reason: str = ""


class Queue:
    """Enqueues jobs to Postgres and Redis. Calls at the same time share transactions and round trips."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self._trips: SharedTrips[NewJob, int] = SharedTrips(
            "jobs to enqueue", self._enqueue_taken, most=1, most_items=MAX_BATCH, most_waiting=MAX_WAITING
        )
        self._lengths: dict[JobStream, tuple[int, float]] = {}

    async def enqueue(
        self,
        task: Task,
        arguments: dict[str, Any],
        *,
        key: str = "",
        delay_s: float = 0,
        max_wait_s: float | None = None,
        priority: str = "normal",
    ) -> str:
        """Enqueue one job; returns its id. A durable job is committed by then.

        :param key: at most one job of the task waits under a key. If one waits, it gets these arguments; if it runs, it
            runs again afterwards. For a volatile task, nothing is enqueued while a job waits or runs under the key.
        :param max_wait_s: with a key: each call puts the job off to `delay_s` from now (debounce), by at most this in
            total. Durable tasks only.
        :param priority: "high", "normal" or "low".
        :raises BadPayload: if the arguments do not fit the task, or they or the key cannot be stored.
        :raises Overloaded: if too many volatile jobs wait, or too many calls.
        :raises Unavailable: if Postgres (for a volatile job: Redis) cannot be reached: the outcome is unknown.
        :raises RedisError: if Redis refuses a volatile job.
        """
        if max_wait_s is not None and (task.is_volatile or not key):
            raise ValueError("max_wait_s needs a key, and a task that is not volatile")
        if len(key) > MAX_KEY or "\0" in key:
            raise BadPayload(f"a key must be at most {MAX_KEY} characters, without NUL")
        payload, delay_s = task.encode(arguments), max(0.0, delay_s)
        stream = JobStream(task.name, PRIORITIES[priority])
        if task.is_volatile:
            return await self._enqueue_volatile(stream, payload, key, delay_s)
        if key:
            is_handed = not delay_s and await self._has_room(stream, 1)
            try:
                job, must_hand_in = await jobs.enqueue(
                    self._pool,
                    task.name,
                    payload,
                    key=key,
                    delay_s=delay_s,
                    max_wait_s=max_wait_s,
                    priority=stream.priority,
                    is_handed=is_handed,
                )
            except BadJob as error:
                raise _refused(error) from None
            if must_hand_in:
                await self._hand_in([(stream, job)])
            return str(job)
        return str(await self._trips.request(await self._new_job(stream, payload, delay_s)))

    async def enqueue_many(
        self, task: Task, arguments: Sequence[dict[str, Any]], *, delay_s: float = 0, priority: str = "normal"
    ) -> list[str]:
        """Enqueue jobs of one task, in order; returns their ids. Durable jobs are committed in transactions of
        `MAX_BATCH`.

        :raises BadPayload: if any of the arguments do not fit the task; then no job is enqueued. After the other errors
            of `enqueue`, some jobs may have been enqueued.
        """
        payloads = [task.encode(each) for each in arguments]
        stream = JobStream(task.name, PRIORITIES[priority])
        ids: list[str] = []
        for at in range(0, len(payloads), MAX_BATCH):
            batch = payloads[at : at + MAX_BATCH]
            if not task.is_volatile:
                ids += await self._enqueue_plain(stream, batch, delay_s)
            elif delay_s:
                ids += [await self._enqueue_volatile(stream, payload, "", delay_s) for payload in batch]
            else:
                ids += await self._add_volatile(stream, batch)
        return ids

    async def _enqueue_plain(self, stream: JobStream, payloads: Sequence[bytes], delay_s: float) -> list[str]:
        is_handed = not delay_s and await self._has_room(stream, len(payloads))
        new = [NewJob(stream.task, payload, stream.priority, delay_s, is_handed) for payload in payloads]
        try:
            ids = await jobs.enqueue_plain(self._pool, new)
        except BadJob as error:
            raise _refused(error) from None
        if is_handed:
            await self._hand_in([(stream, job) for job in ids])
        return [str(each) for each in ids]

    async def _new_job(self, stream: JobStream, payload: bytes, delay_s: float) -> NewJob:
        is_handed = not delay_s and await self._has_room(stream, 1)
        return NewJob(stream.task, payload, stream.priority, delay_s, is_handed)

    async def _enqueue_taken(self, take: Callable[[], list[NewJob]]) -> list[int | Exception]:
        """Enqueue the jobs of several calls in one transaction."""
        # The tasks that the last transaction has answered go on first: their next jobs share this one.
        await trio.lowlevel.checkpoint()
        new: list[NewJob] = []

        def taken() -> list[NewJob]:
            new.extend(take())
            return new

        outcomes: list[int | Exception]
        try:
            outcomes = list(await jobs.enqueue_taken(self._pool, taken))
        except BadJob as error:
            outcomes = [_refused(error)] if len(new) == 1 else await self._one_by_one(new)
        # Cancelling the one call that enqueues for all must not leave the others without an answer.
        with trio.CancelScope(shield=True):
            handed = [
                (JobStream(job.task, job.priority), outcome)
                for job, outcome in zip(new, outcomes, strict=True)
                if job.is_handed and isinstance(outcome, int)
            ]
            if handed:
                await self._hand_in(handed)
        return outcomes

    async def _one_by_one(self, new: Sequence[NewJob]) -> list[int | Exception]:
        """Postgres refuses at least one of these jobs, and takes the others."""
        outcomes: list[int | Exception] = []
        with trio.CancelScope(shield=True):
            for each in new:
                try:
                    outcomes += await jobs.enqueue_plain(self._pool, [each])
                except BadJob as error:
                    outcomes.append(_refused(error))
                except StoreError as error:
                    outcomes.append(error)
        return outcomes

    async def _has_room(self, stream: JobStream, more: int) -> bool:
        """Whether durable jobs may go to Redis at once; if not, a worker hands them in when there is room."""
        if not self._redis.is_connected:
            return False
        length, at = self._lengths.get(stream, (0, 0.0))
        if length + more > streams.MAX_HANDED:
            if trio.current_time() - at < RECHECK_S:
                return False
            try:
                [length] = await streams.lengths(self._redis, [stream])
            except StoreError:
                return False
            self._lengths[stream] = length, trio.current_time()
        return length + more <= streams.MAX_HANDED

    async def _hand_in(self, committed: Sequence[tuple[JobStream, int]]) -> None:
        """Hand in jobs that are committed. If this fails, a worker hands them in."""
        entries = [(stream, streams.durable_fields(job)) for stream, job in committed]
        try:
            self._note_lengths(await streams.add_and_count(self._redis, entries))
        except StoreError as error:
            tasks = sorted({stream.task for stream, _ in committed})
            log.warning("jobs_wait_in_postgres", tasks=tasks, jobs=len(committed), error=str(error))
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                try:
                    await jobs.release(self._pool, [job for _, job in committed])
                except StoreError as later:
                    log.warning("jobs_wait_for_their_lease", tasks=tasks, error=str(later))

    def _note_lengths(self, lengths: Mapping[JobStream, int]) -> None:
        now = trio.current_time()
        self._lengths.update((stream, (length, now)) for stream, length in lengths.items())

    async def _enqueue_volatile(self, stream: JobStream, payload: bytes, key: str, delay_s: float) -> str:
        if not key and not delay_s:
            return (await self._add_volatile(stream, [payload]))[0]
        job = volatile.new_id()
        fields = streams.volatile_fields(job, payload, 0, key)
        if key:
            held_s = round(volatile.KEY_S + delay_s)
            return await volatile.add_keyed(
                self._redis, volatile.key_name(stream.task, key), held_s, stream, fields, delay_s
            )
        await volatile.add_later(self._redis, stream, fields, delay_s)
        return job

    async def _add_volatile(self, stream: JobStream, payloads: Sequence[bytes]) -> list[str]:
        ids = [volatile.new_id() for _ in payloads]
        await self._check_room(stream, len(ids))
        fields = [streams.volatile_fields(job, payload) for job, payload in zip(ids, payloads, strict=True)]
        self._note_lengths(await streams.add_and_count(self._redis, [(stream, each) for each in fields]))
        return ids

    async def _check_room(self, stream: JobStream, more: int) -> None:
        length, at = self._lengths.get(stream, (0, 0.0))
        if length + more > streams.MAX_WAITING and at < trio.current_time() - RECHECK_S:
            [length] = await streams.lengths(self._redis, [stream])
        if length + more > streams.MAX_WAITING:
            raise Overloaded(stream.name, length)
        self._lengths[stream] = length + more, trio.current_time()

    async def cancel(self, job: str) -> str:
        """Cancel a job: "cancelled" if it waited, "stopping" if it runs, "unknown" if there is no such job. A volatile
        job is always "stopping": it does not begin, or its run stops within seconds.

        :raises Unavailable: if Postgres or Redis cannot be reached.
        """
        if (number := durable_number(job)) is not None:
            return await jobs.cancel(self._pool, number) or "unknown"
        if not volatile.is_id(job):
            return "unknown"
        await volatile.cancel(self._redis, job)
        return "stopping"

    async def state(self, job: str) -> JobState:
        """
        :raises Unavailable: if Postgres or Redis cannot be reached.
        """
        fields = await fields_of(self._redis, job)
        progress, result = fields.get("progress", ""), fields.get("result", "")
        number = durable_number(job)
        found = await jobs.state(self._pool, number) if number is not None else None
        if found is not None:
            state, attempt, reason = found
            return JobState(state, attempt, progress, result, reason or "")
        return JobState(fields.get("outcome", "unknown"), int(fields.get("attempt", 0)), progress, result)


def _refused(error: BadJob) -> BadPayload:
    return BadPayload(f"Postgres refuses the job: {error}")


def durable_number(job: str) -> int | None:
    """The number of a durable job; None if the id is not that of a durable job."""
    return int(job) if job.isascii() and job.isdigit() and len(job) < 19 else None
