"""A device that stays connected and misses nothing.

`Session` connects, reconnects, catches up, fills holes, marks what it has stored as delivered, and sends with retries.
All state is changed in steps without `await`: `_apply` and `_go_online`. Its tasks only wait for a condition on that
state and act on it:

| task | waits until | does |
|---|---|---|
| `_stay_connected` | the connection is lost | connects to the next gateway |
| `_synchronise` | connected anew, or something is missing | reads lists and history over HTTP |
| `_mark` | something new is stored | sends up-to marks |
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, Self

import trio

from client import backoff, catch_up
from client.connection import Connection, connect
from client.errors import ConnectionLost, HttpRefused, NoReply, OutcomeUnknown, RequestRefused, Unreachable
from client.http import Credentials, HttpClient
from client.mailbox import Mailbox
from client.nursery import open_service_nursery
from protocol import limits
from protocol.frames import Message, Push, Sent

SEND_TIMEOUT_S: Final = 60.0
"""For a message to be acknowledged, reconnecting included."""

HOLE_PATIENCE_S: Final = 0.3
"""How long a hole may last before it is fetched: pushes and own replies overtake each other by less."""

MARK_INTERVAL_S: Final = 1.0
"""At most one request with marks in this time, all conversations in it; a tenth of the server's debounce window."""


@asynccontextmanager
async def open_session(
    http: HttpClient,
    socket_urls: Sequence[str],
    credentials: Credentials,
    *,
    mailbox: Mailbox | None = None,
) -> AsyncGenerator[Session]:
    """A session that runs until the block is left; the block begins at once, connected or not.

    If the session cannot go on, the block is cancelled and the reason comes out of this `async with`:
    `ConnectionLost` if the server says not to reconnect (the token was revoked, for instance), or `HttpRefused`.

    :param http: which server to ask; the credentials' token is used.
    :param socket_urls: gateways, tried in this order, the next one after each loss.
    :param mailbox: what this device holds already; nothing, if left out.
    """
    session = Session(http, socket_urls, credentials, mailbox)
    async with open_service_nursery() as nursery:
        nursery.start_soon(session.run)
        try:
            yield session
        finally:
            await session.say_goodbye()


