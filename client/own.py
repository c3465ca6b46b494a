"""The user's own settings and contacts, as this device holds them. Sans-IO.

The server counts the changes of the contacts. A device that got each change, one after the other, holds the list; a
device that has missed a number has to read the list over HTTP (`are_contacts_stale`, `take_contacts`).
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.frames import Contact, OwnSettings


class Own:
    """
    :ivar settings: the latest that were told; None before the first.
    :ivar contacts: by the ids of their users.
    :ivar contacts_revision: of this list; None if it was never read.
    """

    def __init__(self) -> None:
        self.settings: OwnSettings | None = None
        self.contacts: dict[bytes, Contact] = {}
        self.contacts_revision: int | None = None
        self._newest = 0

    @property
    def are_contacts_stale(self) -> bool:
        """Whether a client has to read the list before it shows it."""
        return self.contacts_revision is None or self.contacts_revision < self._newest

    def take(self, push: OwnSettings | Contact) -> None:
        """Apply a push, in any order and any number of times."""
        if isinstance(push, Contact):
            if push.contacts_revision - 1 == self.contacts_revision:
                self._change(push)
        elif self.settings is None or _version(push) >= _version(self.settings):
            self.settings = push
        self._newest = max(self._newest, push.contacts_revision)

    def take_contacts(self, contacts: Iterable[Contact], revision: int) -> None:
        """Take the whole list, as it was read over HTTP."""
        if self.contacts_revision is None or revision > self.contacts_revision:
            self.contacts = {each.user: each for each in contacts}
            self.contacts_revision = revision

    def _change(self, push: Contact) -> None:
        self.contacts_revision = push.contacts_revision
        if push.is_contact:
            self.contacts[push.user] = push
        else:
            self.contacts.pop(push.user, None)


def _version(settings: OwnSettings) -> tuple[int, int]:
    return settings.revision, settings.contacts_revision
