"""A device that stays connected and misses nothing.

`Session` reconnects, catches up, fills holes, marks what it has stored and what was read, watches, and sends with
retries. All state is changed in steps without `await`; its tasks only wait for a condition on that state and act on it:

| task | waits until | does |
|---|---|---|
| `Link.run` | the connection is lost, or is to move | connects to the next gateway, renews the token in time |
| `_synchronise` | connected anew, lagging, or something is missing | `sync`, and `history` for holes that last |
| `_mark` | something new is stored or read | sends up-to marks |
| `_watch` | connected anew, or others are to be watched | says whose presence is wanted |
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self, TypeAlias

import trio

from client import backoff
from client.connection import CLOSE_TIMEOUT_S, NAME, PAGES_AHEAD, ClientConnection
from client.errors import ConnectionLost, NoReply, OutcomeUnknown, RequestRefused, Unreachable
from client.http import Credentials
from client.link import Link, OnToken
from client.mailbox import Entry, Hole, Mailbox
from client.marks import Marks
from client.nursery import open_service_nursery
from client.requests import SYNC_TIMEOUT_S
from client.signs import Sign
from protocol import ids, limits
from protocol.codes import ErrorCode
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

HOLE_PATIENCE_S: Final = 0.3
"""How long a hole may last before it is fetched: pushes and own replies overtake each other by less."""

MARK_INTERVAL_S: Final = 1.0
"""At most one request with marks in this time, all conversations in it; a tenth of the server's debounce window."""

_ANEW: Final = (ErrorCode.CURSOR_FOREIGN.value, ErrorCode.CURSOR_EXPIRED.value)
"""Why a `sync` is refused when the device has to begin anew."""

