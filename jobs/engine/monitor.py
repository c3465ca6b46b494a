"""Reads what all workers share: which tasks are paused, and, for the metrics, how many jobs there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog
import trio

from jobs.engine import streams
from jobs.engine.metrics import Metrics
from store import jobs
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""How often to ask which tasks are paused; a pause may take effect this much late."""

COUNT_S: Final = 15.0
"""How often to count jobs; Prometheus fetches metrics about as often."""


class Monitor:
    """Run `run` in a nursery.

    :ivar paused: the paused tasks by the last answer of Postgres.
    """

    def __init__(self, pool: Pool, redis: Redis, tasks: Iterable[str], metrics: Metrics) -> None:
        self._pool = pool
        self._redis = redis
        self._tasks = list(tasks)
        self._metrics = metrics
        self.paused: set[str] = set()
        self._known = trio.Event()

    async def wait_known(self) -> None:
        """Return once the paused tasks are known: a worker that starts must not begin their jobs."""
        await self._known.wait()

    async def run(self) -> None:
        """Run until cancelled."""
        count_at = 0.0
        while True:
            try:
                self.paused = await jobs.paused_tasks(self._pool)
                self._known.set()
                if trio.current_time() >= count_at:
                    count_at = trio.current_time() + COUNT_S
                    self._metrics.update(await jobs.task_statuses(self._pool), await self._count_entries())
            except StoreError as error:
                log.warning("jobs_not_counted", error=str(error))
            await trio.sleep(POLL_S)

    async def _count_entries(self) -> dict[str, int]:
        return await streams.lengths_by_task(self._redis, self._tasks) if self._redis.is_connected else {}
