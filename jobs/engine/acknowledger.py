"""Writes the endings of runs in batches, to Postgres and then to Redis: a job leaves Redis only once it has left
Postgres, or is due there again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
import trio

from jobs.engine import consumer_group, streams, volatile
from jobs.engine.progress import result_commands
from jobs.engine.run import Run
from store import jobs
from store.batching.group_commit import Batcher
from store.errors import BadValue, StoreError
from store.jobs import RunEnd
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

RETRY_S: Final = 0.25
MAX_RETRY_S: Final = 2.0
"""Delays between attempts to write while Postgres cannot be reached."""


class Acknowledger:
    """Run `run` in a nursery.

    :param worker: the worker's id, which is in its claims.
    :param on_settled: called for each run once its ending is written, or cannot be.
    """

    def __init__(self, pool: Pool, redis: Redis, worker: str, on_settled: Callable[[Run], None]) -> None:
        self._pool = pool
        self._redis = redis
        self._worker = worker
        self._on_settled = on_settled
        self._durable = self._batcher("jobs that have ended", self._end_durable)
        self._volatile = self._batcher("volatile jobs that have ended", self._end_volatile)

    def _batcher(self, name: str, write: Callable[[list[Run]], Awaitable[None]]) -> Batcher[Run, None]:
        async def commit(runs: list[Run]) -> list[None]:
            await write([run for run in runs if run.ending is not None])
            return [None] * len(runs)

        def settle(runs: list[Run], _: list[None]) -> None:
            for run in runs:
                self._on_settled(run)

        return Batcher(name, commit, settle, lambda _: 1)

    def submit(self, run: Run) -> None:
        """Queue the ending of a run. Atomic (no checkpoint). The caller bounds the number of unsettled runs."""
        batcher = self._volatile if run.entry.durable is None else self._durable
        batcher.submit_nowait(run)

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._durable.run)
            nursery.start_soon(self._volatile.run)

    async def wait_idle(self) -> None:
        """Return once the endings of all submitted runs are settled."""
        await self._durable.wait_idle()
        await self._volatile.wait_idle()

    async def _end_durable(self, runs: list[Run]) -> None:
        ends = [
            RunEnd(run.entry.durable, run.version, run.ending)
            for run in runs
            if run.entry.durable is not None and run.ending is not None  # `_batcher` passes such runs alone
        ]
        if ends:
            await self._write_endings(ends)
        await self._finish(runs)

    async def _write_endings(self, ends: Sequence[RunEnd]) -> None:
        delay_s = RETRY_S
        while True:
            try:
                await jobs.end(self._pool, ends, self._worker)
            except BadValue as error:
                await self._one_by_one(ends, error)
                return
            except StoreError as error:
                log.warning("endings_not_written", jobs=len(ends), error=str(error), retry_in_s=delay_s)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RETRY_S)
            else:
                return

    async def _one_by_one(self, ends: Sequence[RunEnd], error: BadValue) -> None:
        """One of these endings has a value that Postgres refuses. Write the others; that job's claim expires, and it
        runs again."""
        if len(ends) == 1:
            log.error("ending_cannot_be_written", job=ends[0].id, error=str(error))
            return
        for each in ends:
            await self._write_endings([each])

    async def _end_volatile(self, runs: list[Run]) -> None:
        # Successful runs go first: their entries make room in a full Redis.
        good = ("done", "cancelled")
        await self._finish([run for run in runs if run.ending and run.ending.outcome in good])
        rest = [run for run in runs if run.ending and run.ending.outcome not in good]
        await self._finish([run for run in rest if await self._followed_up(run)])

    async def _followed_up(self, run: Run) -> bool:
        """Write the next run, or the dead job, of a run that did not succeed. If that fails, the entry stays pending,
        and a worker takes it over within seconds."""
        entry, ending = run.entry, run.ending
        assert ending is not None
        try:
            if ending.is_death:
                where = (entry.job, entry.stream.task, entry.payload, entry.stream.priority)
                attempts = run.attempt - (ending.outcome == "lost")
                await jobs.add_dead_volatile(self._pool, *where, attempts, ending)
            else:
                failed = run.attempt if ending.outcome == "retry" else run.attempt - 1
                fields = streams.volatile_fields(entry.job, entry.payload, failed, entry.key)
                await volatile.add_later(self._redis, entry.stream, fields, ending.delay_s)
        except StoreError as error:
            log.warning("ending_not_written", job=run.id, task=run.task.name, error=str(error))
            return False
        return True

    async def _finish(self, runs: Sequence[Run]) -> None:
        try:
            await self._redis.pipeline([command for run in runs for command in _closing_commands(run)])
            await consumer_group.finish(self._redis, [(run.entry.stream, run.entry.id) for run in runs])
        except StoreError as error:
            # A worker takes the entries over later: it finds durable jobs gone, and runs volatile ones again.
            log.warning("entries_not_finished", jobs=len(runs), error=str(error))


def _closing_commands(run: Run) -> list[tuple[Any, ...]]:
    """Commands that release the job's key and keep its result. If Redis refuses them, no promise is broken."""
    if run.ending is None or run.ending.outcome in ("retry", "snoozed"):
        return []
    commands: list[tuple[Any, ...]] = []
    if run.entry.key:
        commands.append(("DEL", volatile.key_name(run.task.name, run.entry.key)))
    if run.task.keep_result_s:
        outcome = "failed" if run.ending.is_death else run.ending.outcome
        commands += result_commands(run.id, outcome, run.attempt, run.result, kept_s=run.task.keep_result_s)
    return commands
