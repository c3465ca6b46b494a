"""Dead jobs for operators to look at and to replay."""

from __future__ import annotations

from store.postgres.pool import Pool


async def new_dead_job(pool: Pool, *, task: str = "forget", reason: str = "the service is gone") -> int:
    """A job that has failed for good; its number."""
    rows = await pool.fetch(
        "insert into dead_jobs (id, task, payload, attempts, reason)"
        " values (nextval('jobs_id_seq'), %s, '{}', 3, %s) returning id",
        (task, reason),
    )
    return int(rows[0][0])
