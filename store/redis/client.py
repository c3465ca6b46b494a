"""Redis on Trio, for all tasks of a process.

redis-py's asynchronous client is for asyncio, so Trio carries the bytes: hiredis packs commands and parses replies,
`store.redis.url` reads the URL. The commands of all tasks share one connection and are pipelined: commands that tasks
issue during a write leave with the next write, and replies come back in order. That way a command costs a few
microseconds. A command that blocks in Redis (XREAD BLOCK) would hold up all others, so `Redis.blocking` opens a second
connection for each follower.

A lost connection fails every command in flight with `Unavailable` (the command may have taken effect). The client
connects again with back-off, to the server that is the master then (`store.redis.servers`). Without a connection,
commands fail at once; a task that has to wait uses `wait_connected`. Only a new client lets commands wait for its first
connection, for `COMMAND_TIMEOUT_S` from the start. All connections lead to one server: those that block end with the
shared one, and the shared one ends with the first reply that its server takes no writes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final, TypeAlias

import hiredis
import structlog
import trio

from store.distribution import Distribution
from store.errors import Unavailable
from store.redis.servers import Argument, Command, Servers, pack
from store.redis.servers import RedisError as RedisError
from store.redis.url import Address, parse_redis_url

log = structlog.get_logger(__name__)

COMMAND_TIMEOUT_S: Final = 5.0
"""The oldest command in flight may wait this long for its reply; then the connection counts as dead. Our commands take
microseconds; a Redis that is stopped, or saves to a slow disk, stalls all of them."""

MAX_IN_FLIGHT: Final = 100_000
"""Commands without a reply, in all tasks together: a busy Redis answers this many in 0.5 s. Protects memory."""

MAX_BACKOFF_S: Final = 2.0

READ_ONLY: Final = "it is a replica and takes no writes"

Reply: TypeAlias = Any


class _Slot:
    """One command that waits for its reply."""

    __slots__ = ("due", "reply", "task")

    def __init__(self, task: trio.lowlevel.Task | None, due: float) -> None:
        self.task = task
        self.due = due
        self.reply: Any = None


class _Link:
    """One connection: a reader, a writer, and the commands in flight between them.

    :ivar on_lost: called once, when the connection is found to be lost.
    """

    def __init__(self, stream: trio.abc.Stream, address: Address) -> None:
        self.address = address
        self.where = str(address)
        self._stream = stream
        self._reader = hiredis.Reader(replyError=RedisError)
        self._unsent: list[bytes] = []
        self._slots: deque[_Slot] = deque()
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._lost = trio.Event()
        self.on_lost: Callable[[], None] = lambda: None
        self.failure: Unavailable | None = None
        self.is_read_only = False

    def close(self, detail: str = "connection closed") -> None:
        """Make `run` end soon."""
        self._lose(detail)
        self._scope.cancel()

    def offer(self, packed: bytes, slots: Sequence[_Slot]) -> None:
        """Queue packed commands and their slots; the writer takes them with its next write. Atomic (no checkpoint)."""
        self._unsent.append(packed)
        self._slots.extend(slots)
        self._wake.set()

    @property
    def in_flight(self) -> int:
        return len(self._slots)

    async def run(self) -> None:
        """Read, write and watch until the connection is lost; then fail every slot and close the stream.

        Returns rather than raises: `failure` has the error.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for part in (self._write, self._read, self._watch):
                        nursery.start_soon(self._until_lost, part)
        finally:
            self._fail_all()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    async def _until_lost(self, part: Callable[[], Any]) -> None:
        try:
            await part()
        except (trio.BrokenResourceError, trio.ClosedResourceError, hiredis.ProtocolError) as error:
            cause = error.__cause__ or error
            self._lose(f"connection lost ({str(cause) or type(cause).__name__})")
        self._scope.cancel()

    def _lose(self, detail: str) -> None:
        if self.failure is None:
            self.failure = Unavailable("Redis", self.where, detail)
            self._lost.set()
            self.on_lost()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data = b"".join(self._unsent)
            self._unsent.clear()
            await self._stream.send_all(data)

    async def _read(self) -> None:
        gets, slots = self._reader.gets, self._slots
        while data := await self._stream.receive_some(65536):
            self._reader.feed(bytes(data))
            while (reply := gets()) is not False:
                if not slots:
                    self._lose("received a reply without a request")
                    return
                if isinstance(reply, RedisError) and reply.code == "READONLY":
                    self.is_read_only = True
                    self.close(READ_ONLY)
                slot = slots.popleft()
                slot.reply = reply
                if slot.task is not None:
                    task, slot.task = slot.task, None
                    trio.lowlevel.reschedule(task)
        self._lose("Redis closed the connection")

    async def _watch(self) -> None:
        while True:
            await trio.sleep(COMMAND_TIMEOUT_S / 4)
            if self._slots and self._slots[0].due < trio.current_time():
                self._lose("no answer in time")
                return

    def _fail_all(self) -> None:
        self._lose("connection closed")
        while self._slots:
            slot = self._slots.popleft()
            slot.reply = self.failure
            if slot.task is not None:
                task, slot.task = slot.task, None
                trio.lowlevel.reschedule(task)

    async def wait_reply(self, slot: _Slot) -> Any:
        """The reply of the last of the slots that were offered together; the earlier slots have theirs by then.

        Cancelling leaves the command in flight: it takes effect, and its reply is dropped.
        """

        def abort(_: Any) -> trio.lowlevel.Abort:
            slot.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return slot.reply


