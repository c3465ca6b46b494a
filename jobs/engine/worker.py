"""The process `worker`: relays jobs from Postgres to Redis, fires schedules, takes jobs and runs them.

The nesting of nurseries is the order of shutdown: the worker first stops taking entries, then finishes its runs, then
leaves the consumer group.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
import trio

from jobs.engine import consumer_group
from jobs.engine.fetcher import Fetcher
from jobs.engine.heartbeat import beat_forever
from jobs.engine.metrics import Metrics
from jobs.engine.monitor import Monitor
from jobs.engine.relay import Relay
from jobs.engine.runner import Runner
from jobs.engine.scheduler import fire_forever
from jobs.engine.task import Task
from runtime.config import Config
from runtime.health import Health
from runtime.metrics.samples import Sample, Source
from runtime.metrics.store_samples import pool_samples, redis_samples
from runtime.process import tell_ready
from runtime.signals import watch_signals
from store.errors import StoreError
from store.postgres.migrate import wait_migrated
from store.postgres.pool import Pool
from store.postgres.statement_watch import StatementWatch
from store.redis.buses import JOBS
from store.redis.client import Redis
from store.redis.eviction import check_keeps_all, wait_keeps_all

log = structlog.get_logger(__name__)

DRAIN_S: Final = 15.0
"""For running jobs when the process is told to stop. Jobs that do not end in time go back, for another worker."""

PUT_BACK_S: Final = 3.0
"""For writing that jobs go back. After both, the worker waits for Postgres only while a cancelled query may end (2
s)."""

STOP_S: Final = 22.0
"""From being told to stop until the worker waits for nothing more. Process managers kill after 25 s."""


class Work(NamedTuple):
    """The work of a worker.

    :ivar tasks: by name.
    :ivar loops: run beside the jobs, until the worker is told to stop, when it cancels them.
    :ivar samples: the tasks' own metrics.
    """

    tasks: Mapping[str, Task]
    loops: Sequence[Callable[[], Awaitable[None]]] = ()
    samples: Source = tuple


class Worker:
    """One worker process.

    :param registry: opens the work, and what it needs, while the worker runs.
    :param id: of the process among the workers, 16 hexadecimal digits; empty: a new one.
    :ivar health: of the process.
    """

    def __init__(
        self,
        config: Config,
        registry: Callable[[Config, Pool], AbstractAsyncContextManager[Work]],
        id: str = "",
    ) -> None:
        self._config = config
        self._registry = registry
        self.id = id or os.urandom(8).hex()
        self._pool = Pool(
            config.database_url, config.database_pool, name=f"alo-worker-{self.id}", slow_s=config.slow_query_s
        )
        self._redis = Redis(config.jobs_url, JOBS)
        self.health = Health(
            {"Postgres": lambda: self._pool.fetch("select 1"), "Redis": partial(check_keeps_all, self._redis)}
        )
        self._sources: list[Source] = []
        self._terminated = trio.Event()

    def stop(self) -> None:
        """Finish the jobs that run, and end, as on SIGTERM."""
        self._terminated.set()

    def samples(self) -> Iterator[Sample]:
        """The metrics of the worker; those of its tasks once it knows them."""
        yield from pool_samples(self._pool)
        yield from redis_samples(self._redis, "jobs")
        for source in self._sources:
            yield from source()

    async def wait_ready(self) -> None:
        """Return once Redis is connected: the worker takes jobs."""
        await self._redis.wait_connected()

    async def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop`; jobs that run are finished first."""
        try:
            async with self._registry(self._config, self._pool) as work, trio.open_nursery() as services:
                await services.start(watch_signals, self._terminated, self.health, self._config.ready_grace_s)
                await services.start(self._redis.run)
                services.start_soon(wait_keeps_all, self._redis)
                services.start_soon(StatementWatch(self._pool).run)
                # Pool and Redis wait for their service by themselves; this one logs it from the start.
                services.start_soon(wait_migrated, self._pool)
                services.start_soon(self._pool.end_after, self._terminated, DRAIN_S + PUT_BACK_S)
                metrics = Metrics(work.tasks.values())
                self._sources = [metrics.samples, work.samples]
                await self._work(work, metrics)
                services.cancel_scope.cancel()
        finally:
            self._pool.close()
        log.info("stopped")

    async def _work(self, work: Work, metrics: Metrics) -> None:
        tasks, size = work.tasks, self._config.worker_concurrency
        runner = Runner(self._pool, self._redis, self.id, tasks, size, metrics)
        relay = Relay(self._pool, self._redis, tasks)
        monitor = Monitor(self._pool, self._redis, tasks, metrics)
        fetcher = Fetcher(self._redis, self.id, tasks, runner, monitor, relay.after_flush)
        async with trio.open_nursery() as acknowledging:
            await acknowledging.start(runner.run)
            acknowledging.start_soon(beat_forever, self._pool, self._redis, self.id, runner)
            async with trio.open_nursery() as taking:
                taking.start_soon(fetcher.run)
                async with trio.open_nursery() as relaying:
                    relaying.start_soon(relay.run)
                    relaying.start_soon(fire_forever, self._pool, tasks)
                    relaying.start_soon(monitor.run)
                    for loop in work.loops:
                        relaying.start_soon(loop)
                    log.info("working", worker=self.id, tasks=sorted(tasks), concurrency=size)
                    relaying.start_soon(self._tell_ready)
                    await self._terminated.wait()
                    relaying.cancel_scope.cancel()
                told_at = trio.current_time()
                # Redis may have assigned entries that have not begun: the worker runs these as well.
                fetcher.stop()
                deadline = told_at + DRAIN_S
                taking.cancel_scope.deadline = deadline
            await self._drain(runner, deadline)
            acknowledging.cancel_scope.cancel()
        await self._until(told_at + STOP_S, lambda: consumer_group.leave(self._redis, self.id, tasks))

    async def _tell_ready(self) -> None:
        await self.wait_ready()
        self.health.started()
        tell_ready(self._config)

    async def _drain(self, runner: Runner, deadline: float) -> None:
        with trio.move_on_at(deadline):
            await runner.wait_idle()
        runner.stop_all()
        await self._until(deadline + PUT_BACK_S, runner.wait_idle)

    async def _until(self, deadline: float, do: Callable[[], Awaitable[Any]]) -> None:
        with trio.move_on_at(deadline) as scope:
            try:
                await do()
            except StoreError as error:
                log.warning("worker_not_removed", error=str(error))
        if scope.cancelled_caught:
            log.warning("worker_not_removed", note="other workers take over the jobs that are left")
