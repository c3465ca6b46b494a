"""E-mail: tells a user at the verified address how many messages wait."""

from __future__ import annotations

from jobs.engine.job import GiveUp
from jobs.mail.mailer import Mailer
from jobs.notifiers.notifier import TYPE, Notice, NotifyError
from store.notifiers import EmailTarget


class Email:
    """Mails notices, by the template `offline_notice`. A mail cannot be withdrawn, so callers do not withdraw it."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    async def notify(self, target: EmailTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the mailer raises any error.
        """
        try:
            await self._mailer.send(
                target.address,
                TYPE,
                key=f"{notice.id} {notice.user}",
                unread=str(notice.unread),
                conversations=str(notice.conversations),
            )
        except Exception as error:
            # For callers, each error of the mailer means that the notice was not taken.
            reason = f"{type(error).__name__}: {error}"
            raise NotifyError(reason, shown="the mail was not sent", is_final=isinstance(error, GiveUp)) from error
