"""The task `offline_notice`: one content-free notice for a user whose devices have not taken what was sent."""

from __future__ import annotations

import random
from typing import Final

import structlog

from jobs.notifier import NotifyError, Webhook
from store import outbox
from store.outbox import NoticeJob
from store.pool import Pool

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 12
"""With the delays below about an hour in all; then an operator has to look (table dead_jobs)."""

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 600.0


def backoff_s(attempt: int) -> float:
    """The delay after the failed attempt of this number (from 0): doubling, with jitter of a half, bounded."""
    return min(FIRST_DELAY_S * 2.0**attempt, MAX_DELAY_S) * random.uniform(0.5, 1)  # noqa: S311  (not a secret)


async def run(pool: Pool, webhook: Webhook, job: int) -> None:
    """Run one job to one of its ends: notified, no longer wanted, to be retried, dead. Repeating it is harmless.

    :raises StoreError: if Postgres cannot be reached; the row comes round again.
    """
    notice = await outbox.start(pool, job)
    if notice is None:
        return
    if not notice.is_wanted:
        log.info("notice_not_needed", job=job)
        await outbox.end_job(pool, notice)
        return
    try:
        # Named by row and version, so that a repetition after a lost answer has the same name.
        await webhook.notify(f"{notice.id}-{notice.version}", notice.user)
    except NotifyError as error:
        await _failed(pool, notice, str(error))
    else:
        log.info("notified", job=job, attempt=notice.attempt)
        await outbox.end_job(pool, notice)


async def _failed(pool: Pool, notice: NoticeJob, reason: str) -> None:
    if notice.attempt + 1 >= MAX_ATTEMPTS:
        log.error("notice_dead", job=notice.id, attempts=notice.attempt + 1, reason=reason)
        await outbox.bury(pool, notice, reason)
        return
    delay_s = backoff_s(notice.attempt)
    log.warning("notice_failed", job=notice.id, attempt=notice.attempt, reason=reason, retry_in_s=round(delay_s, 2))
    await outbox.retry(pool, notice, delay_s=delay_s)
