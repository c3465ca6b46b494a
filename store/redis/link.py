"""One connection to a Redis server: a reader, a writer, and the commands in flight between them.

redis-py's asynchronous client is for asyncio, so Trio carries the bytes: hiredis packs commands and parses replies. The
commands of all tasks are pipelined: commands that tasks issue during a write leave with the next write, and replies
come back in order. That way a command costs a few microseconds. A lost link fails every command in flight with
`Unavailable`: the command may have taken effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
import trio

from store.errors import Unavailable
from store.redis.servers import Command, RedisError, pack
from store.redis.url import Address

COMMAND_TIMEOUT_S: Final = 5.0
"""The oldest command in flight may wait this long for its reply; then the connection counts as dead. Our commands take
microseconds; a Redis that is stopped, or saves to a slow disk, stalls all of them."""

MAX_IN_FLIGHT: Final = 100_000
"""Commands without a reply, in all tasks together: a busy Redis answers this many in 0.5 s. Protects memory."""

READ_ONLY: Final = "it is a replica and takes no writes"

Reply: TypeAlias = Any

_NONE_YET: Final = object()


class _Slot:
    """One command, and its reply once that has come."""

    __slots__ = ("due", "reply", "task")

    def __init__(self, due: float) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.due = due
        self.reply: Any = _NONE_YET


class RedisLink:
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

    def begin(self, commands: Sequence[Command], *, patience_s: float = 0) -> SentCommands:
        """Queue some commands; the writer takes them with its next write. Atomic (no checkpoint).

        :param patience_s: how long the commands may block in Redis.
        :raises Unavailable: if the link is lost, or too many commands wait already.
        """
        if self.failure is not None:
            raise again(self.failure)
        if len(self._slots) + len(commands) > MAX_IN_FLIGHT:
            raise Unavailable("Redis", self.where, f"{len(self._slots)} commands wait for a reply already")
        due = trio.current_time() + COMMAND_TIMEOUT_S + patience_s
        slots = [_Slot(due) for _ in commands]
        self._unsent.append(pack(commands))
        self._slots.extend(slots)
        self._wake.set()
        return SentCommands(slots)

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


class SentCommands:
    """Commands that were sent together."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Sequence[_Slot]) -> None:
        self._slots = slots

    async def replies(self) -> list[Reply]:
        """The replies, once the last has come: the earlier ones have come by then. Call this once.

        Cancelling leaves the commands in flight: they take effect, and their replies are dropped.

        :raises Unavailable: if the link was lost before the last reply.
        """
        last = self._slots[-1]
        if last.reply is _NONE_YET:
            last.task = trio.lowlevel.current_task()

            def abort(_: Any) -> trio.lowlevel.Abort:
                last.task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        if isinstance(last.reply, Unavailable):
            raise again(last.reply)
        return [slot.reply for slot in self._slots]


def again(error: Unavailable) -> Unavailable:
    """A copy, for one of several tasks that raise it: each adds its own traceback."""
    return Unavailable(error.service, error.where, error.detail)
