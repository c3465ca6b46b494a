"""What all notifiers have in common: what they are told, and how they fail."""

from __future__ import annotations

from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import Struct

from store.notifiers import NOTICE_KEPT_S

TYPE: Final = "offline_notice"

WITHDRAWN: Final = "withdrawn"

KEPT_S: Final = round(NOTICE_KEPT_S)
"""How long a push service keeps a notice for a device that is off: the longest that all of them take. It keeps one: the
next takes its place, and so does what withdraws it."""


class Notice(Struct, frozen=True):
    """So many messages wait for a user. It says nothing of what, where, or from whom.

    :ivar id: its name; the same again is a repetition.
    :ivar unread, conversations: how many messages are unread, in how many conversations.
    :ivar is_withdrawn: instead, everything that the notice of this name was about is read.
    """

    id: str
    user: UUID
    unread: int = 0
    conversations: int = 0
    is_withdrawn: bool = False

    @property
    def type(self) -> str:
        return WITHDRAWN if self.is_withdrawn else TYPE

    @property
    def body(self) -> dict[str, str | int]:
        """As push services get it: the device knows whose it is."""
        if self.is_withdrawn:
            return {"type": WITHDRAWN, "notice": self.id}
        return {"type": TYPE, "notice": self.id, "unread": self.unread, "conversations": self.conversations}


class NotifyError(Exception):
    """The notice was not taken. The text says why.

    :ivar retry_after_s: how long the service asked to be left alone; None if it did not.
    :ivar is_final: another attempt would fare no better, until an operator or the user has changed something. The
        target stays: what our wrong configuration may cause is no reason to forget everybody's.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None, is_final: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_final = is_final


class TargetGone(Exception):
    """There is nobody any more to be told this way: the target is to be forgotten. The text says who said so."""


class Notifier(Protocol):
    """One way to tell a user."""

    async def notify(self, target: Any, notice: Notice) -> None:
        """Return once the notice, or its withdrawal, was taken.

        Within `TIMEOUT_S` (`jobs.notifiers.calls`), or as long as a mail may take.

        :param target: of this notifier's kind.
        :raises NotifyError: if it was not.
        :raises TargetGone: if it never will be.
        """
