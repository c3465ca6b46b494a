"""The runs of one worker. Each is a Trio task; the runner holds it from the entry until the ending is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
import trio

from jobs.engine import consumer_group, progress, volatile
from jobs.engine.acknowledger import Acknowledger
from jobs.engine.job import Job
from jobs.engine.metrics import Metrics
from jobs.engine.pace import PUT_BACK_AFTER_S, TaskPace
from jobs.engine.run import Run
from jobs.engine.streams import JobEntry, JobStream
from jobs.engine.task import Task
from store import jobs
from store.errors import StoreError, Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

MAX_UNSETTLED: Final = 1000
"""Runs that have ended and are not settled; with more, the worker takes no entries."""

CLAIM_PAUSES_S: Final = (0.25, 0.25, 0.25)
"""After each failed attempt to claim: a deadlock is over by the next one. If Postgres cannot be reached, the runner
stops trying, so that volatile jobs, which do not need Postgres, go on."""


class Runner:
    """Runs jobs, at most `size` at a time. Run `run` in a nursery.

    :param tasks: by name.
    :param worker: its id.
    :ivar pace: says how many jobs of a task may be taken before there is room.
    """

    def __init__(
        self, pool: Pool, redis: Redis, worker: str, tasks: Mapping[str, Task], size: int, metrics: Metrics
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._worker = worker
        self._tasks = tasks
        self._size = size
        self._metrics = metrics
        self._acknowledger = Acknowledger(pool, redis, worker, self._settled)
        self._held: dict[tuple[JobStream, bytes], Run] = {}
        self.pace = TaskPace(tasks.values())
        self._ahead: deque[Run] = deque()
        """Runs that wait until others have ended; while some do, there is no room, so they were taken together."""
        self._ahead_since = 0.0
        self._are_ahead = trio.Event()
        self._running = 0
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._acknowledger.run)
            self._nursery.start_soon(self._put_back_late)
            task_status.started()
            await trio.sleep_forever()

    @property
    def held(self) -> list[Run]:
        """Runs that go on, wait for others, or are not settled. This worker sends heartbeats for them."""
        return list(self._held.values())

    @property
    def room(self) -> int:
        """How many more jobs may run now."""
        if len(self._held) - self._running >= MAX_UNSETTLED:
            return 0
        return self._size - self._running

    async def wait_room(self) -> int:
        """Return once there is room for at least one more job; the room."""
        while self.room <= 0:
            await self._changed.wait()
        return self.room

    async def wait_idle(self) -> None:
        """Return once no job runs and all endings are settled."""
        while self._held:
            await self._changed.wait()

    def stop_all(self) -> None:
        """Cancel all runs; other workers begin these jobs again."""
        for run in self.held:
            run.stop("stopped")

    async def begin(self, entries: Sequence[JobEntry], *, are_cancelled: bool) -> None:
        """Run the jobs of these entries, except those that have ended or that another worker runs. Those beyond the
        room wait until others have ended.

        :param are_cancelled: whether any volatile jobs are cancelled, these or others.

        Entries whose jobs cannot be claimed now stay pending; a worker takes them over later.
        """
        # After a missed heartbeat, the worker may take over entries that it holds itself.
        entries = [entry for entry in entries if (entry.stream, entry.id) not in self._held]
        durable = [entry for entry in entries if entry.durable is not None]
        volatile = [entry for entry in entries if entry.durable is None]
        if volatile:
            await self._begin_volatile(volatile, are_cancelled)
        if durable:
            await self._begin_durable(durable)

    async def _begin_volatile(self, entries: Sequence[JobEntry], are_cancelled: bool) -> None:
        unwanted: set[str] = set()
        try:
            if are_cancelled:
                unwanted = await volatile.cancelled_of(self._redis, [entry.job for entry in entries])
        except StoreError as error:
            # The jobs begin, and the next heartbeat stops the cancelled ones.
            log.warning("cancellations_not_read", error=str(error))
        for entry in entries:
            run = Run(self._tasks[entry.stream.task], entry, entry.payload, entry.attempt + 1)
            if entry.job in unwanted:
                run.stop("cancelled")
            self._hold(run)

    async def _begin_durable(self, entries: Sequence[JobEntry]) -> None:
        ids = list(dict.fromkeys(entry.durable for entry in entries if entry.durable is not None))
        claimed = await self._claim(ids)
        if claimed is None:
            return
        over = []
        for entry in entries:
            found = claimed.pop(entry.durable or 0, "gone")
            if not isinstance(found, str) and found.task in self._tasks:
                self._hold(Run(self._tasks[found.task], entry, found.payload, found.attempt, found.version))
                continue
            if not isinstance(found, str):
                log.error("task_unknown", job=found.id, task=found.task, entry=entry.stream.name)
            over.append((entry.stream, entry.id))
        if over:
            # These entries need no run here. The relay hands in again the jobs that have not ended.
            try:
                await consumer_group.finish(self._redis, over)
            except StoreError as error:
                log.warning("entries_not_finished", jobs=len(over), error=str(error))

    async def _claim(self, ids: Sequence[int]) -> dict[int, jobs.Claimed | str] | None:
        for pause_s in CLAIM_PAUSES_S:
            try:
                return await jobs.claim(self._pool, ids, self._worker)
            except StoreError as error:
                log.warning("jobs_not_claimed", jobs=len(ids), error=" ".join(str(error).split()))
                await trio.sleep(pause_s)
                if isinstance(error, Unavailable):
                    break
        return None

    def _hold(self, run: Run) -> None:
        """Start a run, or let it wait for others. Atomic (no checkpoint)."""
        self._held[run.entry.stream, run.entry.id] = run
        if self._running < self._size:
            self._start(run)
            return
        if not self._ahead:
            self._ahead_since = trio.current_time()
            self._are_ahead.set()
        self._ahead.append(run)

    async def _put_back_late(self) -> None:
        """Let other workers have the jobs that wait for a run that takes longer than its task's runs do."""
        while True:
            await self._are_ahead.wait()
            await trio.sleep(PUT_BACK_AFTER_S)
            if self._ahead and trio.current_time() >= self._ahead_since + PUT_BACK_AFTER_S:
                log.info("jobs_put_back", jobs=len(self._ahead))
                while self._ahead:
                    run = self._ahead.popleft()
                    run.stop("stopped")
                    self._start(run)  # It ends at once.
            if not self._ahead:
                self._are_ahead = trio.Event()

    def _start(self, run: Run) -> None:
        self._running += 1
        self._metrics.started(run)
        self._nursery.start_soon(self._run, run)

    async def _run(self, run: Run) -> None:
        structlog.contextvars.bind_contextvars(job=run.id, task=run.task.name, attempt=run.attempt)
        begun = trio.current_time()

        async def report(text: str) -> None:
            await self._report(run, text)

        await run.run(Job(run.id, run.task.name, run.attempt, report, run.version))
        self._running -= 1
        seconds = trio.current_time() - begun
        self._metrics.ended(run, seconds)
        if not run.stop_reason:
            self.pace.note(run.task.name, seconds)
        _log_end(run, seconds)
        self._acknowledger.submit(run)
        if self._ahead and self._running < self._size:
            self._start(self._ahead.popleft())
        self._wake()

    async def _report(self, run: Run, text: str) -> None:
        try:
            await progress.report(self._redis, run.id, text)
        except StoreError as error:
            log.warning("progress_not_kept", error=str(error))

    def _settled(self, run: Run) -> None:
        del self._held[run.entry.stream, run.entry.id]
        self._wake()

    def _wake(self) -> None:
        if self.room > 0 or not self._held:
            self._changed.set()
            self._changed = trio.Event()


def _log_end(run: Run, seconds: float) -> None:
    ending = run.ending
    if ending is None:
        log.warning("job_left_to_another_worker", run_s=round(seconds, 3))
    elif ending.is_death:
        log.error("job_dead", reason=ending.reason, traceback=ending.traceback)
    elif ending.outcome == "retry":
        log.warning("job_failed", reason=ending.reason, retry_in_s=round(ending.delay_s, 2), run_s=round(seconds, 3))
    else:
        log.debug("job_" + ending.outcome, run_s=round(seconds, 3))
