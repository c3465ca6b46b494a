"""The connection of a device: it reconnects whenever the connection is lost, and renews the token in time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Final, TypeVar

import msgspec
import trio

from client import backoff
from client.connection import NAME, PAGES_AHEAD, ClientConnection, OnPush, connect
from client.errors import ConnectionLost, LoginBusy, LoginReplaced, NoReply, RequestRefused, Unreachable
from client.http import Credentials
from client.nursery import open_service_nursery
from client.renewal import RENEW_S, LoginStore, MemoryLogin, present, renew
from protocol.codes import CloseCode
from protocol.frames import Push

_STALE: Final = frozenset(
    code.value for code in (CloseCode.UNAUTHENTICATED, CloseCode.TOKEN_EXPIRED, CloseCode.TOKEN_REUSED)
)
"""The connection was opened with a token that another program of this device may have renewed since."""

_T = TypeVar("_T")


class _Life:
    """One connection from dialling to its end.

    :ivar online: the server has welcomed it, and `on_online` has been called.
    :ivar settled: it is online, or has failed.
    :ivar due: the next connection is due: this one is lost, or the server has told it to move.
    :ivar retired: the next connection is online.
    :ivar move_in_s: the time until the next connection; None if the server did not tell it to move.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.online = trio.Event()
        self.settled = trio.Event()
        self.due = trio.Event()
        self.retired = trio.Event()
        self.move_in_s: float | None = None
        self.error: ConnectionLost | Unreachable | None = None

    async def cancel_when_retired(self, scope: trio.CancelScope) -> None:
        await self.retired.wait()
        scope.cancel()

    def pause_s(self, failures: int, most_s: float) -> float:
        """The wait before the next connection, after this number of failures.

        :param most_s: the longest range of the wait, unless the server has asked for a longer one.
        """
        match self.error:
            case ConnectionLost(delay_s=delay_s):
                return backoff.delay_s(failures, max(backoff.FIRST_S, delay_s), most_s)
            case Unreachable(retry_after_s=retry_after_s):
                return retry_after_s + backoff.delay_s(failures, most_s=most_s)
        return backoff.delay_s(failures, most_s=most_s)


