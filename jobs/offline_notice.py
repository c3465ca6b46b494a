"""The task `offline_notice`: one content-free notice for a user whose devices have not taken what was sent."""

from __future__ import annotations

from uuid import UUID

import structlog

from jobs.job import Job
from jobs.notifier import Webhook
from store import outbox
from store.pool import Pool

log = structlog.get_logger(__name__)


class OfflineNotices:
    """What the task needs."""

    def __init__(self, pool: Pool, webhook: Webhook) -> None:
        self._pool = pool
        self._webhook = webhook

    async def offline_notice(self, job: Job, user: UUID) -> None:
        """Tell the webhook, if there is still something to tell of.

        :raises NotifyError: if it does not take the notice.
        """
        if not await outbox.is_wanted(self._pool, user.bytes):
            log.info("notice_not_needed")
            return
        # A repetition after a lost answer has the same name.
        await self._webhook.notify(f"{job.id}-{job.version}", user.bytes)
        log.info("notified")
