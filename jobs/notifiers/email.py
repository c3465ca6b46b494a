"""E-mail: a few words that something waits, to the address that the user has verified."""

from __future__ import annotations

from typing import Protocol

from jobs.engine.job import GiveUp
from jobs.notifiers.notifier import TYPE, Notice, NotifyError
from store.notifiers import EmailTarget


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, to: str, template: str, *, key: str = "", **values: str) -> None:
        """Return once the next server has taken the mail; raises `GiveUp` if it never will, anything else for another
        attempt.

        :param key: the same once more is the same mail.
        """


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