class Link:
    """`run` has to run while the rest is used.

    :param on_online: called after each welcome, with True if the news come by themselves.
    :param on_offline: called when a welcomed connection is lost, and no other one is there.
    :param login: the store of the token; in memory, if None.
    :param cursor: gives the cursor that this device has stored; each hello asks for `PAGES_AHEAD` pages of the news
        since then.
    :param client: name and version of the program.
    :param longest_pause_s: between attempts to connect, unless the server asks for a longer one.
    :ivar credentials: with the present token.
    :ivar connection: the welcomed connection; None while the link is offline.
    :ivar last_error: why the last attempt to connect has failed, or the last connection has ended; None before that.
    """

    def __init__(
        self,
        socket_urls: Sequence[str],
        credentials: Credentials,
        *,
        on_push: OnPush,
        on_online: Callable[[bool], object],
        on_offline: Callable[[], object],
        login: LoginStore | None,
        cursor: Callable[[], bytes | None],
        client: str = NAME,
        longest_pause_s: float = backoff.MOST_S,
    ) -> None:
        if not socket_urls:
            raise ValueError("a session needs the URL of at least one gateway")
        self.credentials = credentials
        self.connection: ClientConnection | None = None
        self.last_error: ConnectionLost | Unreachable | None = None
        self._socket_urls = list(socket_urls)
        self._on_push = on_push
        self._on_online = on_online
        self._on_offline = on_offline
        self._login = MemoryLogin(credentials) if login is None else login
        self._lives_s = 0.0
        self._cursor = cursor
        self._client = client
        self._longest_pause_s = longest_pause_s
        self._life: _Life | None = None
        self._online = trio.lowlevel.ParkingLot()
        self._welcomed_at = trio.current_time()
        self._server_ms = time.time_ns() // 1_000_000

    @property
    def url(self) -> str | None:
        """The gateway of `connection`; None while the link is offline."""
        return self._life.url if self._life is not None else None

    @property
    def features(self) -> frozenset[str]:
        """The names of the server's features; empty while the link is offline."""
        return self.connection.features if self.connection is not None else frozenset()

    async def run(self) -> None:
        """Stay connected; ends only by being cancelled or by an error.

        A node that is about to stop says so (`move`): then the link makes the next connection before it leaves this
        one.

        :raises ConnectionLost: if the server says not to reconnect.
        """
        failures = turn = 0
        current: _Life | None = None
        async with open_service_nursery() as nursery:
            while True:
                life = _Life(self._socket_urls[turn % len(self._socket_urls)])
                nursery.start_soon(self._live, life)
                await life.settled.wait()
                if life.online.is_set():
                    if current is not None:
                        current.retired.set()
                    current, failures = life, 0
                    await life.due.wait()
                if life.move_in_s is not None:
                    await trio.sleep(life.move_in_s)
                else:
                    await trio.sleep(life.pause_s(failures, self._longest_pause_s))
                    failures += 1
                turn += 1

    def move(self, in_s: float) -> None:
        """The connection's node is about to stop: connect again after this time."""
        if self._life is not None:
            self._life.move_in_s = in_s
            self._life.due.set()

    def server_ms(self) -> int:
        """The time by the server's clock, in milliseconds since 1970; by this machine's clock before the first
        welcome."""
        return self._server_ms + round((trio.current_time() - self._welcomed_at) * 1000)

    async def wait_online(self) -> ClientConnection:
        """Wait for a welcomed connection, return it; has no deadline of its own."""
        while self.connection is None:
            await self._online.park()
        return self.connection

    async def insist(self, ask: Callable[[ClientConnection], Awaitable[_T]], timeout_s: float) -> _T:
        """Repeat a request, over lost connections and retryable errors, until the server answers it.

        :param ask: makes the request; it must be idempotent.
        :raises RequestRefused: by an error that is not retryable.
        :raises NoReply: if it was made and no reply came within `timeout_s` seconds; it may have taken effect.
        :raises Unreachable: if the link was offline during that time.
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

    async def _live(self, life: _Life) -> None:
        """One connection from its beginning to its end."""
        self.credentials = present(self._login, self.credentials)
        shown = self.credentials.token
        cursor = self._cursor()
        pages = None if cursor is None else PAGES_AHEAD

        async def on_push(push: Push) -> None:
            # Pushes may come right after `Welcome`: `on_online` is called first all the same.
            await life.online.wait()
            await self._on_push(push)

        try:
            async with connect(
                life.url,
                shown,
                on_push=on_push,
                cursor=cursor,
                pages=pages,
                client=self._client,
            ) as connection:
                # A server without the feature ignores the cursor of a hello.
                is_resumed = cursor is not None and "resume" in connection.features
                await self._use(life, connection, is_resumed=is_resumed)
        except ConnectionLost as lost:
            if not (lost.reconnect or self._may_retry(lost, shown)):
                raise
            life.error = lost
        except Unreachable as unreachable:
            life.error = unreachable
        finally:
            self.last_error = life.error or self.last_error
            life.settled.set()
            life.due.set()
        if life.online.is_set() and self.connection is None:
            self._on_offline()

    async def _use(self, life: _Life, connection: ClientConnection, *, is_resumed: bool) -> None:
        """Offer this connection until it is lost, and raise the cause; or until the next one is online."""
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._keep_token, connection)
            self.connection, self._life = connection, life
            self._welcomed_at = trio.current_time()
            self._server_ms = connection.welcome.created // 1000
            self._on_online(is_resumed)
            life.online.set()
            self._online.unpark_all()
            life.settled.set()
            with trio.CancelScope() as until_retired:
                nursery.start_soon(life.cancel_when_retired, until_retired)
                try:
                    raise await connection.wait_lost()
                finally:
                    if self.connection is connection:
                        self.connection = self._life = None

    async def _keep_token(self, connection: ClientConnection) -> None:
        self._lives_s = (connection.welcome.expires - connection.welcome.created) / 1e6 + self._age_s()
        failures, pause_s = 0, 0.0
        while True:
            await trio.sleep(max(min(RENEW_S, self._lives_s / 2) - self._age_s(), pause_s))
            pause_s = backoff.delay_s(failures)
            failures += 1
            try:
                await self._renew(connection)
            except (ConnectionLost, LoginReplaced):
                return
            except (NoReply, LoginBusy):
                continue
            except RequestRefused as refused:
                if refused.retry_after_ms is None:
                    return  # The close code at the end of the token says more.
                pause_s += refused.retry_after_ms / 1000
            else:
                failures, pause_s = 0, 0.0

    def _age_s(self) -> float:
        return max(self.server_ms() / 1000 - self.credentials.renewed, 0)

    async def _renew(self, connection: ClientConnection) -> None:
        """Get a new token, or take over that of another program."""

        async def ask(held: Credentials) -> Credentials:
            refreshed = await connection.refresh(held.token)
            now_s = self.server_ms() / 1000
            self._lives_s = refreshed.expires / 1e6 - now_s
            return msgspec.structs.replace(held, token=refreshed.token, renewed=now_s)

        # Only now: the new token is stored before a server sees it.
        self.credentials = await renew(self._login, self.credentials, ask)

    def _may_retry(self, lost: ConnectionLost, shown: str) -> bool:
        """Whether the store has another token than the one shown, and the server refuses that one."""
        return lost.close_code in _STALE and present(self._login, self.credentials).token != shown
