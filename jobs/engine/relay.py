"""The relay hands due jobs in from Postgres to Redis, and in Redis it promotes due volatile jobs to their streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from jobs.engine import streams, volatile
from jobs.engine.streams import JobStream
from jobs.engine.task import Task
from store import jobs
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5
"""How often to look for due jobs; a job may begin this much late. The relay wakes earlier for a known due time."""

FULL_S: Final = 0.05
"""How often to look while more jobs are due than Redis may hold."""


class Relay:
    """Run `run` in a nursery. Any number of workers may relay at the same time."""

    def __init__(self, pool: Pool, redis: Redis, tasks: Mapping[str, Task]) -> None:
        self._pool = pool
        self._redis = redis
        self._streams = streams.streams_of(tasks)
        self._tasks = list(tasks)
        self._clock_behind_s: float | None = None
        self._is_flushed = False
        self._is_refused = False

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hand_in_forever)
            nursery.start_soon(self._promote_forever)

    def after_flush(self) -> None:
        """Redis has lost its data: hand all jobs in again."""
        self._is_flushed = True

    async def _give_back_all(self) -> None:
        await jobs.release_all(self._pool)
        self._is_flushed = False

    async def _hand_in_forever(self) -> None:
        while True:
            wait_s = POLL_S
            try:
                # Relayed jobs are leased. Without Redis, the lease would only delay them once Redis is back.
                if self._redis.is_connected:
                    if self._is_flushed:
                        await self._give_back_all()
                    wait_s = await self._hand_in()
            except StoreError as error:
                log.warning("relay_waits", error=str(error))
            await trio.sleep(wait_s)

    async def _hand_in(self) -> float:
        """Hand in the due jobs for which Redis has room; returns in how many seconds to look again."""
        lengths = await streams.lengths(self._redis, self._streams)
        # After a refusal, try a single job for each stream first.
        most = streams.MAX_HANDED if not self._is_refused else 1
        rooms = [
            (stream.task, stream.priority, min(streams.MAX_HANDED - length, most))
            for stream, length in zip(self._streams, lengths, strict=True)
            if length < streams.MAX_HANDED
        ]
        due = await jobs.relay(self._pool, rooms)
        if due:
            await self._add(due)
            return 0 if len(rooms) == len(self._streams) else FULL_S
        now_ms, due_ms = await jobs.next_due(self._pool, self._tasks)
        await self._watch_clock(now_ms)
        if due_ms is None:
            return POLL_S
        # The next job is due already: Redis has no room for it, or another worker hands it in.
        return min(POLL_S, (due_ms - now_ms) / 1000) if due_ms > now_ms else FULL_S

    async def _add(self, due: list[jobs.Due]) -> None:
        entries = [(JobStream(job.task, job.priority), streams.durable_fields(job.id, job.waited_ms)) for job in due]
        self._is_refused = True
        try:
            await streams.add(self._redis, entries)
            self._is_refused = False
        except StoreError as error:
            log.error("jobs_wait_in_postgres", jobs=len(due), error=str(error))
            await jobs.release(self._pool, [job.id for job in due])
            await trio.sleep(POLL_S)

    async def _watch_clock(self, now_ms: int) -> None:
        behind_s = trio.current_time() - now_ms / 1000
        before_s, self._clock_behind_s = self._clock_behind_s, behind_s
        if before_s is None:
            # The clock may have gone back while no worker ran.
            await jobs.shorten_leases(self._pool)
        elif behind_s - before_s > jobs.CLOCK_SLACK_S:
            log.warning("clock_of_postgres_went_back", seconds=round(behind_s - before_s, 1))
            await jobs.shorten_leases(self._pool)

    async def _promote_forever(self) -> None:
        while True:
            wait_s: float | None = None
            try:
                if self._redis.is_connected:
                    wait_s = await volatile.promote(self._redis, self._streams)
            except StoreError as error:
                log.warning("volatile_jobs_wait", error=str(error))
            await trio.sleep(POLL_S if wait_s is None else min(POLL_S, wait_s))
