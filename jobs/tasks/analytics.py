"""The tasks `analytics` and `recount`: figures by day, brought up to date, or looked at again for one day."""

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
"""How old the figures of today may be, but for messages and latencies, which are counted as they come."""

MAX_FORGOTTEN: Final = 100
"""Transactions in which one run forgets: half a million rows; the next run goes on."""

OBJECTS_S: Final = 120.0
"""For listing the object store; in one that takes longer the figure is left out."""

PAUSE_S: Final = 0.1
"""Between transactions that forget: sends come first."""


class Analytics:
    """Figures by day (`store.analytics`).

    :param objects: the object store, all of which is listed once a day; None: there is none.
    """

    def __init__(self, pool: Pool, objects: Objects | None = None) -> None:
        self._pool = pool
        self._objects = objects

    async def analytics(self, job: Job) -> None:
        """Bring all figures up to date. It may end anywhere, and be run at any time: the next run finds the same."""
        pool = self._pool
        while True:
            unclosed = await analytics.unclosed(pool)
            if unclosed.day is None:
                break
            await analytics.count_day(pool, unclosed.day)
            await analytics.close_day(pool, unclosed.day)
            await job.report(f"closed {unclosed.day}")
        # Who was active yesterday may come late, from a gateway that could not reach Postgres.
        for day in (unclosed.today - timedelta(days=1), unclosed.today):
            await analytics.count_day(pool, day)
        await analytics.note_storage(pool)
        for _ in range(MAX_FORGOTTEN):
            if not await analytics.forget_activity(pool):
                break
            await trio.sleep(PAUSE_S)
        await self._note_objects()

    async def recount(self, job: Job, day: date) -> None:
        """Look at one day again, from the tables as far as they are still there. The same every time."""
        now = await analytics.today(self._pool)
        if day > now:
            raise GiveUp(f"{day} is yet to come; today is {now} in UTC")
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
