"""The masters of a Redis Cluster: which of them has each virtual bus, and a connection to each.

A server of the cluster is asked each `POLL_S`, more often while a master cannot be reached; a reply that names another
master (`store.redis.redirects`) counts at once. Only masters of buses are connected to.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import structlog
import trio

from store.errors import Unavailable
from store.redis.buses import slot_of
from store.redis.connection import ServerConnection, send_to
from store.redis.link import COMMAND_TIMEOUT_S, Reply
from store.redis.redirects import Ask, ClusterDown, Moved, TryAgain, is_whole, read_masters, read_redirect
from store.redis.servers import Argument, Command, RedisError, Servers
from store.redis.url import Address, RedisUrl

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""How often a server is asked for the masters while all can be reached."""

HURRY_S: Final = 0.2
"""How often while one cannot: a replica takes its place soon after the others have missed it (cluster-node-timeout)."""

LOOK_S: Final = 0.05
"""How often to look for a connection while there is none."""

AGAIN_S: Final = 0.01
"""How long to wait before a command is sent again whose keys are moving."""


class ClusterMasters:
    """Run `run` in a nursery.

    :param url: of some servers of the cluster.
    :param tags: of the buses.
    :ivar moves: how often a bus got another master.
    """

    def __init__(self, url: RedisUrl, tags: Sequence[str]) -> None:
        self._url = url
        self._slots = [slot_of(tag) for tag in tags]
        self._masters: list[Address | None] = [None] * len(tags)
        self._connections: dict[Address, tuple[ServerConnection, trio.CancelScope]] = {}
        self._lent: set[Address] = set()
        """Servers that have been sent commands with ASKING since the last look at the masters."""
        self._known = trio.Event()
        self._first_due = -math.inf
        self._has_moved = trio.Event()
        self._asked = list(url.addresses)
        self.where = str(url)
        self.moves = 0

    @property
    def connections(self) -> list[ServerConnection]:
        """To the masters."""
        return [connection for connection, _ in self._connections.values()]

    @property
    def is_known(self) -> bool:
        """Whether each bus has a master, as far as is known."""
        return None not in self._masters

    def of(self, bus: int) -> ServerConnection | None:
        """The connection to the master of a bus; None if it is not known."""
        master = self._masters[bus]
        return None if master is None else self._connect(master)

    async def wait_known(self) -> None:
        """A new cluster: wait until the masters are known, for `COMMAND_TIMEOUT_S` from the start at most."""
        if not self._known.is_set():
            with trio.move_on_at(self._first_due):
                await self._known.wait()

    async def wait_connected(self) -> None:
        """Return once there is a connection to a master. Masters come and go: it looks at all again and again."""
        await self._known.wait()
        while not any(each.is_connected for each in self.connections):  # noqa: ASYNC110
            await trio.sleep(LOOK_S)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        self._first_due = trio.current_time() + COMMAND_TIMEOUT_S
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                try:
                    await self._follow(self._asked[0])
                except (Unavailable, RedisError) as error:
                    log.warning("redis_cluster_not_known", asked=str(self._asked[0]), error=str(error))
                self._asked.append(self._asked.pop(0))
                await trio.sleep(HURRY_S)

    async def _follow(self, server: Address) -> None:
        """Ask this server for the masters, again and again.

        :raises Unavailable: if it cannot be reached, or does not take part in the cluster.
        :raises RedisError: if it is no server of a cluster.
        """
        async with self._servers(server).asked(server) as ask:
            while True:
                if not is_whole(await ask("CLUSTER", "INFO")):
                    raise Unavailable("Redis", str(server), "it sees too few servers of the cluster")
                self._take(read_masters(await ask("CLUSTER", "SLOTS"), self._slots, server))
                is_reached = all(each.is_connected for each in self.connections)
                with trio.move_on_after(POLL_S if is_reached and self.is_known else HURRY_S):
                    await self._has_moved.wait()
                    await trio.sleep(HURRY_S)
                self._has_moved = trio.Event()

    def _take(self, masters: Sequence[Address | None]) -> None:
        for bus, master in enumerate(masters):
            # A slot without a master stays with the former one, which may be back.
            if master is not None:
                self._move(bus, master)
        for address in self._connections.keys() - set(self._masters) - self._lent:
            _, scope = self._connections.pop(address)
            scope.cancel()
        self._lent.clear()
        self._asked += [each for each in dict.fromkeys(self._masters) if each is not None and each not in self._asked]
        if self.is_known:
            self._known.set()

    def _move(self, bus: int, to: Address) -> None:
        before = self._masters[bus]
        if before != to:
            self._masters[bus] = to
            self._connect(to)
            if before is not None:
                self.moves += 1
                log.info("redis_bus_moved", bus=bus, before=str(before), now=str(to))

    def _lend(self, address: Address) -> ServerConnection:
        """The connection to a server that is not the master of the slot (yet)."""
        self._lent.add(address)
        return self._connect(address)

    def _connect(self, address: Address) -> ServerConnection:
        if address not in self._connections:
            made = ServerConnection(self._servers(address)), trio.CancelScope()
            self._connections[address] = made
            self._nursery.start_soon(self._keep, *made)
        return self._connections[address][0]

    async def _keep(self, connection: ServerConnection, scope: trio.CancelScope) -> None:
        with scope:
            await connection.run()

    def _servers(self, address: Address) -> Servers:
        return Servers(replace(self._url, addresses=(address,), is_cluster=False))

    async def settle(self, commands: Sequence[tuple[int, Command]], replies: list[Reply]) -> None:
        """Send the commands again, to the servers that the replies name, and put the new replies in the place of those.

        :param commands: pairs (bus, command).
        """
        due = trio.current_time() + COMMAND_TIMEOUT_S
        while again := self._again(commands, replies):
            if trio.current_time() > due:
                for place in again:
                    replies[place] = Unavailable("Redis", self.where, str(replies[place]))
                return
            if any(isinstance(redirect, TryAgain) for redirect in again.values()):
                await trio.sleep(AGAIN_S)
            sent: list[tuple[ServerConnection | Unavailable, Command]] = []
            for place, redirect in again.items():
                bus, command = commands[place]
                if isinstance(redirect, Ask):
                    there = self._lend(redirect.to)
                    sent += [(there, ("ASKING",)), (there, command)]
                else:
                    sent.append((self.of(bus) or self.unknown(), command))
            found = iter(await send_to(sent))
            for place, redirect in again.items():
                if isinstance(redirect, Ask):
                    next(found)
                replies[place] = next(found)

    def _again(self, commands: Sequence[tuple[int, Command]], replies: list[Reply]) -> dict[int, Any]:
        """The redirections among the replies, by their places. Atomic (no checkpoint)."""
        again: dict[int, Any] = {}
        for place, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                redirect = self._read(commands[place][0], reply)
                if isinstance(redirect, ClusterDown):
                    replies[place] = Unavailable("Redis", self.where, str(reply))
                elif redirect is not None:
                    again[place] = redirect
        return again

    def _read(self, bus: int, error: RedisError) -> Any:
        redirect = read_redirect(error, self._masters[bus] or self._url.addresses[0])
        if isinstance(redirect, Moved):
            self._move(bus, redirect.to)
            self._has_moved.set()
        return redirect

    async def _run(self, bus: int, commands: Sequence[Command]) -> list[Reply]:
        placed = [(bus, command) for command in commands]
        replies = await send_to([(self.of(bus) or self.unknown(), command) for command in commands])
        await self.settle(placed, replies)
        return replies

    def unknown(self) -> Unavailable:
        return Unavailable("Redis", self.where, "the master is not known")

    @asynccontextmanager
    async def blocking(self, bus: int) -> AsyncGenerator[Callable[..., Any], None]:
        """As `ServerConnection.blocking`. A command whose key has moved, while its slot has not, is sent after it.

        :raises Unavailable: if the bus has another master now; the caller opens it again.
        """
        await self.wait_known()
        master = self.of(bus)
        if master is None:
            raise self.unknown()
        async with AsyncExitStack() as stack:
            call = await stack.enter_async_context(master.blocking())
            others: dict[Address, Callable[..., Awaitable[Reply]]] = {}

            async def redirected(*command: Argument, wait_s: float, then: Sequence[Command] = ()) -> Reply:
                try:
                    replies = await call(*command, wait_s=wait_s, then=then)
                    if then:
                        await self.settle([(bus, command), *((bus, each) for each in then)], replies)
                    return replies
                except RedisError as error:
                    redirect = self._read(bus, error)
                    if redirect is None or isinstance(redirect, TryAgain):
                        raise
                    if not isinstance(redirect, Ask):
                        raise Unavailable("Redis", self.where, str(error)) from None
                there = self._lend(redirect.to)
                if redirect.to not in others:
                    others[redirect.to] = await stack.enter_async_context(there.blocking())
                await others[redirect.to]("ASKING", wait_s=0.0)
                reply = await others[redirect.to](*command, wait_s=wait_s)
                return [reply, *await self._run(bus, then)] if then else reply

            yield redirected
