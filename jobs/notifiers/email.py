"""E-mail: a few words that something waits, to an address whose owner has confirmed it."""

from __future__ import annotations

from typing import Final, Protocol

from jobs.job import GiveUp
from jobs.notifiers.notifier import TYPE, Notice, NotifyError
from store.notifiers import EmailTarget

CONFIRM: Final = "confirm_notifier"
"""The template of the mail that asks for a confirmation; its one value is `code`."""


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, to: str, template: str, **values: str) -> None:
        """Return once the next server has taken the mail; raises `GiveUp` if it never will, anything else for another
        attempt."""


class Email:
    """Mails notices, by the template `offline_notice`, without values."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    async def notify(self, target: EmailTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the mailer fails, however it does.
        """
        await self._send(target, TYPE)

    async def confirm(self, target: EmailTarget) -> None:
        """Ask whoever reads the mail of that address whether they want notices.

        :raises NotifyError: if the mailer fails, however it does.
        """
        await self._send(target, CONFIRM, code=target.code)

    async def _send(self, target: EmailTarget, template: str, **values: str) -> None:
        try:
            await self._mailer.send(target.address, template, **values)
        except Exception as error:
            # How a mailer fails is its own affair; here a notice was not taken.
            raise NotifyError(f"{type(error).__name__}: {error}", is_final=isinstance(error, GiveUp)) from error
