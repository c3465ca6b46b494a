"""The device sets of conversations, as the server tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import trio

from client import backoff
from client.e2ee import KEYS
from client.e2ee.keyring import Keyring
from client.e2ee.records import KeyChange
from client.e2ee.wire import KIND
from client.errors import NoReply, RequestRefused, Unreachable
from client.session import Session
from protocol import limits
from protocol.codes import ErrorCode
from protocol.frames import Error, ListedDevice

NO_VERSION: Final = 2**62
"""A version that no conversation has had: the refusal tells all devices of the conversation (SPEC 19.11)."""

OnChange: TypeAlias = Callable[[KeyChange], object]


class DeviceSets:
    """Brings the device sets in a keyring up to date, over a session.

    :param on_change: called with each change of devices, before anything is encrypted for it.
    """

    def __init__(self, session: Session, keyring: Keyring, on_change: OnChange) -> None:
        self._session = session
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
        listed = await self._list_devices(users, kinds=[KIND])
        self._keyring.take_claimed(users, listed)
        self.tell_changes()

    def _is_old(self, conversation: bytes) -> bool:
        version = self._keyring.set_version(conversation)
        head = self._session.mailbox.head(conversation)
        return version is None or (head is not None and (head.devices_version or 0) > version)

    async def learn_from(self, conversation: bytes, error: Error) -> bool:
        """Take what a refusal says of the devices; returns whether it was for these: then the caller tries again."""
        if error.code == ErrorCode.UNKNOWN_DEVICES.value:
            await self._ask_all(conversation)
            return True
        if error.code != ErrorCode.DEVICES_CHANGED.value:
            return False
        version, users, listed = await self._answer_of(error)
        is_known = self._keyring.take_difference(conversation, version, users, listed)
        self.tell_changes()
        if not is_known:
            await self._ask_all(conversation)
        return True

    async def _ask_all(self, conversation: bytes) -> None:
        """Ask for all devices of a conversation and the version of that set, by a send that the server must refuse."""
        try:
            await self._session.send(
                conversation, b"", content_type=KEYS, is_quiet=True, devices_version=NO_VERSION, wants_devices=True
            )
        except RequestRefused as refused:
            if refused.code != ErrorCode.DEVICES_CHANGED.value:
                raise
            self._keyring.take_set(conversation, *await self._answer_of(refused.error))
            self.tell_changes()

    async def _answer_of(self, error: Error) -> tuple[int, list[bytes], list[ListedDevice]]:
        """The present version, the changed users and all their devices."""
        users, listed = error.changed_users or [], list(error.devices or ())
        if error.more:
            listed += await self._list_devices(users, after=listed[-1].device if listed else None)
        return error.devices_version or 0, users, listed

    async def _list_devices(
        self, users: Sequence[bytes], *, after: bytes | None = None, kinds: list[str] | None = None
    ) -> list[ListedDevice]:
        found: list[ListedDevice] = []
        for start in range(0, len(users), limits.MAX_LISTED_USERS):
            some, last = list(users[start : start + limits.MAX_LISTED_USERS]), after
            while True:
                page = await self._session.insist(
                    lambda connection, some=some, last=last: connection.devices(  # type: ignore[misc]
                        some, device=last, kinds=kinds
                    )
                )
                found += page.devices
                if not page.more:
                    break
                last = page.devices[-1].device
        return found

    def tell_changes(self) -> None:
        """Tell the changes of which the user has yet to hear."""
        changes = self._keyring.changes()
        for change in changes:
            self._on_change(change)
        if changes:
            self._keyring.have_told(changes)
