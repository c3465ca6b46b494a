"""The tasks `forget` and `expired_tokens` delete what nothing needs: idempotency keys so old that retries are refused,
changes so old that a cursor from before them is refused, jobs that died long ago, and tokens that ended long ago."""

from __future__ import annotations

from typing import Final

from jobs.engine.job import Job
from jobs.tasks.batches import in_batches
from store.jobs import forget_dead
from store.messages import forget_temp_ids
from store.postgres.pool import Pool
from store.revisions import forget_revisions
from store.tokens import forget_tokens

BATCH: Final = 2000
"""Keys in one transaction: some 20 ms."""

TOKENS: Final = 500
"""Devices in one transaction. Each write of a device writes its indexes too."""

DEAD_JOBS_DAYS: Final = 90
"""How long operators can inspect dead jobs."""


class Forgetting:
    """The handlers. Two runs of each may overlap."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def forget(self, job: Job) -> None:
        """Delete old keys, changes and dead jobs, until none are left or the time is over."""
        await in_batches(job, self._forget_some, "rows checked")

    async def expired_tokens(self, job: Job) -> None:
        """Delete tokens that expired, were revoked or were replaced by a refresh, until none are left or the time is
        over."""
        await in_batches(job, lambda: forget_tokens(self._pool, limit=TOKENS), "tokens")

    async def _forget_some(self) -> int:
        return (
            await forget_temp_ids(self._pool, limit=BATCH)
            + await forget_revisions(self._pool, limit=BATCH)
            + await forget_dead(self._pool, days=DEAD_JOBS_DAYS, limit=BATCH)
        )
