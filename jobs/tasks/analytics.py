"""The tasks `analytics` and `recount`: update the figures by day, or count one day again."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import structlog
import trio

from jobs.engine.job import GiveUp, Job
from store import analytics
from store.objects.interface import Objects, usage
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 300.0
"""The greatest age of today's figures, except messages and latencies, which are counted as they come."""

MAX_FORGOTTEN: Final = 100
"""Transactions of one run that delete old rows: half a million rows; the next run goes on."""

OBJECTS_S: Final = 120.0
"""For listing the object store; if it takes longer, the figure stays empty."""

PAUSE_S: Final = 0.1
"""Between transactions that delete rows, so that sends are not delayed."""


class Analytics:
    """Figures by day (`store.analytics`).

    :param objects: the object store, listed once a day; None without one.
    """

    def __init__(self, pool: Pool, objects: Objects | None = None) -> None:
        self._pool = pool
        self._objects = objects

    async def analytics(self, job: Job) -> None:
        """Update all figures. A run may end at any point: the next run counts the same again."""
        pool = self._pool
        while True:
            unclosed = await analytics.unclosed(pool)
            if unclosed.day is None:
                break
            await analytics.count_day(pool, unclosed.day)
            await analytics.close_day(pool, unclosed.day)
            await job.report(f"closed {unclosed.day}")
        # A gateway that could not reach Postgres reports yesterday's active users late.
        for day in (unclosed.today - timedelta(days=1), unclosed.today):
            await analytics.count_day(pool, day)
        await analytics.note_storage(pool)
        for _ in range(MAX_FORGOTTEN):
            if not await analytics.forget_activity(pool):
                break
            await trio.sleep(PAUSE_S)
        await self._note_objects()

    async def recount(self, job: Job, day: date) -> None:
        """Count one day again, from the rows that still exist. Repeating it gives the same figures."""
        now = await analytics.today(self._pool)
        if day > now:
            raise GiveUp(f"the day must not be after today, {now} in UTC: not {day}")
        await analytics.count_day(self._pool, day)
        log.info("recounted", day=str(day))

    async def _note_objects(self) -> None:
        if self._objects is None or await analytics.has_objects(self._pool):
            return
        with trio.move_on_after(OBJECTS_S) as scope:
            found = await usage(self._objects)
            await analytics.note_objects(self._pool, found.size_bytes)
        if scope.cancelled_caught:
            log.warning("objects_not_measured", listed_for_s=OBJECTS_S, hint="ask the object store itself")
