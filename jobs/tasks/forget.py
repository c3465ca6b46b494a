"""The tasks `forget` and `expired_tokens`: keys of sends whose retries are refused by now, changes that are so old that
a cursor from before them is refused, jobs that have been dead for long, and tokens that ended long ago."""

from __future__ import annotations

from typing import Final

from jobs.engine.job import Job
from jobs.tasks.batches import in_batches
from store.accounts import forget_tokens
from store.jobs import forget_dead
from store.messages import forget_temp_ids
from store.postgres.pool import Pool
from store.revisions import forget_revisions

BATCH: Final = 2000
"""Keys of one transaction: some 20 ms."""

TOKENS: Final = 500
"""Devices of one transaction: each is written with its indexes."""

DEAD_JOBS_DAYS: Final = 90
"""How long dead jobs are kept for an operator to look at."""


class Forgetting:
    """What the tasks need. Both may run twice at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def forget(self, job: Job) -> None:
        """Forget keys, changes and dead jobs, until there is nothing more or the time is used up."""
        await in_batches(job, self._forget_some, "looked at")

    async def expired_tokens(self, job: Job) -> None:
        """Forget tokens that have expired or were revoked, and those before a refresh; likewise."""
        await in_batches(job, lambda: forget_tokens(self._pool, limit=TOKENS), "tokens")

    async def _forget_some(self) -> int:
        return (
            await forget_temp_ids(self._pool, limit=BATCH)
            + await forget_revisions(self._pool, limit=BATCH)
            + await forget_dead(self._pool, days=DEAD_JOBS_DAYS, limit=BATCH)
        )
