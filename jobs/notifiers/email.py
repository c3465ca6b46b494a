"""E-mail: a few words that something waits, to the address that the user has verified."""

from __future__ import annotations

from jobs.engine.job import GiveUp
from jobs.mail.mailer import Mailer
from jobs.notifiers.notifier import TYPE, Notice, NotifyError
from store.notifiers import EmailTarget


class Email:
    """Mails notices, by the template `offline_notice`. A mail cannot be withdrawn, so nobody asks for that."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    async def notify(self, target: EmailTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the mailer fails, however it does.
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
            # How a mailer fails is its own affair; here a notice was not taken.
            raise NotifyError(f"{type(error).__name__}: {error}", is_final=isinstance(error, GiveUp)) from error
