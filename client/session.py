"""A device that stays connected and misses nothing.

`Session` reconnects, catches up, fills gaps, marks what it has stored and what was read, watches, and sends with
retries. All state is changed in steps without `await`; its tasks only wait for a condition on that state and act on it:

| task | waits until | does |
|---|---|---|
| `Link.run` | the connection is lost, or is to move | connects to the next gateway, renews the token in time |
| `CatchUp.run` | connected anew, lagging, or something is missing | `sync`, and `history` for gaps that last |
| `MarkSender.run` | something new is stored or read | sends up-to marks |
| `Watcher.run` | connected anew, or others are to be watched | says whose presence is wanted |
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import trio

from client import backoff
from client.catch_up import CatchUp
from client.connection import CLOSE_TIMEOUT_S, NAME, ClientConnection
from client.errors import ConnectionLost, NoReply, OutcomeUnknown, Unreachable
from client.follower import Follower
from client.held import Entry
from client.http import Credentials
from client.link import Link, OnToken
from client.mailbox import Mailbox
from client.mark_sender import MarkSender
from client.nursery import open_service_nursery
from client.signs import Sign
from client.watcher import Watcher
from protocol import ids
from protocol.frames import (
    Cursor,
    Lag,
    Message,
    Messages,
    Move,
    Presence,
    Push,
    Revised,
    Sent,
    Tombstone,
    Typing,
)

SEND_TIMEOUT_S: Final = 60.0
"""For a request of the user's to be answered, reconnecting included."""

OnSign: TypeAlias = Callable[[Sign], object]
OnLink: TypeAlias = Callable[[bool], object]


@asynccontextmanager
async def open_session(
    socket_urls: Sequence[str],
    credentials: Credentials,
    *,
    mailbox: Mailbox | None = None,
    on_token: OnToken | None = None,
    on_sign: OnSign | None = None,
    on_link: OnLink | None = None,
    client: str = NAME,
    longest_pause_s: float = backoff.MOST_S,
) -> AsyncGenerator[Session]:
    """A session that runs until the block is left; the block begins at once, connected or not.

    If the session cannot go on, the block is cancelled and `ConnectionLost` comes out of this `async with`: the server
    says not to reconnect (the device was revoked, for instance).

    :param socket_urls: gateways, tried in this order, the next one after each loss.
    :param mailbox: what this device holds already; nothing, if left out.
    :param on_token: called with the credentials that count from now on, to be kept: tokens are renewed.
    :param on_sign: called with each push about who types, or, of those that are watched, who is online.
    :param on_link: called with False when the connection is lost, and with True when there is one again.
    :param client: name and version of the program, for the figures of the server's operator.
    :param longest_pause_s: between attempts to connect, unless the server asks for a longer one.
    """
    session = Session(
        socket_urls,
        credentials,
        mailbox,
        on_token,
        on_sign,
        on_link=on_link,
        client=client,
        longest_pause_s=longest_pause_s,
    )
    async with open_service_nursery() as nursery:
        nursery.start_soon(session.run)
        try:
            yield session
        finally:
            await session.say_goodbye()


