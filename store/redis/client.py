"""Redis on Trio, for all tasks of a process: one server, several, or the masters of a Redis Cluster.

| `store.redis.link` | one connection, whose commands are pipelined |
|---|---|
| `store.redis.connection` | the connection to a server, opened again whenever it is lost |
| `store.redis.cluster` | the masters of a Redis Cluster, and the connections to them |
| this module | the virtual buses (`store.redis.buses`), and the connection that each uses |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from zlib import crc32

import trio

from store.distribution import Distribution
from store.errors import Unavailable
from store.redis.buses import TAGS
from store.redis.cluster import ClusterMasters
from store.redis.connection import ServerConnection, send_to
from store.redis.link import Reply
from store.redis.servers import Argument, Command, Servers
from store.redis.servers import RedisError as RedisError
from store.redis.url import parse_redis_urls


class Redis:
    """Redis, shared by all tasks. Run `run` in a nursery while it is used.

    :param url: of a server, of sentinels or of a cluster, or of several servers, as in `store.redis.url`.
    :param tags: of the virtual buses, if several servers or a cluster share them.
    :ivar buses: how many virtual buses there are: 1 on one server.
    :ivar is_cluster: it is a Redis Cluster.
    :ivar commands: issued, those that block apart.
    :ivar failures: those of them without a reply.
    :ivar reply_seconds: until a task has the replies to the commands that it issues together.
    :raises ValueError: if the URL cannot be used.
    """

    def __init__(self, url: str, tags: Sequence[str] = TAGS) -> None:
        parsed = parse_redis_urls(url)
        self.where = ", ".join(map(str, parsed))
        self._cluster = ClusterMasters(parsed[0], tags) if parsed[0].is_cluster else None
        # One bus lies on one server: the first.
        used = [] if self._cluster else parsed[: len(tags)]
        self._servers = [ServerConnection(Servers(each)) for each in used]
        self.is_cluster = self._cluster is not None
        self.buses = len(tags) if self._cluster or len(parsed) > 1 else 1
        self.commands = self.failures = 0
        self.reply_seconds = Distribution()

    def bus_of(self, id: bytes) -> int:
        """The bus of a user, a node, or anything else that has an id."""
        return crc32(id) % self.buses if self.buses > 1 else 0

    def by_bus(self, ids: Iterable[bytes]) -> dict[int, list[bytes]]:
        """These ids, by their buses, in order."""
        if self.buses == 1:
            return {0: list(ids)}
        groups: dict[int, list[bytes]] = {}
        for each in ids:
            groups.setdefault(crc32(each) % self.buses, []).append(each)
        return groups

    @property
    def _connections(self) -> list[ServerConnection]:
        return self._servers if self._cluster is None else self._cluster.connections

    def _server_of(self, bus: int) -> ServerConnection:
        return self._servers[bus * len(self._servers) // self.buses]

    def _of(self, bus: int) -> ServerConnection | None:
        return self._server_of(bus) if self._cluster is None else self._cluster.of(bus)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connections open until cancelled; log when one is lost and when it is back."""
        async with trio.open_nursery() as nursery:
            for each in self._servers if self._cluster is None else [self._cluster]:
                await nursery.start(each.run)
            task_status.started()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to each server."""
        if self._cluster is not None and not self._cluster.is_known:
            return False
        return all(each.is_connected for each in self._connections)

    def reaches(self, bus: int) -> bool:
        """Whether there is a connection to the server of this bus."""
        connection = self._of(bus)
        return connection is not None and connection.is_connected

    def where_of(self, bus: int) -> str:
        """The name of the server of this bus, as `ask_each` has it; empty if it is not known."""
        connection = self._of(bus)
        return "" if connection is None else connection.where

    def epoch(self, bus: int) -> object:
        """Another value whenever the server of the bus may have lost or missed something: the connection to it is new,
        or leads to another server."""
        connection = self._of(bus)
        return connection, connection.connects if connection is not None else 0

    async def wait_connected(self) -> None:
        """Return once there is a connection to a server."""
        if self._cluster is not None:
            await self._cluster.wait_connected()
            return
        if len(self._servers) == 1:
            await self._servers[0].wait_connected()
            return
        async with trio.open_nursery() as nursery:

            async def wait(connection: ServerConnection) -> None:
                await connection.wait_connected()
                nursery.cancel_scope.cancel()

            for each in self._servers:
                nursery.start_soon(wait, each)

    async def call(self, *command: Argument, bus: int = 0) -> Reply:
        """Run one command and return its reply: bytes, int, None or a list of these.

        :param bus: of its keys.
        :raises Unavailable: if there is no connection, or it was lost before the reply (then the outcome is unknown).
            A new client first waits for its first connection.
        :raises RedisError: if Redis answered with an error.
        """
        [reply] = await self.pipeline([command], bus=bus)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Command], *, bus: int = 0) -> list[Reply]:
        """Run several commands on one bus, in a row; return their replies. An error of one command is a `RedisError`
        among them.

        :raises Unavailable: as in `call`; any part of the commands may have taken effect.
        """
        if not commands:
            await trio.lowlevel.checkpoint()
            return []
        if self._cluster is not None:
            replies = await self.spread([(bus, command) for command in commands])
            for reply in replies:
                if isinstance(reply, Unavailable):
                    raise reply
            return replies
        began = perf_counter()
        self.commands += len(commands)
        try:
            connection = self._server_of(bus)
            await connection.wait_begun()
            return await connection.link.begin(commands).replies()
        except Unavailable:
            self.failures += len(commands)
            await trio.lowlevel.checkpoint()
            raise
        finally:
            self.reply_seconds.observe(perf_counter() - began)

    async def spread(self, commands: Sequence[tuple[int, Command]]) -> list[Reply]:
        """Run commands on several buses at once, those of one bus in their order.

        :param commands: pairs (bus, command).
        :returns: the replies in the same order. A `RedisError` is among them; if some servers can be reached and others
            cannot, so is an `Unavailable` for each command that belongs to one of the others.
        :raises Unavailable: if no server can be reached; any part of the commands may have taken effect.
        """
        if self.buses == 1 and self._cluster is None:
            return await self.pipeline([command for _, command in commands])
        began = perf_counter()
        self.commands += len(commands)
        try:
            if self._cluster is None:
                replies = await send_to([(self._server_of(bus), each) for bus, each in commands])
            else:
                await self._cluster.wait_known()
                replies = await send_to([(self._of(bus) or self._cluster.unknown(), each) for bus, each in commands])
                await self._cluster.settle(commands, replies)
        finally:
            self.reply_seconds.observe(perf_counter() - began)
        lost = [reply for reply in replies if isinstance(reply, Unavailable)]
        self.failures += len(lost)
        if lost and len(lost) == len(replies):
            raise lost[0]
        return replies

    async def ask_each(self, *command: Argument) -> dict[str, Reply]:
        """Run a command without keys on each server; returns the replies by the names of the servers, `RedisError` and
        `Unavailable` among them."""
        if self._cluster is not None:
            await self._cluster.wait_known()
        connections = self._connections
        replies = await send_to([(each, command) for each in connections])
        return {each.where: reply for each, reply in zip(connections, replies, strict=True)}

    @asynccontextmanager
    async def blocking(self, bus: int = 0) -> AsyncGenerator[Callable[..., Any], None]:
        """A connection for commands on this bus that block in Redis; yields `async call(*command, wait_s, then)`, where
        Redis runs the commands `then` once the first has ended. With them it returns a list: the reply of each.

        It leads to the server of the shared connection and ends with it; otherwise a follower would keep reading from a
        server that has no writers any longer.

        :raises Unavailable: if it cannot be opened, or is lost; the caller opens it again.
        """
        follow = self._cluster.blocking(bus) if self._cluster else self._server_of(bus).blocking()
        async with follow as call:
            yield call

    @property
    def in_flight(self) -> int:
        """Commands that wait for their replies, but those that block."""
        return sum(each.in_flight for each in self._connections)

    @property
    def connects(self) -> int:
        """Connections that were opened, the first ones included."""
        return sum(each.connects for each in self._connections)

    @property
    def moves(self) -> int:
        """Connections that led to another server than the one before."""
        moves = sum(each.moves for each in self._connections)
        return moves + self._cluster.moves if self._cluster is not None else moves


def answers(replies: Sequence[Reply]) -> dict[int, Reply]:
    """The replies that are no errors, by their places.

    :raises Unavailable, RedisError: the first of them, if all are errors.
    """
    found = {place: reply for place, reply in enumerate(replies) if not isinstance(reply, Exception)}
    if replies and not found:
        raise replies[0]
    return found
