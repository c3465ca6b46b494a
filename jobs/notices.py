"""The tasks that tell a user who is away that something waits: content-free, once for each debounce window.

`offline_notice` decides whether, and hands out a job `notify` for each notifier of the user, so that one that fails
neither repeats nor delays the others. Both look at what is still undelivered as late as they can.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog

from jobs.job import GiveUp, Job, Snooze
from jobs.notifiers.configured import Notifiers
from jobs.notifiers.notifier import TYPE, Notice, NotifyError, TargetGone
from jobs.quiet import quiet_for_s
from store import notifiers as store
from store.notifiers import Target
from store.pool import Pool

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_S: Final = 3600.0
"""A service that asks to be left alone for longer is asked again after this; and after `PATIENCE_S` of failures such
answers count as attempts, so that every notice comes to an end."""

PATIENCE_S: Final = 6 * 3600.0

MIN_RETRY_AFTER_S: Final = 30.0
"""Who says "in a second" says it to all: such an answer costs no attempt, so it must not cost many calls."""

FORGET_AFTER_S: Final = 14 * 86400.0
"""A user's notifier that has failed for so long, and `FORGET_AFTER` times, is forgotten: nobody looks after it."""

FORGET_AFTER: Final = 20
"""More attempts than one notice gets: one notice a fortnight after another, both on a bad day, are no reason."""


class Notices:
    """
    :param notifiers: see `jobs.notifiers.configured.open_notifiers`.
    """

    def __init__(self, pool: Pool, notifiers: Notifiers) -> None:
        self._pool = pool
        self._notifiers = notifiers

    async def offline_notice(self, job: Job, user: UUID) -> None:
        """The task at the end of a debounce window: something is undelivered, so the user's notifiers are told.

        Once more, it hands out the same notice, which each notifier takes once.

        :raises Snooze: in the user's quiet hours, until their end.
        """
        if not await self._is_wanted(job, user):
            return
        notice, told = await store.hand_out(
            self._pool, user.bytes, job=int(job.id), to_deployment=self._notifiers.has_deployment
        )
        if not told:
            # Nobody to tell: the log is where an operator finds out.
            log.info("offline_notice", type=TYPE, notice=notice, user=str(user))

    async def notify(self, job: Job, notifier: UUID | None, user: UUID, notice: str) -> None:
        """The task for one notifier: looks whether the notice is still wanted, and sends it.

        :param notifier: None for the deployment's webhook.
        :param notice: its name.
        :raises Snooze: in quiet hours, or if the service asks to be left alone.
        :raises NotifyError: if it was not taken.
        :raises GiveUp: if it never will be.
        """
        if not await self._is_wanted(job, user):
            return
        if notifier is None:
            await self._notifiers.notify(None, Notice(notice, user))
            log.info("notified", job=job.id, attempt=job.attempt)
            return
        found = await store.chosen(self._pool, notifier.bytes)
        if found is None or found.notice == notice:
            log.info("notice_not_needed", job=job.id, notifier=str(notifier))
            return
        try:
            await self._notifiers.notify(found.target, Notice(notice, user))
        except TargetGone as gone:
            log.info("notifier_gone", notifier=str(notifier), reason=str(gone))
            await store.forget(self._pool, notifier.bytes, found.target)
        except NotifyError as error:
            await self._failed(notifier, found.target, error)
        else:
            await store.took(self._pool, notifier.bytes, notice)
            log.info("notified", job=job.id, attempt=job.attempt, notifier=str(notifier))

    async def _failed(self, notifier: UUID, target: Target, error: NotifyError) -> None:
        """Returns only if the notifier is forgotten."""
        failing_s, failures = await store.failed(self._pool, notifier.bytes, str(error))
        if failing_s >= FORGET_AFTER_S and failures >= FORGET_AFTER:
            log.info("notifier_forgotten", notifier=str(notifier), failures=failures, reason=str(error))
            await store.forget(self._pool, notifier.bytes, target)
            return
        if error.is_final:
            raise GiveUp(str(error))
        if error.retry_after_s is not None and failing_s < PATIENCE_S:
            raise Snooze(min(max(error.retry_after_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S))
        raise error

    async def _is_wanted(self, job: Job, user: UUID) -> bool:
        prospect = await store.look(self._pool, user.bytes)
        if prospect is None or not prospect.is_wanted:
            log.info("notice_not_needed", job=job.id)
            return False
        if quiet_s := quiet_for_s(prospect.quiet, prospect.now):
            raise Snooze(quiet_s)
        return True
