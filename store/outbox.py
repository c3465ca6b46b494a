"""The outbox: what must follow from a commit, kept in Postgres until it has been done.

A message's own commit appends a row. `decide` turns rows that have waited through the debounce window into one
`offline_notice` row for each recipient who has not marked them delivered. `relay` names the rows to hand to Redis;
a row lives until its job has ended (`end_job`), and comes round again if a job gives no sign of life.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from store import sql
from store.pool import Pool

_sql = sql.load("outbox")

BATCH: Final = 1000
"""Rows of one pass; more wait for the next, which follows at once."""

LEASE_S: Final = 60.0
"""How long a job that was handed to Redis may go without a sign of life. Longer than a webhook may take."""


class NoticeJob(Struct, frozen=True):
    """One run of the task offline_notice.

    :ivar attempt: failed attempts before this one.
    :ivar is_wanted: something is still undelivered.
    """

    id: int
    user: bytes
    version: int
    attempt: int
    is_wanted: bool


async def decide(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the debounce window of what has waited through it: (messages decided, users to be notified).

    Any number of workers may call it at once; a crash in it changes nothing.
    """
    [(decided, noticed)] = await pool.fetch(_sql.decide, {"window_s": window_s, "limit": BATCH})
    return decided, noticed


async def relay(pool: Pool) -> list[int]:
    """Ids of the rows to hand to Redis now; they are due again after `LEASE_S`."""
    return [row[0] for row in await pool.fetch(_sql.relay, {"lease_s": LEASE_S, "limit": BATCH})]


async def start(pool: Pool, job: int) -> NoticeJob | None:
    """What the job is about; None if it has ended already."""
    rows = await pool.fetch(_sql.start, {"id": job})
    return NoticeJob(job, *rows[0]) if rows else None


async def end_job(pool: Pool, job: NoticeJob) -> None:
    """The job has ended: its row goes. If more has come for the user meanwhile, it is due again at once instead."""
    await pool.fetch(_sql.end_job, {"id": job.id, "version": job.version})


async def retry(pool: Pool, job: NoticeJob, *, delay_s: float) -> None:
    """The attempt has failed; the next one comes after `delay_s`."""
    await pool.fetch(_sql.retry, {"id": job.id, "attempt": job.attempt + 1, "delay_s": delay_s})


async def bury(pool: Pool, job: NoticeJob, reason: str) -> None:
    """The job has failed for good: it goes to the dead jobs with its reason."""
    await pool.fetch(_sql.bury, {"id": job.id, "attempt": job.attempt + 1, "reason": reason})