class Session:
    """One device of one user. `run` has to run while the rest is used; `open_session` sees to that.

    :ivar mailbox: what this device holds; to be read, not to be changed.
    :ivar messages: what came into `mailbox.log` since the beginning: see `follow`.
    """

    def __init__(
        self,
        socket_urls: Sequence[str],
        credentials: Credentials,
        mailbox: Mailbox | None = None,
        on_token: OnToken | None = None,
        on_sign: OnSign | None = None,
        *,
        on_link: OnLink | None = None,
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
            on_token=on_token,
            cursor=lambda: self.mailbox.cursor,
            client=client,
            longest_pause_s=longest_pause_s,
        )
        self._on_link = on_link
        self._was_lost = False
        self._is_leaving = False
        self._on_sign = on_sign
        self._catch_up = CatchUp(self._link, self.mailbox, self._wake)
        self._mark_sender = MarkSender(self._link, self.mailbox)
        self._watcher = Watcher(self._link)
        self._arrived = trio.lowlevel.ParkingLot()
        self._caught_up = trio.lowlevel.ParkingLot()
        self.messages: Final = self.follow()

    async def run(self) -> None:
        """Do all of a session's work; ends only by being cancelled or by an error.

        :raises ConnectionLost: if the server says not to reconnect.
        """
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._catch_up.run)
            nursery.start_soon(self._mark_sender.run)
            nursery.start_soon(self._watcher.run)
            await self._link.run()

    async def say_goodbye(self) -> None:
        """Say which marks are due, and `bye`, before `run` is cancelled; without this the connection just breaks off.

        What was stored a moment ago would else be waited for by the server, and end as an offline notice.
        """
        self._is_leaving = True
        connection = self._link.connection
        if connection is not None:
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self._mark_sender.send_due(connection)
            await connection.bye()

    @property
    def user(self) -> bytes:
        """Whose device this is."""
        return self._link.credentials.user

    @property
    def is_online(self) -> bool:
        """Whether there is a connection that has been welcomed."""
        return self._link.connection is not None

    @property
    def is_caught_up(self) -> bool:
        """Whether all is held that there was at the last welcome, and nothing is known to be missing."""
        return self.is_online and self._catch_up.is_done

    @property
    def url(self) -> str | None:
        """The gateway that the session is connected to; None while there is no connection."""
        return self._link.url

    def statistics(self) -> dict[str, Any]:
        """Its state, for whoever looks for a fault."""
        return {"is_online": self.is_online, "url": self.url, **self._catch_up.statistics()}

    @property
    def last_error(self) -> ConnectionLost | Unreachable | None:
        """Why the last attempt to connect has failed, or the last connection has ended; None before that."""
        return self._link.last_error

    @property
    def features(self) -> frozenset[str]:
        """What the server can do, by name; none while there is no connection."""
        return self._link.features

    @property
    def limits(self) -> dict[str, int]:
        """What the server allows, by name; empty while there is no connection."""
        return self._link.connection.limits if self._link.connection else {}

    async def wait_online(self) -> ClientConnection:
        """Wait for a welcomed connection, return it; has no deadline of its own."""
        return await self._link.wait_online()

    async def wait_caught_up(self) -> None:
        """Wait until `is_caught_up`; has no deadline of its own."""
        while not self.is_caught_up:
            await self._caught_up.park()

    def follow(self) -> Follower:
        """What comes into `mailbox.log` from now on, own messages included; see there for its order."""
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
        temp_id: bytes | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Sent:
        """Send a message; returns when it is committed, and in the mailbox.

        It is tried again, with the same `temp_id`, over lost connections and errors that may pass. If this is
        cancelled, the message may or may not be stored; if it was, catching up brings it.

        :param reply_to: the seq of the message that it answers.
        :param temp_id: 16 bytes; a UUID of version 7, by the server's clock, if left out.
        :raises RequestRefused: for good: by an error that is not to be retried.
        :raises OutcomeUnknown: if there was no acknowledgement within `timeout_s` seconds.
        :raises Unreachable: if in that time there was no connection on which to send it at all: it is not stored.
        :raises LocalProtocolError: if a field is out of bounds.
        """
        key = self._new_temp_id() if temp_id is None else temp_id
        sending = self.mailbox.sending

        def came() -> Sent | None:
            # Its `sent` may have been lost: then the message comes like everything else that was missed.
            held = sending.get(key)
            return None if held is None else Sent(0, held.seq, held.message, held.created)

        async def ask(connection: ClientConnection) -> Sent:
            return came() or await connection.send(
                conversation,
                content,
                temp_id=key,
                content_type=content_type,
                nonce=nonce,
                ephemeral_public_key=ephemeral_public_key,
                reply_to=reply_to,
            )

        sending[key] = None
        try:
            sent = await self._link.insist(ask, timeout_s)
        except (NoReply, Unreachable) as error:
            if (held := came()) is None:
                raise OutcomeUnknown(key) if isinstance(error, NoReply) else error from None
            sent = held
        finally:
            sending.pop(key, None)
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
                reply_to=reply_to,
            )
        )
        return sent

    def _new_temp_id(self) -> bytes:
        return ids.uuid7(self._link.server_ms(), secrets.token_bytes(ids.NOISE_BYTES))

    async def edit(
        self,
        message: Message,
        content: bytes,
        *,
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Revised:
        """Put other content of the same type into a message of one's own; returns when that is committed, and held.

        :param message: as it is held; if another device was quicker it is `revision_conflict`.
        :raises RequestRefused: for good: by an error that is not to be retried.
        :raises NoReply: if it may be done or not; `Unreachable`: if it is not.
        """

        async def ask(connection: ClientConnection) -> Revised:
            return await connection.edit(
                message.conversation,
                message.seq,
                content,
                revision=message.revision or 0,
                content_type=message.content_type,
                nonce=nonce,
                ephemeral_public_key=ephemeral_public_key,
            )

        revised = await self._link.insist(ask, timeout_s)
        self._apply(
            Message(
                message.conversation,
                message.seq,
                message.message,
                message.created,
                message.sender,
                message.content_type,
                content,
                nonce,
                ephemeral_public_key,
                message.temp_id,
                revised.revision,
                revised.edited,
                message.reply_to,
            )
        )
        return revised

    async def delete(self, message: Entry, *, for_everyone: bool, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Delete a message; returns when that is committed, and a tombstone held. Raises what `edit` raises.

        :param for_everyone: its sender may, and an administrator of the group; else for this user alone.
        """

        async def ask(connection: ClientConnection) -> None:
            await connection.delete(message.conversation, message.seq, for_everyone=for_everyone)

        await self._link.insist(ask, timeout_s)
        actor = self.mailbox.user if for_everyone and message.sender != self.mailbox.user else None
        key = (message.conversation, message.seq, message.message, message.created, message.sender)
        self._apply(Tombstone(*key, actor))

    def mark_read(self, conversation: bytes, seq: int) -> None:
        """The user has read a conversation up to `seq`; the server is told soon."""
        self.mailbox.read.lift(conversation, seq)
        self._mark_sender.wake()

    def watch(self, users: Sequence[bytes]) -> None:
        """From now on hear of these users' presence, over all reconnections, and of no others'.

        :param users: only the first `limits.MAX_WATCHED` count.
        """
        self._watcher.watch(users)

    async def load_older(self, conversation: bytes, count: int, *, timeout_s: float = SEND_TIMEOUT_S) -> bool:
        """Load at most `count` messages from before those that are held; returns whether there were any.

        Raises what `edit` raises.
        """
        before = self.mailbox.older_before(conversation)
        if before is None:
            return False

        async def ask(connection: ClientConnection) -> Messages:
            return await connection.history(conversation, before=before, count=count)

        page = await self._link.insist(ask, timeout_s)
        self._catch_up.take_page(conversation, page)
        return bool(page.messages)

    def _apply(self, *entries: Entry) -> None:
        """Take messages from wherever they came."""
        self.mailbox.apply(entries)
        self._wake()

    def _wake(self) -> None:
        """The mailbox may have changed: everyone sees whether it is what they wait for."""
        self._arrived.unpark_all()
        self._mark_sender.wake()
        self._catch_up.wake()
        if self.is_caught_up:
            self._caught_up.unpark_all()

    async def _on_push(self, push: Push) -> None:
        match push:
            case Lag():
                self._catch_up.take_lag()
            case Cursor():
                self._catch_up.take_cursor(push)
                self._wake()
            case Move():
                self._link.move(push.retry_after_ms / 1000)
            case Presence() | Typing():
                if self._on_sign is not None:
                    self._on_sign(push)
            case _ if self.mailbox.feed(push):
                self._wake()

    def _go_online(self, is_resumed: bool) -> None:
        """Welcomed: from here on pushes come, so what is read from now on leaves nothing out.

        :param is_resumed: what is new since the mailbox's cursor comes by itself.
        """
        if self._was_lost and self._on_link is not None:
            self._on_link(True)
        self._was_lost = False
        self._catch_up.begin(is_resumed=is_resumed)
        self._watcher.renew()
        self._mark_sender.wake()

    def _go_offline(self) -> None:
        if not self._is_leaving:
            self._was_lost = True
            if self._on_link is not None:
                self._on_link(False)
