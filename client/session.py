"""A device that stays connected and misses nothing.

`Session` reconnects, catches up, fills gaps, sends marks, watches, and sends messages with retries. All state changes
in steps without `await`; its tasks only wait for a condition on that state and act on it:

| task | waits until | does |
|---|---|---|
| `Link.run` | the connection is lost, or is to move | connects to the next gateway, renews the token in time |
| `Synchronizer.run` | connected again, lagging, or frames are missing | `sync`, and `history` for gaps that last |
| `MarkSender.run` | something new is stored or read | sends up-to marks |
| `Watcher.run` | connected again, or other users are to be watched | names the users to watch |
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import trio

from client import backoff
from client.connection import ABNORMAL, CLOSE_TIMEOUT_S, NAME, ClientConnection
from client.downloads import Downloader
from client.errors import ConnectionLost, NoReply, OutcomeUnknown, RequestRefused, Unreachable
from client.follower import Follower
from client.held import Entry
from client.http import Credentials
from client.link import Link
from client.mailbox import HeldPush, Mailbox
from client.mark_sender import MarkSender
from client.nursery import open_service_nursery
from client.object_store import ObjectStore
from client.renewal import LoginStore
from client.requests import Requests
from client.send_order import SendOrder
from client.signs import Sign
from client.synchronizer import Synchronizer
from client.uploads import Uploader
from client.watcher import Watcher
from protocol import ids
from protocol.frames import (
    Cursor,
    Envelope,
    KeysLow,
    Lag,
    Message,
    Messages,
    Move,
    Presence,
    Push,
    Reply,
    Request,
    Revised,
    Sent,
    Tombstone,
    Typing,
    Undecryptable,
)

SEND_TIMEOUT_S: Final = 60.0
"""For the answer to a request of the user, including reconnecting."""

OnSign: TypeAlias = Callable[[Sign], object]
OnLink: TypeAlias = Callable[[bool], object]
_T = TypeVar("_T")

OnKeysLow: TypeAlias = Callable[[list[str]], object]
OnUndecryptable: TypeAlias = Callable[[Undecryptable], object]


@asynccontextmanager
async def open_session(
    socket_urls: Sequence[str],
    credentials: Credentials,
    *,
    mailbox: Mailbox | None = None,
    login: LoginStore | None = None,
    on_sign: OnSign | None = None,
    on_link: OnLink | None = None,
    on_keys_low: OnKeysLow | None = None,
    on_undecryptable: OnUndecryptable | None = None,
    client: str = NAME,
    longest_pause_s: float = backoff.MOST_S,
) -> AsyncGenerator[Session]:
    """A session that runs until the block is left; the block begins at once, connected or not.

    If the session cannot go on, the block is cancelled and this `async with` raises `ConnectionLost`: the server says
    not to reconnect (the device was revoked, for instance).

    :param socket_urls: gateways, tried in this order, the next one after each loss.
    :param mailbox: with everything that this device holds already; empty, if left out.
    :param login: the store of the token, which the session renews: each program of this device has the same store. In
        memory, if left out.
    :param on_sign: called with each `typing` push, and each `presence` push of a watched user.
    :param on_link: called with False when the connection is lost, and with True when the session is online again.
    :param on_keys_low: called with the kinds of one-time keys of which this device should upload more, more than once.
    :param on_undecryptable: called when a device cannot decrypt a message that this one has written, more than once.
    :param client: name and version of the program, for the statistics of the server's operator.
    :param longest_pause_s: between attempts to connect, unless the server asks for a longer one.
    """
    session = Session(
        socket_urls,
        credentials,
        mailbox,
        login,
        on_sign,
        on_link=on_link,
        on_keys_low=on_keys_low,
        on_undecryptable=on_undecryptable,
        client=client,
        longest_pause_s=longest_pause_s,
    )
    async with open_service_nursery() as nursery:
        nursery.start_soon(session.run)
        try:
            yield session
        finally:
            await session.say_goodbye()


class Insisting(Requests):
    """Requests of a session, each repeated until the server answers it: see `Session.insist`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def request(self, frame: Request, *, timeout_s: float = SEND_TIMEOUT_S) -> Reply:
        return await self._session.insist(lambda connection: connection.request(frame), timeout_s)


