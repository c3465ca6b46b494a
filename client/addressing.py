"""For which devices a message is: reading the device set of a conversation, and sending for exactly that set.

The server accepts a `send` or an `edit` with a `devices_version` for that set alone (SPEC 19.10, 19.11). The caller
encrypts for a `ListedSet`. If the devices have changed, the refusal tells the present ones in the same answer, and the
caller encrypts for those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import trio
from msgspec import Struct

from client.errors import ClientFailure, RequestRefused
from client.known_devices import all_devices
from client.nursery import open_service_nursery
from client.session import Insisting, Session
from protocol.codes import ErrorCode
from protocol.frames import Envelope, Error, ListedDevice, Sent

NO_VERSION: Final = 2**62
"""A version that no conversation has had: the refusal tells all devices of the conversation (SPEC 19.11)."""

ROUNDS: Final = 8
"""For one message: each round needs another change of devices meanwhile."""


Seal: TypeAlias = "Callable[[ListedSet], Awaitable[tuple[bytes, Sequence[Envelope] | None]]]"
"""Encrypts for a device set: the content, and an envelope for each of some devices."""


class TooManyChanges(ClientFailure):
    """The devices of the conversation have changed again and again while a message was encrypted for them."""

    def __init__(self) -> None:
        super().__init__("the devices of the conversation keep changing; send it again")


class ListedSet(Struct, frozen=True):
    """Users with all their devices that have an identity, as of a version of a conversation's device set, or later.

    :ivar users: all participants; of a difference, those whose devices have changed.
    """

    version: int
    users: list[bytes]
    devices: list[ListedDevice]

    def after(self, difference: ListedSet) -> ListedSet:
        """This set, with what a refusal says of the users whose devices have changed."""
        users = [user for user in self.users if user not in difference.users] + difference.users
        kept = [each for each in self.devices if each.user not in difference.users]
        return ListedSet(difference.version, users, kept + difference.devices)


class Addressing:
    """Reads device sets over a session. All methods raise what `Session.insist` raises."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def present(
        self,
        conversation: bytes,
        *,
        kinds: list[str] | None = None,
        begins_with: Callable[[bytes], bool] = lambda _: True,
    ) -> ListedSet:
        """The device set of a conversation, for a first message: in one round trip, unless many take part.

        :param kinds: of one-time keys to claim, of each device of the users that `begins_with` names, except this one.
        """
        set_users = self._session.mailbox.set_users(conversation)
        if set_users is None:
            return await self.by_refusal(conversation)
        version, users = set_users
        new = [user for user in users if kinds and user != self._session.user and begins_with(user)]
        found: list[ListedDevice] = []
        have_new = trio.Event()

        async def claim() -> None:
            found.extend(await self.devices(new, kinds=kinds))
            have_new.set()

        async with open_service_nursery() as nursery:
            nursery.start_soon(claim)
            found += await self.devices([user for user in users if user not in new])
            await have_new.wait()
        return ListedSet(version, users, found)

    async def by_refusal(self, conversation: bytes) -> ListedSet:
        """The device set of a conversation, by a send that the server must refuse: whoever takes part is in one answer
        with the version."""
        try:
            await self._session.send(conversation, b"", is_quiet=True, devices_version=NO_VERSION, wants_devices=True)
        except RequestRefused as refused:
            if refused.code != ErrorCode.DEVICES_CHANGED.value:
                raise
            return await self.difference(refused.error)
        raise AssertionError("the server accepts a version that no conversation has had")

    async def difference(self, error: Error) -> ListedSet:
        """The users whose devices have changed, by a `devices_changed` to a request that wants the devices."""
        users, listed = error.changed_users or [], list(error.devices or ())
        if error.more or error.devices is None:
            listed += await self.devices(users, after=listed[-1].device if listed else None)
        return ListedSet(error.devices_version or 0, users, listed)

    async def devices(
        self, users: Sequence[bytes], *, after: bytes | None = None, kinds: list[str] | None = None
    ) -> list[ListedDevice]:
        """All devices of some users; with `kinds` a key of each of these kinds is claimed of each."""
        return await all_devices(Insisting(self._session), users, after=after, kinds=kinds)

    async def send(
        self,
        conversation: bytes,
        known: ListedSet,
        seal: Seal,
        *,
        content_type: str = "application/octet-stream",
        kinds: list[str] | None = None,
    ) -> tuple[Sent, ListedSet]:
        """Send a message for the present device set; returns the set that it was accepted for.

        :param known: the set that the caller knows.
        :param seal: encrypts for a set: the content, and the envelopes. It is called again after a refusal.
        :param kinds: of one-time keys that a refusal claims, of each device of the changed users.
        :raises TooManyChanges: if the devices change in each round.
        """
        temp_id = self._session.new_temp_id()
        for _ in range(ROUNDS):
            content, envelopes = await seal(known)
            try:
                sent = await self._session.send(
                    conversation,
                    content,
                    content_type=content_type,
                    temp_id=temp_id,
                    devices_version=known.version,
                    envelopes=list(envelopes or ()) or None,
                    wants_devices=True,
                    kinds=kinds,
                )
            except RequestRefused as refused:
                if refused.code == ErrorCode.UNKNOWN_DEVICES.value:
                    # The rest of a long difference lists the devices of users who have left, too (SPEC 20.7).
                    known = await self.by_refusal(conversation)
                elif refused.code == ErrorCode.DEVICES_CHANGED.value:
                    known = known.after(await self.difference(refused.error))
                else:
                    raise
            else:
                return sent, known
        raise TooManyChanges
