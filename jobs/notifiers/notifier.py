"""The interface of all notifiers: the notice, and the errors."""

from __future__ import annotations

from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import Struct

from store.notifiers import NOTICE_KEPT_S

TYPE: Final = "offline_notice"

WITHDRAWN: Final = "withdrawn"

KEPT_S: Final = round(NOTICE_KEPT_S)
"""How long a push service keeps a notice for a device that is off: the longest time that all services allow. It keeps
one notice: the next notice or the withdrawal replaces it."""


class Notice(Struct, frozen=True):
    """Tells how many messages wait for a user, and neither contents nor conversations nor senders.

    :ivar id: its name; a notice with the same id is a repetition.
    :ivar unread, conversations: how many messages are unread, in how many conversations.
    :ivar is_withdrawn: withdraws the notice of this id: all of its messages are read.
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
        """The body for push services, without the user, whom the device knows."""
        if self.is_withdrawn:
            return {"type": WITHDRAWN, "notice": self.id}
        return {"type": TYPE, "notice": self.id, "unread": self.unread, "conversations": self.conversations}


class NotifyError(Exception):
    """The service did not take the notice. The text says why, for operators.

    :ivar shown: the reason for the user who added the notifier.
    :ivar retry_after_s: the service's Retry-After; None without one.
    :ivar is_final: no attempt can succeed until an operator or the user changes something. The target stays, since a
        wrong configuration of ours must not delete the targets of all users.
    """

    def __init__(
        self, reason: str, *, shown: str | None = None, retry_after_s: float | None = None, is_final: bool = False
    ) -> None:
        super().__init__(reason)
        self.shown = reason if shown is None else shown
        self.retry_after_s = retry_after_s
        self.is_final = is_final


class TargetGone(Exception):
    """The target no longer exists, and the caller must delete it. The text says how the service told so."""


class Notifier(Protocol):
    """Tells users by one kind of service."""

    async def notify(self, target: Any, notice: Notice) -> None:
        """Return once the service has taken the notice or its withdrawal.

        It takes at most `TIMEOUT_S` (`jobs.notifiers.calls`), or as long as a mail may take.

        :param target: of this notifier's kind.
        :raises NotifyError: if the service did not take the notice.
        :raises TargetGone: if it never will.
        """
