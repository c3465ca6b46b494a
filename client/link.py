"""The connection of a device, made anew whenever it is lost, with a token that is renewed in time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Final, TypeAlias, TypeVar

import msgspec
import trio

from client import backoff
from client.connection import Connection, OnPush, connect
from client.errors import ConnectionLost, NoReply, RequestRefused, Unreachable
from client.http import Credentials
from client.nursery import open_service_nursery

REFRESH_BEFORE_S: Final = 86400.0
"""A token is renewed a day before it expires, or when a tenth of its life is left if that is shorter."""

OnToken: TypeAlias = Callable[[Credentials], object]
_T = TypeVar("_T")


class Link:
    """`run` has to run while the rest is used.

    :ivar credentials: with the token that counts now.
    :ivar connection: the one that has been welcomed; None while there is none.
    """

    def __init__(
        self,
        socket_urls: Sequence[str],
        credentials: Credentials,
        *,
        on_push: OnPush,
        on_online: Callable[[], object],
        on_token: OnToken | None,
    ) -> None:
        if not socket_urls:
            raise ValueError("a session needs the URL of at least one gateway")
        self.credentials = credentials
        self.connection: Connection | None = None
        self._socket_urls = list(socket_urls)
        self._on_push = on_push
        self._on_online = on_online
        self._on_token = on_token
        self._online = trio.lowlevel.ParkingLot()
        self._welcomed_at = trio.current_time()
        self._server_ms = time.time_ns() // 1_000_000

    async def run(self) -> None:
        """Stay connected; ends only by being cancelled or by an error.

        :raises ConnectionLost: if the server says not to reconnect.
        """
        failures = turn = 0
        while True:
            url = self._socket_urls[turn % len(self._socket_urls)]
            first_s, least_s = backoff.FIRST_S, 0.0
            try:
                async with connect(url, self.credentials.token, on_push=self._on_push) as connection:
                    failures = 0
                    await self._use(connection)
            except ConnectionLost as lost:
                if not lost.reconnect:
                    raise
                first_s = max(first_s, lost.delay_s)
            except Unreachable as error:
                least_s = error.retry_after_s
            await trio.sleep(least_s + backoff.delay_s(failures, first_s))
            failures += 1
            turn += 1

    def server_ms(self) -> int:
        """The time by the server's clock, in milliseconds since 1970; by this machine's before the first welcome."""
        return self._server_ms + round((trio.current_time() - self._welcomed_at) * 1000)

    async def wait_online(self) -> Connection:
        """Wait for a welcomed connection, return it; has no deadline of its own."""
        while self.connection is None:
            await self._online.park()
        return self.connection

    async def insist(self, ask: Callable[[Connection], Awaitable[_T]], timeout_s: float) -> _T:
        """Make a request again and again, over lost connections and errors that may pass, until it is answered.

        :param ask: makes it; whatever it is, doing it twice must be as good as doing it once.
        :raises RequestRefused: for good: by an error that is not to be retried.
        :raises NoReply: if it was made and no reply came within `timeout_s` seconds; it may have taken effect.
        :raises Unreachable: if in that time there was no connection at all.
        """
        was_tried = False
        with trio.move_on_after(timeout_s):
            for failures in count():
                connection = await self.wait_online()
                was_tried = True
                try:
                    return await ask(connection)
                except (ConnectionLost, NoReply):
                    await trio.sleep(backoff.delay_s(0))
                except RequestRefused as refused:
                    if refused.retry_after_ms is None:
                        raise
                    await trio.sleep(backoff.after_s(refused.retry_after_ms, failures))
        if was_tried:
            raise NoReply(f"no reply within {timeout_s:g} s, over all attempts")
        raise Unreachable(f"no connection within {timeout_s:g} s; nothing was sent")

    async def _use(self, connection: Connection) -> None:
        """Let everybody have this connection until it is lost; raises why that was."""
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._keep_token, connection)
            self.connection = connection
            self._welcomed_at = trio.current_time()
            self._server_ms = connection.welcome.created // 1000
            self._on_online()
            self._online.unpark_all()
            try:
                raise await connection.wait_lost()
            finally:
                self.connection = None

    async def _keep_token(self, connection: Connection) -> None:
        # How long the token was good altogether is not known: what has less than a day left is near its end. After a
        # renewal it is known, so that tokens which live for an hour are not renewed all the time.
        rest_s = (connection.welcome.expires - connection.welcome.created) / 1e6
        wait_s = max(rest_s - REFRESH_BEFORE_S, 0)
        failures = 0
        while True:
            await trio.sleep(wait_s)
            pause_s = backoff.delay_s(failures)
            failures += 1
            try:
                lived_s = await self._refresh(connection)
            except ConnectionLost:
                return
            except NoReply:
                wait_s = pause_s
            except RequestRefused as refused:
                if refused.retry_after_ms is None:
                    return  # The close code at the end of the token says more.
                wait_s = refused.retry_after_ms / 1000 + pause_s
            else:
                failures = 0
                wait_s = lived_s - min(REFRESH_BEFORE_S, lived_s / 10)

    async def _refresh(self, connection: Connection) -> float:
        """Get a new token and hand it on; returns for how long it is good."""
        asked_at = trio.current_time()
        refreshed = await connection.refresh(self.credentials.token)
        self.credentials = msgspec.structs.replace(self.credentials, token=refreshed.token)
        if self._on_token is not None:
            self._on_token(self.credentials)
        now = connection.welcome.created + (asked_at - self._welcomed_at) * 1e6
        return (refreshed.expires - now) / 1e6
