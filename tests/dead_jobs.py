"""Dead jobs for operators to look at and to replay."""

from __future__ import annotations

import secrets

from store.postgres.pool import Pool


async def new_dead_job(pool: Pool, *, task: str = "forget", reason: str = "the service is gone") -> int:
    """A job that has failed for good; its number."""
    job = secrets.randbits(62)
    await pool.fetch(
        "insert into dead_jobs (id, task, payload, attempts, reason) values (%s, %s, '{}', 3, %s)", (job, task, reason)
    )
    return job