class Session:
    """One device of one user. `run` has to run while the rest is used; `open_session` sees to that.

    :ivar mailbox: what this device holds; to be read, not to be changed.
    :ivar messages: every message, own ones included, once, in order of `seq` within its conversation, beginning with
        what the session added to the mailbox. One iteration at a time. Nobody has to read it: it is a position in
        `mailbox.log`, which keeps everything anyway.
    """

    def __init__(
        self,
        http: HttpClient,
        socket_urls: Sequence[str],
        credentials: Credentials,
        mailbox: Mailbox | None = None,
    ) -> None:
        if not socket_urls:
            raise ValueError("a session needs the URL of at least one gateway")
        self.mailbox: Final = Mailbox() if mailbox is None else mailbox
        self.credentials: Final = credentials
        self.messages: Final[AsyncIterator[Message]] = _Messages(self)
        self._http = http.with_token(credentials.token)
        self._socket_urls = list(socket_urls)
        self._connection: Connection | None = None
        self._is_stale = True
        self._online = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()
        self._stored = trio.lowlevel.ParkingLot()
        self._amiss = trio.lowlevel.ParkingLot()
        self._caught_up = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """Do all of a session's work; ends only by being cancelled or by an error.

        :raises ConnectionLost: if the server says not to reconnect.
        :raises HttpRefused: if it refuses to show lists or history for good.
        """
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._synchronise)
            nursery.start_soon(self._mark)
            await self._stay_connected()

    async def say_goodbye(self) -> None:
        """Close the connection with a closing handshake, before `run` is cancelled; without this it just breaks off."""
        if self._connection is not None:
            await self._connection.aclose()

    @property
    def is_online(self) -> bool:
        """Whether there is a connection that has been welcomed."""
        return self._connection is not None

    @property
    def is_caught_up(self) -> bool:
        """Whether lists and history have been read since the last welcome, and no hole is known."""
        return self.is_online and not self._is_stale and self.mailbox.is_complete

    async def wait_online(self) -> Connection:
        """Wait for a welcomed connection, return it; has no deadline of its own."""
        while self._connection is None:
            await self._online.park()
        return self._connection

    async def wait_caught_up(self) -> None:
        """Wait until `is_caught_up`; has no deadline of its own."""
        while not self.is_caught_up:
            await self._caught_up.park()

    async def send(
        self,
        conversation: bytes,
        content: bytes,
        *,
        content_type: str = "application/octet-stream",
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        temp_id: bytes | None = None,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> Sent:
        """Send a message; returns when it is committed, and in the mailbox.

        It is tried again, with the same `temp_id`, over lost connections and errors that may pass. If this is
        cancelled, the message may or may not be stored; if it was, catching up brings it.

        :param temp_id: 16 bytes; random if left out.
        :raises RequestRefused: for good: by an error that is not to be retried.
        :raises OutcomeUnknown: if there was no acknowledgement within `timeout_s` seconds.
        :raises Unreachable: if in that time there was no connection on which to send it at all: it is not stored.
        :raises LocalProtocolError: if a field is out of bounds.
        """
        key = secrets.token_bytes(limits.ID_BYTES) if temp_id is None else temp_id
        was_tried = False
        with trio.move_on_after(timeout_s):
            for failures in count():
                connection = await self.wait_online()
                was_tried = True
                try:
                    sent = await connection.send(
                        conversation,
                        content,
                        temp_id=key,
                        content_type=content_type,
                        nonce=nonce,
                        ephemeral_public_key=ephemeral_public_key,
                    )
                except (ConnectionLost, NoReply):
                    await trio.sleep(backoff.delay_s(0))
                except RequestRefused as refused:
                    if refused.retry_after_ms is None:
                        raise
                    await trio.sleep(backoff.after_s(refused.retry_after_ms, failures))
                else:
                    self._apply(
                        Message(
                            conversation,
                            sent.seq,
                            sent.message,
                            sent.created,
                            self.credentials.user,
                            content_type,
                            content,
                            nonce,
                            ephemeral_public_key,
                        )
                    )
                    return sent
        if was_tried:
            raise OutcomeUnknown(key)
        raise Unreachable(f"no connection within {timeout_s:g} s; nothing was sent")

    def _apply(self, message: Message) -> None:
        """Take a message from wherever it came."""
        self.mailbox.apply(message)
        self._wake()

    def _wake(self) -> None:
        """The mailbox may have changed: everyone sees whether it is what they wait for."""
        self._arrived.unpark_all()
        self._stored.unpark_all()
        if not self.mailbox.is_complete:
            self._amiss.unpark_all()
        elif self.is_caught_up:
            self._caught_up.unpark_all()

    async def _on_push(self, push: Push) -> None:
        self._apply(push)

    def _go_online(self, connection: Connection) -> None:
        """Welcomed. From here on pushes come, so what is read from now on leaves nothing out."""
        self._connection = connection
        self._is_stale = True
        self._online.unpark_all()
        self._stored.unpark_all()
        self._amiss.unpark_all()

    async def _stay_connected(self) -> None:
        failures = turn = 0
        while True:
            url = self._socket_urls[turn % len(self._socket_urls)]
            first_s = backoff.FIRST_S
            try:
                async with connect(url, self.credentials.token, on_push=self._on_push) as connection:
                    failures = 0
                    self._go_online(connection)
                    try:
                        raise await connection.wait_lost()
                    finally:
                        self._connection = None
            except ConnectionLost as lost:
                if not lost.reconnect:
                    raise
                first_s = max(first_s, lost.delay_s)
            except Unreachable:
                pass
            await trio.sleep(backoff.delay_s(failures, first_s))
            failures += 1
            turn += 1

    async def _synchronise(self) -> None:
        failures = 0
        while True:
            while not self._has_to_catch_up and self.mailbox.is_complete:
                await self._amiss.park()
            pause_s = backoff.delay_s(failures)
            try:
                is_better = await (self._catch_up() if self._has_to_catch_up else self._repair())
            except Unreachable:
                is_better = False
            except HttpRefused as refused:
                if refused.is_for_good:
                    raise
                is_better, pause_s = False, max(pause_s, (refused.retry_after_ms or 0) / 1000)
            self._wake()
            if is_better:
                failures = 0
            else:
                failures += 1
                await trio.sleep(pause_s)

    @property
    def _has_to_catch_up(self) -> bool:
        return self._is_stale and self.is_online

    async def _catch_up(self) -> bool:
        """Read the lists, then fetch what they show to be missing."""
        self._is_stale = False  # before reading: a reconnection meanwhile sets it, and then all is read again
        try:
            await catch_up.list_conversations(self._http, self.mailbox)
            self._wake()
            await catch_up.fill(self._http, self.mailbox, self.mailbox.holes(), self._apply)
        except (Unreachable, HttpRefused):
            self._is_stale = True
            raise
        return True

    async def _repair(self) -> bool:
        """Look up what is unknown, and fetch the holes that last; returns whether that changed anything."""
        unknown = self.mailbox.unknown()
        if unknown:
            await catch_up.look_up(self._http, self.mailbox, unknown)
            return True
        before = {hole[:2] for hole in self.mailbox.holes()}
        await trio.sleep(HOLE_PATIENCE_S)
        lasting = [hole for hole in self.mailbox.holes() if hole[:2] in before]
        await catch_up.fill(self._http, self.mailbox, lasting, self._apply)
        after = {hole[:2] for hole in self.mailbox.holes()}
        return not any(hole[:2] in after for hole in lasting)

    async def _mark(self) -> None:
        while True:
            while not (self.is_online and self.mailbox.marks_due(1)):
                await self._stored.park()
            await trio.sleep(MARK_INTERVAL_S)
            marks = self.mailbox.marks_due()
            if self._connection is not None and marks:
                await self._send_marks(self._connection, marks)

    async def _send_marks(self, connection: Connection, marks: list[tuple[bytes, int]]) -> None:
        try:
            await connection.mark_delivered(marks)
        except (ConnectionLost, NoReply):
            return  # still due
        except RequestRefused as refused:
            if refused.retry_after_ms is not None:
                await trio.sleep(backoff.after_s(refused.retry_after_ms, 0))
                return
            if len(marks) > 1:
                # One conversation that we are no longer part of must not hold up the marks of the others.
                for mark in marks:
                    await self._send_marks(connection, [mark])
                return
        self.mailbox.marked(marks)


class _Messages:
    """A position in the mailbox's log that moves on as it is read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._position = len(session.mailbox.log)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        await trio.lowlevel.checkpoint()
        log = self._session.mailbox.log
        while self._position >= len(log):
            await self._session._arrived.park()
        message = log[self._position]
        self._position += 1
        return message