class Session:
    """One device of one user. `run` has to run while the rest is used; `open_session` sees to that.

    :ivar mailbox: everything that this device holds; to be read, not to be changed.
    :ivar messages: the entries of `mailbox.log` since the beginning: see `follow`.
    """

    def __init__(
        self,
        socket_urls: Sequence[str],
        credentials: Credentials,
        mailbox: Mailbox | None = None,
        login: LoginStore | None = None,
        on_sign: OnSign | None = None,
        *,
        on_link: OnLink | None = None,
        on_keys_low: OnKeysLow | None = None,
        on_undecryptable: OnUndecryptable | None = None,
        client: str = NAME,
        longest_pause_s: float = backoff.MOST_S,
    ) -> None:
        self.mailbox: Final = Mailbox(credentials.user) if mailbox is None else mailbox
        self._link = Link(
            socket_urls,
            credentials,
            on_push=self._on_push,
            on_online=self._go_online,
            on_offline=self._go_offline,
            login=login,
            cursor=lambda: self.mailbox.cursor,
            client=client,
            longest_pause_s=longest_pause_s,
        )
        self._on_link = on_link
        self._on_keys_low = on_keys_low
        self._on_undecryptable = on_undecryptable
        self._send_order = SendOrder()
        self._was_lost = False
        self._is_leaving = False
        self._on_sign = on_sign
        self._synchronizer = Synchronizer(self._link, self.mailbox, self._wake)
        self._mark_sender = MarkSender(self._link, self.mailbox)
        self._watcher = Watcher(self._link)
        self._arrived = trio.lowlevel.ParkingLot()
        self._caught_up = trio.lowlevel.ParkingLot()
        self.messages: Final = self.follow()

    async def run(self) -> None:
        """Do all the work of the session; ends only by being cancelled or by an error.

        :raises ConnectionLost: if the server says not to reconnect.
        """
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._synchronizer.run)
            nursery.start_soon(self._mark_sender.run)
            nursery.start_soon(self._watcher.run)
            await self._link.run()

    async def say_goodbye(self) -> None:
        """Send the marks that are due, and `bye`, before `run` is cancelled; without this the connection just breaks
        off.

        Without marks for messages that were stored a moment ago, the server would wait for them, and send an offline
        notice.
        """
        self._is_leaving = True
        connection = self._link.connection
        if connection is not None:
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self._mark_sender.send_due(connection)
            await connection.bye()

    @property
    def user(self) -> bytes:
        """The user of this device."""
        return self._link.credentials.user

    @property
    def device(self) -> bytes:
        """This device: a message of the user with another `device` was written on another one."""
        return self._link.credentials.device

    @property
    def is_online(self) -> bool:
        """Whether the session has a welcomed connection."""
        return self._link.connection is not None

    @property
    def is_caught_up(self) -> bool:
        """Whether the mailbox holds everything up to the last welcome, and nothing is known to be missing."""
        return self.is_online and self._synchronizer.is_done

    @property
    def url(self) -> str | None:
        """The gateway that the session is connected to; None while it is offline."""
        return self._link.url

    def statistics(self) -> dict[str, Any]:
        """Its state, for debugging."""
        return {"is_online": self.is_online, "url": self.url, **self._synchronizer.statistics()}

    @property
    def last_error(self) -> ConnectionLost | Unreachable | None:
        """Why the last attempt to connect has failed, or the last connection has ended; None before that."""
        return self._link.last_error

    @property
    def features(self) -> frozenset[str]:
        """The names of the server's features; empty while the session is offline."""
        return self._link.features

    @property
    def limits(self) -> dict[str, int]:
        """The server's limits, by name; empty while the session is offline."""
        return self._link.connection.limits if self._link.connection else {}

    async def wait_online(self) -> ClientConnection:
        """Wait for a welcomed connection, return it; has no deadline of its own."""
        return await self._link.wait_online()

    async def wait_caught_up(self) -> None:
        """Wait until `is_caught_up`; has no deadline of its own."""
        while not self.is_caught_up:
            await self._caught_up.park()

    async def wait_changed(self) -> None:
        """Wait until the mailbox may have changed; has no deadline of its own."""
        await self._arrived.park()

    def follow(self) -> Follower:
        """The entries of `mailbox.log` from now on, own messages included; see there for its order."""
        return Follower(self.mailbox.log, self._arrived)

    async def send(
        self,
        conversation: bytes,
        content: bytes,
        *,
        content_type: str = "application/octet-stream",
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        reply_to: int | None = None,
        attachments: list[bytes] | None = None,
        thumbnail: bytes | None = None,
        is_quiet: bool = False,
        temp_id: bytes | None = None,
        devices_version: int | None = None,
        envelopes: list[Envelope] | None = None,
        follows: int | None = None,
        wants_devices: bool = False,
        kinds: list[str] | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Sent:
        """Send a message; returns when it is committed, and in the mailbox.

        The session retries with the same `temp_id`, over lost connections and retryable errors. Messages go out in the
        order of the calls, on each connection anew; one that waits for a later attempt holds up no other. If this is
        cancelled, the server may or may not store the message; if it does, catching up brings it.

        :param reply_to: the seq of the message that it answers.
        :param attachments: ids of complete uploads of the user's own.
        :param thumbnail: a small ciphertext beside the content.
        :param is_quiet: it counts neither as unread nor for notices, such as a message of keys.
        :param temp_id: 16 bytes; `new_temp_id` if left out.
        :param devices_version: as in `Requests.send`, with `envelopes`, `follows`, `wants_devices` and `kinds`;
            `client.control_chain` sends control messages.
        :raises RequestRefused: by an error that is not retryable.
        :raises OutcomeUnknown: if no acknowledgement came within `timeout_s` seconds.
        :raises Unreachable: if the session was offline during that time: the message is not stored.
        :raises LocalProtocolError: if a field is out of bounds.
        """
        key = self.new_temp_id() if temp_id is None else temp_id
        sending = self.mailbox.sending

        def came() -> Sent | None:
            # Its `sent` may have been lost: then catching up brings the message.
            held = sending.get(key)
            if held is None:
                return None
            return Sent(0, held.seq, held.message, held.created, held.device, held.quiet_count)

        async def ask(connection: ClientConnection) -> Sent:
            if not await turn.wait(connection):
                raise ConnectionLost(ABNORMAL, "another connection has taken its place")
            if (held := came()) is not None:
                return held
            turn.take(connection)
            return await connection.send(
                conversation,
                content,
                temp_id=key,
                content_type=content_type,
                nonce=nonce,
                ephemeral_public_key=ephemeral_public_key,
                reply_to=reply_to,
                attachments=attachments,
                thumbnail=thumbnail,
                is_quiet=is_quiet,
                devices_version=devices_version,
                envelopes=envelopes,
                follows=follows,
                wants_devices=wants_devices,
                kinds=kinds,
            )

        sending[key] = None
        turn = self._send_order.begin()
        try:
            sent = await self._link.insist(ask, timeout_s)
        except (NoReply, Unreachable) as error:
            if (held := came()) is None:
                raise OutcomeUnknown(key) if isinstance(error, NoReply) else error from None
            sent = held
        except RequestRefused as refused:
            self._learn_from(conversation, refused)
            raise
        finally:
            sending.pop(key, None)
            self._send_order.end(turn)
        self._apply(
            Message(
                conversation,
                sent.seq,
                sent.message,
                sent.created,
                self.user,
                content_type,
                content,
                nonce,
                ephemeral_public_key,
                key,
                sent.device or self.device,
                reply_to=reply_to,
                attachments=attachments,
                thumbnail=thumbnail,
                is_quiet=is_quiet or None,
                has_envelopes=bool(envelopes) or None,
                follows=follows,
                quiet_count=sent.quiet_count,
            )
        )
        return sent

    async def insist(self, ask: Callable[[ClientConnection], Awaitable[_T]], timeout_s: float = SEND_TIMEOUT_S) -> _T:
        """Make a request of any kind; see `client.link.Link.insist`."""
        return await self._link.insist(ask, timeout_s)

    def new_temp_id(self) -> bytes:
        """A UUID of version 7, by the server's clock."""
        return ids.uuid7(self._link.server_ms(), secrets.token_bytes(ids.NOISE_BYTES))

    async def edit(
        self,
        message: Message,
        content: bytes,
        *,
        content_type: str | None = None,
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        attachments: list[bytes] | None = None,
        thumbnail: bytes | None = None,
        devices_version: int | None = None,
        wants_devices: bool = False,
        kinds: list[str] | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Revised:
        """Put other content into a message of the user's own; returns when that is committed, and held.

        :param message: as it is held; if another device was quicker, the server refuses: `revision_conflict`.
        :param content_type: that of the message, if left out.
        :param attachments: of the message from now on: those that it keeps, and new ones; None: none.
        :param thumbnail: instead of the one before; None: none.
        :param devices_version: as in `Requests.edit`, with `wants_devices` and `kinds`.
        :raises RequestRefused: by an error that is not retryable.
        :raises NoReply: if the server may have done it or not; `Unreachable`: if it has not.
        """

        async def ask(connection: ClientConnection) -> Revised:
            return await connection.edit(
                message.conversation,
                message.seq,
                content,
                revision=message.revision or 0,
                content_type=content_type or message.content_type,
                nonce=nonce,
                ephemeral_public_key=ephemeral_public_key,
                attachments=attachments,
                thumbnail=thumbnail,
                devices_version=devices_version,
                wants_devices=wants_devices,
                kinds=kinds,
            )

        try:
            revised = await self._link.insist(ask, timeout_s)
        except RequestRefused as refused:
            self._learn_from(message.conversation, refused)
            raise
        self._apply(
            Message(
                message.conversation,
                message.seq,
                message.message,
                message.created,
                message.sender,
                content_type or message.content_type,
                content,
                nonce,
                ephemeral_public_key,
                message.temp_id,
                self.device,
                revised.revision,
                revised.edited,
                message.reply_to,
                attachments,
                thumbnail,
                message.is_quiet,
                message.has_envelopes,
                message.follows,
                message.quiet_count,
                message.envelope,
            )
        )
        return revised

    async def delete(self, message: Entry, *, for_everyone: bool, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Delete a message; returns when that is committed, and the tombstone held. Raises what `edit` raises.

        :param for_everyone: its sender may, and an administrator of the group; else for this user alone.
        """

        async def ask(connection: ClientConnection) -> None:
            await connection.delete(message.conversation, message.seq, for_everyone=for_everyone)

        await self._link.insist(ask, timeout_s)
        actor = self.mailbox.user if for_everyone and message.sender != self.mailbox.user else None
        key = (message.conversation, message.seq, message.message, message.created, message.sender)
        self._apply(Tombstone(*key, message.is_quiet, actor, message.quiet_count))

    def uploader(self, store: ObjectStore) -> Uploader:
        """The uploads of this device."""
        return Uploader(self._link, store)

    def downloader(self, store: ObjectStore) -> Downloader:
        """The downloads of this device."""
        return Downloader(self._link, store)

    def mark_read(self, conversation: bytes, seq: int) -> None:
        """The user has read a conversation up to `seq`; the session soon tells the server."""
        self.mailbox.read.lift(conversation, seq)
        self._mark_sender.wake()

    def watch(self, users: Sequence[bytes]) -> None:
        """From now on get the presence of these users and of no others, over all reconnections.

        :param users: only the first `limits.MAX_WATCHED` count.
        """
        self._watcher.watch(users)

    async def load_older(self, conversation: bytes, count: int, *, timeout_s: float = SEND_TIMEOUT_S) -> bool:
        """Load at most `count` messages from before the held ones; returns whether there were any.

        Raises what `edit` raises.
        """
        before = self.mailbox.older_before(conversation)
        if before is None:
            return False

        async def ask(connection: ClientConnection) -> Messages:
            return await connection.history(conversation, before=before, count=count)

        page = await self._link.insist(ask, timeout_s)
        self._synchronizer.take_page(conversation, page)
        return bool(page.messages)

    def _learn_from(self, conversation: bytes, refused: RequestRefused) -> None:
        self.mailbox.learn_from(conversation, refused.error)
        self._wake()

    def _apply(self, *entries: Entry) -> None:
        """Take messages from any source."""
        self.mailbox.apply(entries)
        self._wake()

    def _wake(self) -> None:
        """The mailbox may have changed: wake all tasks that wait for a condition on it."""
        self._arrived.unpark_all()
        self._mark_sender.wake()
        self._synchronizer.wake()
        if self.is_caught_up:
            self._caught_up.unpark_all()

    async def _on_push(self, push: Push) -> None:
        match push:
            case Lag():
                self._synchronizer.take_lag()
            case Cursor():
                self._synchronizer.take_cursor(push)
                self._wake()
            case Move():
                self._link.move(push.retry_after_ms / 1000)
            case Presence() | Typing():
                if self._on_sign is not None:
                    self._on_sign(push)
            case KeysLow():
                if self._on_keys_low is not None:
                    self._on_keys_low(push.kinds)
            case Undecryptable():
                if self._on_undecryptable is not None:
                    self._on_undecryptable(push)
            case _:
                # mypy checks that the mailbox holds each push that has no case above.
                held: HeldPush = push
                self.mailbox.feed(held)
                self._wake()

    def _go_online(self, is_resumed: bool) -> None:
        """The link is online.

        :param is_resumed: the news since the mailbox's cursor come by themselves.
        """
        if self._was_lost and self._on_link is not None:
            self._on_link(True)
        self._was_lost = False
        self._synchronizer.begin(is_resumed=is_resumed)
        self._watcher.renew()
        self._mark_sender.wake()

    def _go_offline(self) -> None:
        if not self._is_leaving:
            self._was_lost = True
            if self._on_link is not None:
                self._on_link(False)
