"""The keyring of a device over its session: it publishes keys, sends, repeats after refusals, and catches up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import trio

from client import backoff
from client.e2ee import KEYS, SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.keyring import Keyring
from client.e2ee.records import KeyChange, Outgoing, Recipient
from client.e2ee.wire import KIND
from client.errors import ClientFailure, NoReply, RequestRefused, Unreachable
from client.session import Session
from protocol import limits
from protocol.codes import ErrorCode
from protocol.errors import LocalProtocolError
from protocol.frames import Error, ListedDevice, Message, Messages, Revised, Sent

ROUNDS: Final = 8
"""For one message: each round needs another change of devices meanwhile."""

NO_VERSION: Final = 2**62
"""A version that no conversation has had: the refusal tells all devices of the conversation (SPEC 19.11)."""

PAGE: Final = limits.MAX_COUNT

OnChange: TypeAlias = Callable[[KeyChange], object]
OnLeftOut: TypeAlias = Callable[[list[Recipient]], object]


class TooManyChanges(ClientFailure):
    """The devices of the conversation have changed again and again while a message was encrypted for them."""

    def __init__(self) -> None:
        super().__init__("the devices of the conversation keep changing; send it again")


class Correspondent:
    """Encrypts and sends over a session, and reads. The session's mailbox must `keep` by the same keyring.

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
        self._on_change = on_change
        self._on_left_out = on_left_out
        self._locks: defaultdict[bytes, trio.Lock] = defaultdict(trio.Lock)
        self._low = trio.Event()
        self._low.set()

    def note_low_keys(self) -> None:
        """The server has few keys of this device: `run` uploads more."""
        self._low.set()

    async def run(self) -> None:
        """Upload keys whenever the server has few; ends only by being cancelled."""
        failures = 0
        while True:
            await self._low.wait()
            self._low = trio.Event()
            try:
                await self.publish()
                failures = 0
            except (NoReply, Unreachable, RequestRefused):
                self._low.set()
                await trio.sleep(backoff.delay_s(failures))
                failures += 1

    async def publish(self) -> None:
        """Publish identity and keys, unless the server has them and enough.

        :raises RequestRefused, NoReply, Unreachable: if the server does not take them; the next call goes on.
        """
        for _ in range(ROUNDS):
            held = await self._session.insist(lambda connection: connection.key_status())
            upload = self.keyring.next_upload(held)
            if upload is None:
                return
            try:
                await self._session.insist(
                    lambda connection, upload=upload: connection.put_keys(  # type: ignore[misc]
                        upload.identity,
                        upload.one_time_keys or None,
                        upload.last_resort_keys or None,
                        is_anew=upload.is_anew or None,
                        key_history=upload.key_history,
                    )
                )
            except RequestRefused as refused:
                if refused.code != ErrorCode.KEY_HISTORY_FOREIGN.value:
                    raise

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
                    if not await self._learn_from(message.conversation, refused.error):
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
                    if not await self._learn_from(message.conversation, refused.error):
                        raise
            raise TooManyChanges

    async def give_key_again(self, message: Message, device: bytes) -> bytes | None:
        """An envelope of a message that this device has sent, for a device that lacks the key of it, such as one that
        was away for longer than the server keeps envelopes; see `client.e2ee.given_keys`.

        :return: None if that device may not have the key, or has no keys for a session.
        :raises RequestRefused, NoReply, Unreachable: if the devices, or a key for a session, have to be asked for.
        """
        async with self._locks[message.conversation]:
            await self.refresh(message.conversation)
            found = self.keyring.was_given(message, device)
            if found is None:
                return None
            user, has_session = found
            if not has_session:
                await self._claim([user])
            return self.keyring.give_again(message, device)

    async def watch(self, conversation: bytes, on_refreshed: Callable[[], object] = lambda: None) -> None:
        """Tell changes of a conversation's devices as soon as the server tells that there are some; ends only by being
        cancelled.

        :param on_refreshed: called whenever the devices are known anew.
        """
        failures = 0
        while True:
            if not (self._session.is_online and self._is_set_old(conversation)):
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
        if self._is_set_old(conversation):
            await self._ask_all(conversation)

    # The devices of a conversation, and their keys.

    async def _share_key(self, conversation: bytes) -> None:
        """Bring the key of the next content to the devices that lack it. Afterwards all have it that can."""
        if self._is_set_old(conversation):
            await self._ask_all(conversation)
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
                await self._claim(new)
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
            if not await self._learn_from(conversation, refused.error):
                raise
            return "refused"
        self.keyring.have_shared(conversation, message, at)
        return "shared"

    async def _claim(self, users: Sequence[bytes]) -> None:
        listed = await self._list_devices(users, kinds=[KIND])
        self.keyring.take_claimed(users, listed)
        self._tell_changes()

    def _is_set_old(self, conversation: bytes) -> bool:
        version = self.keyring.set_version(conversation)
        head = self._session.mailbox.head(conversation)
        return version is None or (head is not None and (head.devices_version or 0) > version)

    async def _learn_from(self, conversation: bytes, error: Error) -> bool:
        """Take what a refusal says of the devices; returns whether it was for these: then the caller tries again."""
        if error.code == ErrorCode.UNKNOWN_DEVICES.value:
            await self._ask_all(conversation)
            return True
        if error.code != ErrorCode.DEVICES_CHANGED.value:
            return False
        version, users, listed = await self._answer_of(error)
        is_known = self.keyring.take_difference(conversation, version, users, listed)
        self._tell_changes()
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
            self.keyring.take_set(conversation, *await self._answer_of(refused.error))
            self._tell_changes()

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

    def _tell_changes(self) -> None:
        changes = self.keyring.changes()
        for change in changes:
            self._on_change(change)
        if changes:
            self.keyring.have_told(changes)

    # What this device has missed.

    async def catch_up(self) -> None:
        """Take the messages of all conversations since the last time, the earliest first: keys come before what they
        open. Raises what `Session.insist` raises; the next call goes on."""
        mailbox = self._session.mailbox
        heads = [(conversation, mailbox.head(conversation)) for conversation in mailbox.conversations()]
        self.keyring.forget_gone({conversation: head.first_seq for conversation, head in heads if head is not None})
        for conversation, _ in heads:
            seq = self.keyring.progress(conversation)
            if seq is None:
                await self._begin(conversation)
            else:
                await self._go_on(conversation, seq)
        self._tell_changes()

    async def _begin(self, conversation: bytes) -> None:
        """The first time: all messages since this device was made."""
        pages: list[Messages] = []
        before: int | None = None
        while True:
            page = await self._history(conversation, before=before)
            if not page.messages:
                break
            pages.append(page)
            before = page.messages[-1].seq
            if not page.more or page.messages[-1].created < self.keyring.earliest:
                break
        for page in reversed(pages):
            self.keyring.keep(reversed(page.messages))
        if pages:
            self.keyring.note_progress(conversation, pages[0].messages[0].seq)

    async def _go_on(self, conversation: bytes, seq: int) -> None:
        head = self._session.mailbox.head(conversation)
        while head is not None and head.last_seq > seq:
            page = await self._history(conversation, after=seq)
            self.keyring.keep(page.messages)
            if page.messages:
                seq = page.messages[-1].seq
                self.keyring.note_progress(conversation, seq)
            if not page.more:
                return

    async def _history(self, conversation: bytes, *, before: int | None = None, after: int | None = None) -> Messages:
        return await self._session.insist(
            lambda connection: connection.history(conversation, count=PAGE, before=before, after=after)
        )
