"""The task `forget`: keys of sends whose retries are refused by now, changes that are so old that a cursor from before
them is refused, and jobs that have been dead for long."""

from __future__ import annotations

from typing import Final

import trio

from jobs.job import Job
from store.jobs import forget_dead
from store.messages import forget_temp_ids
from store.pool import Pool
from store.revisions import forget_revisions

BATCH: Final = 2000
"""Keys of one transaction: some 20 ms."""

PAUSE_S: Final = 0.1
"""Between transactions: sends come first."""

BUDGET_S: Final = 240.0
"""Of one run; what is left then is for the next."""

DEAD_JOBS_DAYS: Final = 90
"""How long dead jobs are kept for an operator to look at."""


class Forgetting:
    """What the task needs."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def forget(self, job: Job) -> None:
        """Forget in small transactions, until there is nothing more or the time is used up. May run twice at once."""
        with trio.move_on_after(BUDGET_S):
            while await self._forget_some():  # noqa: ASYNC110  (sends are to come in between; nothing is waited for)
                await trio.sleep(PAUSE_S)

    async def _forget_some(self) -> int:
        return (
            await forget_temp_ids(self._pool, limit=BATCH)
            + await forget_revisions(self._pool, limit=BATCH)
            + await forget_dead(self._pool, days=DEAD_JOBS_DAYS, limit=BATCH)
        )
