"""Enqueuing jobs, and asking and saying what is to become of them.

A durable job is in Postgres from here on, and in Redis only to wake a worker; it can also be enqueued in SQL, in the
transaction of whatever it follows from: `select enqueue('TASK', PAYLOAD)`. A job of a task that is declared volatile is
in Redis alone: quicker, and gone with it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

MAX_BATCH: Final = 1000
"""Jobs of one transaction, or of one round trip to Redis."""

MAX_KEY: Final = 200
"""Characters of a key, as in the table."""

RECHECK_S: Final = 0.5
"""How often a stream that was full is asked whether it is still."""


class JobState(Struct, frozen=True):
    """What is known of a job.

    :ivar state: "waiting", "delayed", "running", "dead"; of one that has ended "done", "failed" or "cancelled" for as
        long as its result is kept, else "unknown". Of a volatile job only its progress and result are known.
    :ivar attempt: runs that were begun.
    :ivar progress: its last progress report.
    :ivar result: JSON.
    :ivar reason: why it is dead.
    """

    state: str
    attempt: int = 0
    progress: str = ""
    result: str = ""
    reason: str = ""


class Queue:
    """Where jobs are enqueued."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
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
        """Enqueue one job; its id. When this returns, a durable one is committed.

        :param key: if a job of the task waits under it already, there is still one only, with these arguments; if it
            runs, it will run once more. Of a volatile task nothing is enqueued while one waits or runs.
        :param max_wait_s: with a key: each call puts the job off to `delay_s` from now (debounce), for no longer than
            this in all. Durable tasks only.
        :param priority: "high", "normal" or "low".
        :raises BadPayload: if the arguments are not the task's, or they or the key cannot be kept.
        :raises Overloaded: if too many volatile jobs wait.
        :raises Unavailable: if Postgres (for a volatile one: Redis) cannot be reached: the outcome is unknown.
        :raises RedisError: if Redis takes no more volatile jobs.
        """
        if max_wait_s is not None and (task.is_volatile or not key):
            raise ValueError("max_wait_s is for durable tasks, and needs a key")
        if len(key) > MAX_KEY or "\0" in key:
            raise BadPayload(f"a key has at most {MAX_KEY} characters, and no NUL")
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
                raise BadPayload(f"not to be kept: {error}") from None
            if must_hand_in:
                await self._hand_in(stream, [job])
            return str(job)
        return (await self._enqueue_plain(stream, [payload], delay_s))[0]

    async def enqueue_many(
        self, task: Task, arguments: Sequence[dict[str, Any]], *, delay_s: float = 0, priority: str = "normal"
    ) -> list[str]:
        """Enqueue jobs of one task, in order; their ids. Durable ones are committed in transactions of `MAX_BATCH`.

        :raises BadPayload: if any of the arguments are not the task's; then nothing is enqueued. Otherwise as
            `enqueue`, of which some may have been enqueued.
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
        try:
            ids = await jobs.enqueue_plain(
                self._pool, stream.task, payloads, delay_s=delay_s, priority=stream.priority, is_handed=is_handed
            )
        except BadJob as error:
            raise BadPayload(f"not to be kept: {error}") from None
        if is_handed:
            await self._hand_in(stream, ids)
        return [str(each) for each in ids]

    async def _has_room(self, stream: JobStream, more: int) -> bool:
        """Whether durable jobs may go to Redis at once; else a worker hands them in when there is room."""
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

    async def _hand_in(self, stream: JobStream, ids: Sequence[int]) -> None:
        """They are committed: whatever becomes of this, they will run."""
        try:
            length = await streams.add_to(self._redis, stream, [streams.durable_fields(job) for job in ids])
            self._lengths[stream] = length, trio.current_time()
        except StoreError as error:
            log.warning("jobs_wait_in_postgres", task=stream.task, jobs=len(ids), error=str(error))
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                try:
                    await jobs.release(self._pool, ids)
                except StoreError as later:
                    log.warning("jobs_wait_for_their_lease", task=stream.task, error=str(later))

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
        await streams.add(self._redis, [(stream, each) for each in fields])
        return ids

    async def _check_room(self, stream: JobStream, more: int) -> None:
        length, at = self._lengths.get(stream, (0, 0.0))
        if at < trio.current_time() - RECHECK_S or length + more > streams.MAX_WAITING:
            [length] = await streams.lengths(self._redis, [stream])
        if length + more > streams.MAX_WAITING:
            raise Overloaded(stream.name, length)
        self._lengths[stream] = length + more, trio.current_time()

    async def cancel(self, job: str) -> str:
        """A job is not wanted any more: "cancelled" if it waited, "stopping" if it runs (or may run: a volatile one;
        it is not begun any more, and what runs of it stops within seconds), "unknown" if there is no such job.

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


def durable_number(job: str) -> int | None:
    """The number of a durable job; None if this is no such id."""
    return int(job) if job.isascii() and job.isdigit() and len(job) < 19 else None
