"""The keyring of a device over its session: it sends, and repeats after refusals."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import trio

from client.addressing import ROUNDS, TooManyChanges
from client.e2ee import KEYS, SEALED
from client.e2ee.catching_up import CatchingUp
from client.e2ee.contents import Plaintext
from client.e2ee.device_sets import DeviceSets, OnChange
from client.e2ee.healer import Healer
from client.e2ee.keyring import Keyring
from client.e2ee.publisher import KeyPublisher
from client.e2ee.records import Outgoing, Recipient
from client.e2ee.wire import KIND
from client.errors import RequestRefused, Unreachable
from client.session import Session
from protocol.errors import LocalProtocolError
from protocol.frames import Message, Revised, Sent

OnLeftOut: TypeAlias = Callable[[list[Recipient]], object]


class Correspondent:
    """Encrypts and sends over a session, and reads. The session's mailbox must `keep` by the same keyring.

    :ivar publisher: of the keys of this device.
    :ivar sets: the devices of the conversations.
    :ivar healer: of messages that cannot be decrypted.
    :param on_change: called with each change of devices, before anything is encrypted for it.
    :param on_left_out: called with devices that get no key: they have published none.
    """

    def __init__(
        self,
        session: Session,
        keyring: Keyring,
        *,
        on_change: OnChange = lambda _: None,
        on_left_out: OnLeftOut = lambda _: None,
    ) -> None:
        self.keyring: Final = keyring
        self._session = session
        self.publisher: Final = KeyPublisher(session, keyring)
        self.sets: Final = DeviceSets(session, keyring, on_change)
        self.healer: Final = Healer(session, keyring, self.give_key_again)
        self._on_left_out = on_left_out
        self._locks: defaultdict[bytes, trio.Lock] = defaultdict(trio.Lock)

    async def catch_up(self) -> None:
        """See `client.e2ee.catching_up`; tells what has changed of devices meanwhile."""
        await CatchingUp(self._session, self.keyring).catch_up()
        self.sets.tell_changes()

    async def send(
        self,
        conversation: bytes,
        body: Plaintext,
        *,
        reply_to: int | None = None,
        attachments: list[bytes] | None = None,
    ) -> Sent:
        """Encrypt and send a message; returns when it is committed, and in the mailbox.

        If it is not known whether the server has it (`OutcomeUnknown`), or if this is cancelled, it stays in the
        vault, and `resume` sends the same bytes again.

        :raises RequestRefused: by an error that is not retryable; the message is given up.
        :raises OutcomeUnknown, NoReply, Unreachable: as `Session.send`.
        """
        message = Outgoing(self._session.new_temp_id(), time.time_ns(), conversation, body, reply_to, attachments)
        self.keyring.queue(message)
        return await self._deliver(message)

    async def resume(self) -> list[Outgoing]:
        """Send again what the server has not acknowledged to an earlier program; returns the messages that it refuses.

        :raises OutcomeUnknown, NoReply, Unreachable: if it does not answer; the messages stay.
        """
        refused: list[Outgoing] = []
        for message in self.keyring.queued():
            try:
                await self._deliver(message)
            except RequestRefused:
                refused.append(message)
        return refused

    async def _deliver(self, message: Outgoing) -> Sent:
        async with self._locks[message.conversation]:
            may_be_stored = message.content is not None
            for _ in range(ROUNDS):
                try:
                    if not may_be_stored:
                        await self._share_key(message.conversation)
                    sent = await self._send_sealed(self.keyring.seal(message.temp_id))
                except RequestRefused as refused:
                    if not await self.sets.learn_from(message.conversation, refused.error):
                        self.keyring.give_up(message.temp_id)
                        raise
                    self.keyring.unseal(message.temp_id)
                    may_be_stored = False
                except LocalProtocolError:
                    self.keyring.give_up(message.temp_id)
                    raise
                except Unreachable:
                    if not may_be_stored:
                        self.keyring.give_up(message.temp_id)
                    raise
                else:
                    self.keyring.have_sent(message.temp_id, sent.message, sent.seq)
                    return sent
            self.keyring.give_up(message.temp_id)
            raise TooManyChanges

    async def _send_sealed(self, message: Outgoing) -> Sent:
        assert message.content is not None
        return await self._session.send(
            message.conversation,
            message.content,
            content_type=SEALED,
            reply_to=message.reply_to,
            attachments=message.attachments,
            temp_id=message.temp_id,
            devices_version=message.devices_version,
            wants_devices=True,
            kinds=[KIND],
        )

    async def edit(self, message: Message, body: Plaintext, *, attachments: list[bytes] | None = None) -> Revised:
        """Put another plaintext into a message of the user's own. Raises what `Session.edit` raises."""
        async with self._locks[message.conversation]:
            for _ in range(ROUNDS):
                try:
                    await self._share_key(message.conversation)
                    content, version = self.keyring.seal_edit(message, body)
                    return await self._session.edit(
                        message,
                        content,
                        content_type=SEALED,
                        attachments=attachments,
                        devices_version=version,
                        wants_devices=True,
                        kinds=[KIND],
                    )
                except RequestRefused as refused:
                    if not await self.sets.learn_from(message.conversation, refused.error):
                        raise
            raise TooManyChanges

    async def give_key_again(self, message: Message, device: bytes) -> bytes | None:
        """An envelope of a message that this device has sent, for a device that lacks the key of it, such as one that
        was away for longer than the server keeps envelopes; see `client.e2ee.given_keys`.

        :return: None if that device may not have the key, or has no keys for a session.
        :raises RequestRefused, NoReply, Unreachable: if the devices, or a key for a session, have to be asked for.
        """
        async with self._locks[message.conversation]:
            await self.sets.refresh(message.conversation)
            found = self.keyring.was_given(message, device)
            if found is None:
                return None
            user, has_session = found
            if not has_session:
                await self.sets.claim([user])
            return self.keyring.give_again(message, device)

    async def _share_key(self, conversation: bytes) -> None:
        """Bring the key of the next content to the devices that lack it. Afterwards all have it that can."""
        await self.sets.refresh(conversation)
        head = self._session.mailbox.head(conversation)
        # A key must live as long as the content: where messages disappear, each content has a younger one of its own.
        since = self.keyring.now() if head is not None and head.lifetime_s is not None else 0.0
        claimed: set[bytes] = set()
        refusals = 0
        while refusals < ROUNDS:
            recipients, users = self.keyring.lacking(conversation, since)
            if not recipients:
                return
            if new := [user for user in users if user not in claimed]:
                await self.sets.claim(new)
                claimed.update(new)
                continue
            outcome = await self._share_with(conversation, recipients)
            if outcome == "no_session":
                self._on_left_out(recipients)
                return
            if outcome == "refused":
                claimed.clear()
                refusals += 1
        raise TooManyChanges

    async def _share_with(
        self, conversation: bytes, recipients: Sequence[Recipient]
    ) -> Literal["shared", "refused", "no_session"]:
        """Send one key message, for those of these devices with which there is a session."""
        temp_id, at = self._session.new_temp_id(), self.keyring.now()
        version = self.keyring.set_version(conversation)
        message = self.keyring.share_key(conversation, recipients, temp_id)
        if message is None:
            return "no_session"
        try:
            await self._session.send(
                conversation,
                message.content,
                content_type=KEYS,
                is_quiet=True,
                temp_id=temp_id,
                envelopes=message.envelopes,
                devices_version=version,
                wants_devices=True,
                kinds=[KIND],
            )
        except RequestRefused as refused:
            if not await self.sets.learn_from(conversation, refused.error):
                raise
            return "refused"
        self.keyring.have_shared(conversation, message, at)
        return "shared"