OnSign: TypeAlias = Callable[[Sign], object]
OnLink: TypeAlias = Callable[[bool], object]
SayMarks: TypeAlias = Callable[[ClientConnection, list[tuple[bytes, int]]], Awaitable[None]]


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
        self._watched: list[bytes] = []
        self._is_watch_due = False
        self._is_stale = True
        self._is_syncing = False
        self._resumes_until = -math.inf
        self._pages_due = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._due = trio.lowlevel.ParkingLot()
        self._amiss = trio.lowlevel.ParkingLot()
        self._unwatched = trio.lowlevel.ParkingLot()
        self._caught_up = trio.lowlevel.ParkingLot()
        self.messages: Final = self.follow()

    async def run(self) -> None:
        """Do all of a session's work; ends only by being cancelled or by an error.

        :raises ConnectionLost: if the server says not to reconnect.
        """
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._synchronise)
            nursery.start_soon(self._mark)
            nursery.start_soon(self._watch)
            await self._link.run()

    async def say_goodbye(self) -> None:
        """Say which marks are due, and `bye`, before `run` is cancelled; without this the connection just breaks off.

        What was stored a moment ago would else be waited for by the server, and end as an offline notice.
        """
        self._is_leaving = True
        connection = self._link.connection
        if connection is not None:
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await self._say_due_marks(connection)
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
        is_held = not (self._is_stale or self._is_syncing or self._is_resuming) and self.mailbox.is_complete
        return self.is_online and is_held

    @property
    def last_error(self) -> ConnectionLost | Unreachable | None:
        """Why the last attempt to connect has failed, or the last connection has ended; None before that."""
        return self._link.last_error

    @property
    def features(self) -> frozenset[str]:
        """What the server can do, by name; none while there is no connection."""
        return self._link.connection.features if self._link.connection else frozenset()

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
        return Follower(self)

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
        self._due.unpark_all()

    def watch(self, users: Sequence[bytes]) -> None:
        """From now on hear of these users' presence, over all reconnections, and of no others'.

        :param users: only the first `limits.MAX_WATCHED` count.
        """
        self._watched = list(users[: limits.MAX_WATCHED])
        self._is_watch_due = True
        self._unwatched.unpark_all()

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
        self._take_page(conversation, page)
        return bool(page.messages)

    def _apply(self, *entries: Entry) -> None:
        """Take messages from wherever they came."""
        self.mailbox.apply(entries)
        self._wake()

    def _wake(self) -> None:
        """The mailbox may have changed: everyone sees whether it is what they wait for."""
        self._arrived.unpark_all()
        self._due.unpark_all()
        if self._is_amiss:
            self._amiss.unpark_all()
        if self.is_caught_up:
            self._caught_up.unpark_all()

    async def _on_push(self, push: Push) -> None:
        match push:
            case Lag():
                self._resumes_until = -math.inf
                self._is_stale = True
                self._amiss.unpark_all()
            case Cursor():
                self._take_cursor(push)
                self._wake()
            case Move():
                self._link.move(push.retry_after_ms / 1000)
            case Presence() | Typing():
                if self._on_sign is not None:
                    self._on_sign(push)
            case _ if self.mailbox.feed(push):
                self._wake()

    def _take_cursor(self, push: Cursor) -> None:
        """All that came before it is held: a page of what was asked for, or what was pushed."""
        if self._is_syncing:
            # Until it is over the cursors of its own pages say how far it has come: there is more after them.
            if push.more:
                self.mailbox.synced(push)
            self._resumes_until = -math.inf
            return
        self.mailbox.synced(push)
        self._pages_due = max(self._pages_due - 1, 0) if push.more else 0
        if self._pages_due:
            self._resumes_until = trio.current_time() + SYNC_TIMEOUT_S
        else:
            self._is_stale = self._is_stale or push.more
            self._resumes_until = -math.inf

    def _go_online(self, is_resumed: bool) -> None:
        """Welcomed: from here on pushes come, so what is read from now on leaves nothing out.

        :param is_resumed: what is new since the mailbox's cursor comes by itself.
        """
        if self._was_lost and self._on_link is not None:
            self._on_link(True)
        self._was_lost = False
        self._is_stale = not is_resumed
        self._pages_due = PAGES_AHEAD if is_resumed and "pages" in self.features else 0
        self._resumes_until = trio.current_time() + SYNC_TIMEOUT_S if is_resumed else -math.inf
        self._is_watch_due = bool(self._watched)
        self._due.unpark_all()
        self._amiss.unpark_all()
        self._unwatched.unpark_all()

    def _go_offline(self) -> None:
        if not self._is_leaving:
            self._was_lost = True
            if self._on_link is not None:
                self._on_link(False)

    @property
    def _is_resuming(self) -> bool:
        return trio.current_time() < self._resumes_until

    @property
    def _is_amiss(self) -> bool:
        is_missing = not self._is_resuming and not self.mailbox.is_complete
        return self.is_online and (self._is_stale or is_missing)

    async def _synchronise(self) -> None:
        failures = 0
        while True:
            while not self._is_amiss:
                with trio.move_on_at(self._resumes_until if self._is_resuming else math.inf) as patience:
                    await self._amiss.park()
                # What was to come by itself has not.
                self._is_stale = self._is_stale or patience.cancelled_caught
            connection, pause_s = await self.wait_online(), backoff.delay_s(failures)
            try:
                is_better = await self._catch_up(connection)
            except (ConnectionLost, NoReply):
                is_better = False
            except RequestRefused as refused:
                is_better, pause_s = False, max(pause_s, (refused.retry_after_ms or 0) / 1000)
            self._wake()
            if is_better:
                failures = 0
            else:
                failures += 1
                await trio.sleep(pause_s)

    async def _catch_up(self, connection: ClientConnection) -> bool:
        """Do one thing about what is missing; returns whether it helped."""
        if self._is_stale or self.mailbox.unknown():
            await self._sync(connection)
            return not self.mailbox.unknown()
        before = {hole[:2] for hole in self.mailbox.holes()}
        await trio.sleep(HOLE_PATIENCE_S)
        lasting = [hole for hole in self.mailbox.holes() if hole[:2] in before]
        for hole in lasting:
            await self._fill(connection, hole)
        after = {hole[:2] for hole in self.mailbox.holes()}
        return not any(hole[:2] in after for hole in lasting)

    async def _sync(self, connection: ClientConnection) -> None:
        # Before asking: a `lag` or a reconnection meanwhile sets it, and then all is asked again.
        self._is_stale, self._is_syncing = False, True
        try:
            while True:
                synced = await connection.sync(
                    self.mailbox.cursor, pages=PAGES_AHEAD if "pages" in self.features else None
                )
                self.mailbox.synced(synced)
                if not synced.more:
                    return
        except BaseException as error:
            self._is_stale = True
            if isinstance(error, RequestRefused) and error.code in _ANEW:
                self.mailbox.drop()
                return
            raise
        finally:
            self._is_syncing = False

    async def _fill(self, connection: ClientConnection, hole: Hole) -> None:
        try:
            page = await connection.history(
                hole.conversation, after=hole.after_seq, before=hole.before_seq, count=limits.MAX_COUNT
            )
        except RequestRefused as refused:
            if refused.code != ErrorCode.NOT_A_PARTICIPANT.value:
                raise
            self.mailbox.forget_missing(hole.conversation)
        else:
            self._take_page(hole.conversation, page)

    def _take_page(self, conversation: bytes, page: Messages) -> None:
        if page.first_seq is not None:
            self.mailbox.raise_floor(conversation, page.first_seq)
        self._apply(*page.messages)

    async def _mark(self) -> None:
        while True:
            while not (self.is_online and any(marks.due(1) for marks, _ in self._kinds_of_marks())):
                await self._due.park()
            await trio.sleep(MARK_INTERVAL_S)
            if self._link.connection is not None:
                await self._say_due_marks(self._link.connection)

    async def _say_due_marks(self, connection: ClientConnection) -> None:
        for marks, say in self._kinds_of_marks():
            if due := marks.due():
                await self._say_marks(connection, marks, due, say)

    def _kinds_of_marks(self) -> tuple[tuple[Marks, SayMarks], ...]:
        # Anew each time: a mailbox that was dropped has others.
        return (self.mailbox.delivered, ClientConnection.mark_delivered), (
            self.mailbox.read,
            ClientConnection.mark_read,
        )

    async def _say_marks(
        self,
        connection: ClientConnection,
        marks: Marks,
        due: list[tuple[bytes, int]],
        say: SayMarks,
    ) -> None:
        try:
            await say(connection, due)
        except (ConnectionLost, NoReply):
            return  # still due
        except RequestRefused as refused:
            if refused.retry_after_ms is not None:
                await trio.sleep(backoff.after_s(refused.retry_after_ms, 0))
                return
        marks.confirm(due)

    async def _watch(self) -> None:
        while True:
            while not (self.is_online and self._is_watch_due):
                await self._unwatched.park()
            # Before asking: whoever wants others watched meanwhile, or reconnects, sets it, and all is said again.
            self._is_watch_due = False
            try:
                await self._link.insist(lambda connection: connection.watch(self._watched), SEND_TIMEOUT_S)
            except (NoReply, Unreachable):
                self._is_watch_due = True
            except RequestRefused:
                continue  # For good, by a server that knows no presence: chatting goes on without.


class Follower:
    """A position in the mailbox's log that moves on as it is read. Nobody has to: the log keeps everything anyway."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._position = len(session.mailbox.log)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        """The next one; one task at a time."""
        await trio.lowlevel.checkpoint()
        log = self._session.mailbox.log
        while self._position >= len(log):
            await self._session._arrived.park()
        entry = log[self._position]
        self._position += 1
        return entry
