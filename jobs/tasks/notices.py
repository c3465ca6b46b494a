"""The tasks that tell an absent user how many messages wait, and nothing else; once until the user is back.

`offline_notice` decides which notifiers of the user to tell, and when, and enqueues a job `notify` for each of them, so
that a failing notifier neither repeats nor delays the others. `notify` checks again as late as possible, and tells its
notifier, or withdraws the last notice. `jobs.tasks.pauses` decides for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from jobs.engine.job import GiveUp, Job, Snooze
from jobs.notifiers.configured import Notifiers
from jobs.notifiers.notifier import TYPE, Notice, NotifyError, TargetGone
from jobs.tasks.pauses import delay_s, is_pointless, next_notice
from jobs.tasks.quiet import quiet_for_s
from store import notifiers as store
from store import outbox
from store.notifiers import EmailTarget, LastNotice, NoticeContext, NotifierState, Target
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_S: Final = 3600.0
"""The longest wait that a service's Retry-After gets. After `PATIENCE_S` of failures, such answers count as attempts,
so that every job ends."""

PATIENCE_S: Final = 6 * 3600.0

MIN_RETRY_AFTER_S: Final = 30.0
"""The shortest wait. A service that answers "in a second" says so to all; as such answers cost no attempt, they must
not cause many calls."""

FORGET_AFTER_S: Final = 14 * 86400.0
"""A notifier is deleted once it has failed for this time and `FORGET_AFTER` times: its user does not use it."""

FORGET_AFTER: Final = 20
"""More attempts than one notice gets: two notices that fail a fortnight apart must not delete a notifier."""


class Notices:
    """
    :param notifiers: see `jobs.notifiers.configured.open_notifiers`.
    :param read_after_s: the read window.
    :param pauses_s: see `jobs.tasks.pauses.delay_s`.
    """

    def __init__(self, pool: Pool, notifiers: Notifiers, *, read_after_s: float, pauses_s: Sequence[float]) -> None:
        self._pool = pool
        self._notifiers = notifiers
        self._read_after_s = read_after_s
        self._pauses_s = pauses_s

    async def offline_notice(self, job: Job, user: UUID) -> None:
        """Run at the end of a window: messages are undelivered, or unread for long, so notifiers are told.

        A repetition hands out the same notice, and each notifier takes a notice once.

        :raises Snooze: in the user's quiet hours, until their end.
        """
        has_deployment = self._notifiers.has_deployment
        context = await store.notice_context(
            self._pool, user.bytes, read_after_s=self._read_after_s, to_deployment=has_deployment
        )
        if context is None or not (context.is_undelivered or context.unread_by):
            await self._nothing_to_tell(job, user, context)
            return
        _respect_quiet_hours(context)
        if not context.notifiers:
            # The user has no notifier: operators find the notice in the log.
            log.info("offline_notice", type=TYPE, notice=f"{job.id}-{job.version}", user=str(user))
            return
        delays_s = {state.notifier: delay_s(context, state, self._pauses_s) for state in context.notifiers}
        told = {notifier: delay_s for notifier, delay_s in delays_s.items() if delay_s is not None}
        if told:
            await store.enqueue_notices(self._pool, user.bytes, job=int(job.id), delays_s=told)

    async def notify(self, job: Job, notifier: UUID | None, user: UUID, notice: str) -> None:
        """Send one notifier its notice, if it is still wanted; or withdraw the last notice, if all its messages are
        read.

        :param notifier: None for the deployment's webhook.
        :param notice: the notice's name.
        :raises Snooze: in quiet hours, in the pause after the last notice, or if the service says Retry-After.
        :raises NotifyError: if the service did not take the notice.
        :raises GiveUp: if the service will never take it.
        """
        context = await store.notice_context(
            self._pool,
            user.bytes,
            read_after_s=self._read_after_s,
            notifiers=[notifier.bytes] if notifier else [],
            to_deployment=notifier is None,
        )
        state = context.notifiers[0] if context and context.notifiers else None
        if context is None or state is None:
            log.info("notice_not_needed", job=job.id, notifier=str(notifier))
            return
        wait_s = delay_s(context, state, self._pauses_s)
        if wait_s is None or (state.last and state.last.name == notice):
            if state.last and state.last.is_shown and is_pointless(context, state.last):
                await self._withdraw(job, user, state, state.last)
            else:
                await self._nothing_to_tell(job, user, context)
            return
        _respect_quiet_hours(context)
        if wait_s > 0:
            raise Snooze(wait_s)
        await self._tell(job, user, context, state, notice)

    async def _tell(self, job: Job, user: UUID, context: NoticeContext, state: NotifierState, name: str) -> None:
        notice = Notice(name, user, context.unread, context.conversations)
        if await self._is_taken(job, state, notice):
            is_withdrawable = not isinstance(state.target, EmailTarget)
            last = next_notice(context, state, name, is_withdrawable=is_withdrawable)
            await store.note_taken(self._pool, user.bytes, state, last)
            log.info("notified", job=job.id, attempt=job.attempt, notifier=_name(state))

    async def _withdraw(self, job: Job, user: UUID, state: NotifierState, last: LastNotice) -> None:
        if await self._is_taken(job, state, Notice(last.name, user, is_withdrawn=True)):
            await store.note_withdrawn(self._pool, user.bytes, state.notifier, last.name)
            log.info("notice_withdrawn", job=job.id, attempt=job.attempt, notifier=_name(state))

    async def _is_taken(self, job: Job, state: NotifierState, notice: Notice) -> bool:
        """Whether the notifier took the notice; if not, the notifier is deleted.

        :raises Snooze, NotifyError, GiveUp: as `notify`.
        """
        try:
            await self._notifiers.notify(state.target, notice)
        except TargetGone as gone:
            if state.notifier is None or state.target is None:
                raise
            log.info("notifier_gone", notifier=_name(state), reason=str(gone))
            await store.remove_target(self._pool, state.notifier, state.target)
            return False
        except NotifyError as error:
            if state.notifier is None or state.target is None:
                raise
            await self._failed(state.notifier, state.target, error)
            return False
        return True

    async def _failed(self, notifier: bytes, target: Target, error: NotifyError) -> None:
        """Count the failure. Returns only if it deletes the notifier."""
        failing_s, failures = await store.note_failure(self._pool, notifier, error.shown)
        if failing_s >= FORGET_AFTER_S and failures >= FORGET_AFTER:
            log.info("notifier_forgotten", notifier=str(UUID(bytes=notifier)), failures=failures, reason=str(error))
            await store.remove_target(self._pool, notifier, target)
            return
        if error.is_final:
            raise GiveUp(str(error))
        if error.retry_after_s is not None and failing_s < PATIENCE_S:
            raise Snooze(min(max(error.retry_after_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S))
        raise error

    async def _nothing_to_tell(self, job: Job, user: UUID, context: NoticeContext | None) -> None:
        log.info("notice_not_needed", job=job.id)
        if context is not None and context.unread and not context.is_undelivered:
            # A device took the messages before this job ran, and they have no read window yet.
            await outbox.wait_for_read(self._pool, user.bytes, window_s=self._read_after_s)


def _respect_quiet_hours(context: NoticeContext) -> None:
    """
    :raises Snooze: in quiet hours, until their end.
    """
    if quiet_s := quiet_for_s(context.quiet, context.now):
        raise Snooze(quiet_s)


def _name(state: NotifierState) -> str:
    return "deployment" if state.notifier is None else str(UUID(bytes=state.notifier))
