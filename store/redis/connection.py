"""The connection of a process to one Redis server, opened again whenever it is lost.

The commands of all tasks share one link (`store.redis.link`). A command that blocks in Redis (XREAD BLOCK) would hold
up all others, so `ServerConnection.blocking` opens a second link for each follower.

The connection is made again with back-off, to the server that is the master then (`store.redis.servers`). Without a
link, commands fail at once; a task that has to wait uses `wait_connected`. Only a new connection lets commands wait for
its first link, for `COMMAND_TIMEOUT_S` from the start. All links lead to one server: those that block end with the
shared one, and the shared one ends with the first reply that its server takes no writes.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import trio

from store.errors import Unavailable
from store.redis.link import COMMAND_TIMEOUT_S, READ_ONLY, RedisLink, Reply, SentCommands
from store.redis.servers import Argument, Command, RedisError, Servers
from store.redis.url import Address

log = structlog.get_logger(__name__)

MAX_BACKOFF_S: Final = 2.0


class ServerConnection:
    """Run `run` in a nursery while the connection is used.

    :param servers: the server, or the sentinels that name it.
    :ivar connects: links that were opened to share.
    :ivar moves: how many of them led to another server than the one before.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.where = self._servers.where
        self._link: RedisLink | None = None
        self._followers: set[RedisLink] = set()
        self._connected = trio.Event()
        self._is_begun = trio.Event()
        """Set by the first connection, and by the end of `run`."""
        self._first_due = -math.inf
        """Until then commands wait for the first connection."""
        self.connects = 0
        self.moves = 0
        self._last: Address | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection open until cancelled; log when it is lost and when it is back."""
        self._first_due = trio.current_time() + COMMAND_TIMEOUT_S
        try:
            await self._run(task_status)
        finally:
            self._is_begun.set()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as self._links:
            task_status.started()
            while True:
                link = await self._connect()
                self._links.start_soon(link.run)
                self._up(link)
                up_at = trio.current_time()
                await self._wait_lost(link)
                log.warning("redis_lost", where=link.where, error=str(link.failure))
                if trio.current_time() - up_at < MAX_BACKOFF_S:
                    # The server accepts a connection and closes it at once: no tight loop.
                    await trio.sleep(MAX_BACKOFF_S / 8 * random.uniform(0.5, 1))  # noqa: S311

    async def _wait_lost(self, link: RedisLink) -> None:
        async def leave_if_moved() -> None:
            await self._servers.wait_moved(link.address)
            link.close("the sentinels name another master")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_if_moved)
            await link.wait_lost()
            nursery.cancel_scope.cancel()

    async def _connect(self) -> RedisLink:
        delay_s = 0.05
        while True:
            try:
                address = await self._servers.find()
                return RedisLink(await self._servers.open(address), address)
            except Unavailable as error:
                log.warning("waiting_for_redis", error=str(error), retry_in_s=round(delay_s, 2))
            except RedisError as error:
                # A wrong password, or too many clients: an error that lasts.
                delay_s = MAX_BACKOFF_S
                log.warning("redis_refused", where=self.where, error=str(error))
            # Jitter, so that the processes of a machine do not reconnect in step.
            await trio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311
            delay_s = min(delay_s * 2, MAX_BACKOFF_S)

    def _up(self, link: RedisLink) -> None:
        self._link = link
        link.on_lost = self._down
        self.connects += 1
        self.moves += self._last not in (None, link.address)
        self._last = link.address
        self._connected.set()
        self._is_begun.set()
        log.info("redis_connected", where=link.where)

    def _down(self) -> None:
        self._link = None
        self._connected = trio.Event()
        for follower in self._followers:
            follower.close("the other connection to it was lost")

    @property
    def in_flight(self) -> int:
        """Commands of the shared connection that wait for their replies."""
        return self._link.in_flight if self._link is not None else 0

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    async def wait_connected(self) -> None:
        """Return once there is a connection."""
        await self._connected.wait()

    async def wait_begun(self) -> None:
        """A new connection: wait for its first link."""
        if not self._is_begun.is_set():
            with trio.move_on_at(self._first_due):
                await self._is_begun.wait()

    @property
    def link(self) -> RedisLink:
        """The shared link.

        :raises Unavailable: if there is none.
        """
        if self._link is None:
            raise Unavailable("Redis", self.where, "not connected")
        return self._link

    @asynccontextmanager
    async def blocking(self) -> AsyncGenerator[Callable[..., Any], None]:
        """A connection for commands that block in Redis; yields `async call(*command, wait_s, then)`, where Redis runs
        the commands `then` once the first has ended. With them it returns a list: the reply of each.

        It leads to the server of the shared connection and ends with it; otherwise a follower would keep reading from a
        server that has no writers any longer.

        :raises Unavailable: if it cannot be opened, or is lost; the caller opens it again.
        """
        await self.wait_begun()
        shared = self.link
        link = RedisLink(await self._servers.open(shared.address), shared.address)
        self._links.start_soon(link.run)
        self._followers.add(link)
        if self._link is not shared:
            link.close("the other connection to it was lost")

        async def call(*command: Argument, wait_s: float, then: Sequence[Command] = ()) -> Reply:
            replies = await link.begin([command, *then], patience_s=wait_s).replies()
            if isinstance(replies[0], Exception):
                raise replies[0]
            return replies if then else replies[0]

        try:
            yield call
        finally:
            self._followers.discard(link)
            link.close()
            if link.is_read_only:
                shared.close(READ_ONLY)


async def send_to(commands: Sequence[tuple[ServerConnection | Unavailable, Command]]) -> list[Reply]:
    """Send commands to several servers at once, those for one server in their order.

    :param commands: pairs of the connection and the command; an error in the place of the connection is its reply.
    :returns: the replies in the same order, a `RedisError` or an `Unavailable` among them.
    """
    replies: list[Reply] = [None] * len(commands)
    places: dict[ServerConnection, list[int]] = {}
    for place, (connection, _) in enumerate(commands):
        if isinstance(connection, Unavailable):
            replies[place] = connection
        else:
            places.setdefault(connection, []).append(place)
    for connection in places:
        await connection.wait_begun()
    sent: list[tuple[list[int], SentCommands]] = []
    for connection, some in places.items():
        try:
            sent.append((some, connection.link.begin([commands[place][1] for place in some])))
        except Unavailable as error:
            _put(replies, some, [error] * len(some))
    if not sent:
        await trio.lowlevel.checkpoint()
    for some, waiting in sent:
        try:
            found = await waiting.replies()
        except Unavailable as error:
            found = [error] * len(some)
        _put(replies, some, found)
    return replies


def _put(replies: list[Reply], places: Sequence[int], found: Sequence[Reply]) -> None:
    for place, reply in zip(places, found, strict=True):
        replies[place] = reply
