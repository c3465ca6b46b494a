"""The device sets of conversations, as the server tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from client import backoff
from client.addressing import Addressing, ListedSet
from client.e2ee.keyring import Keyring
from client.e2ee.records import KeyChange
from client.e2ee.wire import KIND
from client.errors import NoReply, RequestRefused, Unreachable
from client.session import Session
from protocol.codes import ErrorCode
from protocol.frames import Error

OnChange: TypeAlias = Callable[[KeyChange], object]


class DeviceSets:
    """Brings the device sets in a keyring up to date, over a session.

    :param on_change: called with each change of devices, before anything is encrypted for it.
    """

    def __init__(self, session: Session, keyring: Keyring, on_change: OnChange) -> None:
        self._session = session
        self._addressing = Addressing(session)
        self._keyring = keyring
        self._on_change = on_change

    async def watch(self, conversation: bytes, on_refreshed: Callable[[], object] = lambda: None) -> None:
        """Tell changes of a conversation's devices as soon as the server tells that there are some; ends only by being
        cancelled.

        :param on_refreshed: called whenever the devices are known anew.
        """
        failures = 0
        while True:
            if not (self._session.is_online and self._is_old(conversation)):
                await self._session.wait_changed()
                continue
            try:
                await self.refresh(conversation)
                failures = 0
                on_refreshed()
            except (NoReply, Unreachable, RequestRefused):
                await trio.sleep(backoff.delay_s(failures))
                failures += 1

    async def refresh(self, conversation: bytes) -> None:
        """Ask for the devices of a conversation if they have changed, and tell the changes."""
        if self._is_old(conversation):
            await self._ask_all(conversation)

    async def claim(self, users: Sequence[bytes]) -> None:
        """Begin sessions with the devices of users, by a key of each, and tell the changes."""
        listed = await self._addressing.devices(users, kinds=[KIND])
        self._keyring.take_claimed(users, listed)
        self.tell_changes()

    def _is_old(self, conversation: bytes) -> bool:
        version = self._keyring.set_version(conversation)
        head = self._session.mailbox.head(conversation)
        return version is None or (head is not None and (head.devices_version or 0) > version)

    async def learn_from(self, conversation: bytes, error: Error) -> bool:
        """Take what a refusal says of the devices; returns whether it was for these: then the caller tries again."""
        if error.code == ErrorCode.UNKNOWN_DEVICES.value:
            self._take(conversation, await self._addressing.by_refusal(conversation))
            return True
        if error.code != ErrorCode.DEVICES_CHANGED.value:
            return False
        told = await self._addressing.difference(error)
        is_known = self._keyring.take_difference(conversation, told.version, told.users, told.devices)
        self.tell_changes()
        if not is_known:
            self._take(conversation, await self._addressing.by_refusal(conversation))
        return True

    async def _ask_all(self, conversation: bytes) -> None:
        """The first time, or after changes that no refusal has told: the mailbox knows who takes part, or the server
        tells all in a refusal. Users whose devices are not known yet are asked for keys at once."""
        self._take(
            conversation,
            await self._addressing.present(
                conversation, kinds=[KIND], begins_with=lambda user: not self._keyring.knows(user)
            ),
        )

    def _take(self, conversation: bytes, listed: ListedSet) -> None:
        self._keyring.take_set(conversation, listed.version, listed.users, listed.devices)
        self.tell_changes()

    def tell_changes(self) -> None:
        """Tell the changes of which the user has yet to hear."""
        changes = self._keyring.changes()
        for change in changes:
            self._on_change(change)
        if changes:
            self._keyring.have_told(changes)