class Redis:
    """One Redis, shared by all tasks. Run `run` in a nursery while it is used.

    :param url: of a server or of sentinels, as in `store.redis.url`.
    :ivar commands: issued on the shared connection.
    :ivar failures: those of them without a reply.
    :raises ValueError: if the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._servers = Servers(parse_redis_url(url))
        self.where = self._servers.where
        self._link: _Link | None = None
        self._followers: set[_Link] = set()
        self._connected = trio.Event()
        self._is_begun = trio.Event()
        """Set by the first connection, and by the end of `run`."""
        self._first_due = -math.inf
        """Until then commands wait for the first connection."""
        self.connects = 0
        self.commands = 0
        self.failures = 0
        self.reply_seconds = Distribution()
        """The times until a task has the replies to the commands that it issues together."""
        self.moves = 0
        """How many connections led to another server than the connection before."""
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

    async def _wait_lost(self, link: _Link) -> None:
        async def leave_if_moved() -> None:
            await self._servers.wait_moved(link.address)
            link.close("the sentinels name another master")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_if_moved)
            await link.wait_lost()
            nursery.cancel_scope.cancel()

    async def _connect(self) -> _Link:
        delay_s = 0.05
        while True:
            try:
                address = await self._servers.find()
                return _Link(await self._servers.open(address), address)
            except Unavailable as error:
                log.warning("waiting_for_redis", error=str(error), retry_in_s=round(delay_s, 2))
            except RedisError as error:
                # A wrong password, or too many clients: an error that lasts.
                delay_s = MAX_BACKOFF_S
                log.warning("redis_refused", where=self.where, error=str(error))
            # Jitter, so that the processes of a machine do not reconnect in step.
            await trio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311
            delay_s = min(delay_s * 2, MAX_BACKOFF_S)

    def _up(self, link: _Link) -> None:
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

    async def call(self, *command: Argument) -> Reply:
        """Run one command and return its reply: bytes, int, None or a list of these.

        :raises Unavailable: if there is no connection, or it was lost before the reply (then the outcome is unknown).
            A new client first waits for its first connection.
        :raises RedisError: if Redis answered with an error.
        """
        [reply] = await self.pipeline([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Run several commands in a row; return their replies. An error of one command is a `RedisError` among them.

        :raises Unavailable: as in `call`; any part of the commands may have taken effect.
        """
        if not commands:
            await trio.lowlevel.checkpoint()
            return []
        began = perf_counter()
        self.commands += len(commands)
        try:
            return await _exchange(await self._shared(), commands)
        except Unavailable:
            self.failures += len(commands)
            raise
        finally:
            self.reply_seconds.observe(perf_counter() - began)

    async def _shared(self) -> _Link:
        if not self._is_begun.is_set():
            with trio.move_on_at(self._first_due):
                await self._is_begun.wait()
        if self._link is None:
            await trio.lowlevel.checkpoint()
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
        shared = await self._shared()
        link = _Link(await self._servers.open(shared.address), shared.address)
        self._links.start_soon(link.run)
        self._followers.add(link)
        if self._link is not shared:
            link.close("the other connection to it was lost")

        async def call(*command: Argument, wait_s: float, then: Sequence[Command] = ()) -> Reply:
            replies = await _exchange(link, [command, *then], patience_s=wait_s)
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


async def _exchange(link: _Link, commands: Sequence[Command], *, patience_s: float = 0) -> list[Reply]:
    if link.failure is not None:
        await trio.lowlevel.checkpoint()
        raise link.failure
    if link.in_flight + len(commands) > MAX_IN_FLIGHT:
        await trio.lowlevel.checkpoint()
        raise Unavailable("Redis", link.where, f"{link.in_flight} commands wait for a reply already")
    due = trio.current_time() + COMMAND_TIMEOUT_S + patience_s
    slots = [_Slot(None, due) for _ in commands]
    slots[-1].task = trio.lowlevel.current_task()
    link.offer(pack(commands), slots)
    last = await link.wait_reply(slots[-1])
    if isinstance(last, Unavailable):
        raise Unavailable(last.service, last.where, last.detail)
    return [slot.reply for slot in slots]
