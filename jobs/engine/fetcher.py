"""Takes as many entries from the streams as may run, and passes them to the runner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import structlog
import trio

from jobs.engine import consumer_group, streams
from jobs.engine.consumer_group import TakenEntries, TaskLimits
from jobs.engine.monitor import Monitor
from jobs.engine.runner import Runner
from jobs.engine.streams import JobStream
from jobs.engine.task import Task
from store.errors import StoreError
from store.redis.client import Redis, RedisError

log = structlog.get_logger(__name__)

POLL_S: Final = 0.2
"""How often to look for jobs of tasks with limits while no others come: a blocking read cannot skip a stream that may
not be read now."""

RETRY_S: Final = 0.25

REGROUP_S: Final = 1.0
"""How often to try again to make the groups for which a full Redis had no room."""

LOWEST_FIRST: Final = 16
"""One call in 16 takes the lowest priority first, so that higher priorities cannot hold it up for ever."""


class Fetcher:
    """
    :param monitor: knows which tasks are paused.
    :param on_flushed: called when Redis has lost its data, on the one worker that must hand the jobs in again.
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        tasks: Mapping[str, Task],
        runner: Runner,
        monitor: Monitor,
        on_flushed: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._limits = {name: _limits_of(task) for name, task in tasks.items()}
        self._runner = runner
        self._monitor = monitor
        self._on_flushed = on_flushed
        self._groupless: set[JobStream] = set()
        self._groups_at = 0.0
        self._has_begun = False
        self._turn = 0
        self._is_stopping = False
        self._waiting = trio.CancelScope()
        self._take_over_at = 0.0

    def stop(self) -> None:
        """Stop taking entries; `run` returns within `consumer_group.BLOCK_MS`, or once the taken entries have
        begun."""
        self._is_stopping = True
        self._waiting.cancel()

    async def run(self) -> None:
        """Run until `stop`. Cancelling it may leave an entry that Redis has assigned to this worker; another worker
        takes that over."""
        await self._unless_stopped(self._monitor.wait_known)
        while not self._is_stopping:
            try:
                await self._unless_stopped(self._redis.wait_connected)
                if not self._is_stopping:
                    await self._take_until_stopped()
            except StoreError as error:
                if not (isinstance(error, RedisError) and error.code == "NOGROUP"):
                    log.warning("redis_not_read", error=str(error))
                    await trio.sleep(RETRY_S)

    async def _unless_stopped(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait, without taking entries, until the wait ends or `stop` is called."""
        with trio.CancelScope() as self._waiting:
            if self._is_stopping:
                self._waiting.cancel()
            await wait()

    async def _take_until_stopped(self) -> None:
        async with self._redis.blocking() as call:
            await self._make_groups()
            while True:
                await self._unless_stopped(self._runner.wait_room)
                if self._is_stopping:
                    return
                room = self._runner.room
                if trio.current_time() >= self._take_over_at:
                    await self._take_over(room)
                    continue
                taken = await self._take_waiting(room)
                if not taken.entries and not taken.bad:
                    taken = await self._wait_take(call)
                await self._begin(taken)

    async def _take_over(self, room: int) -> None:
        taken = await consumer_group.take_over(self._redis, self._worker, self._unpaused(), room)
        if len(taken.entries) + len(taken.bad) < room:
            # Otherwise there may be more to take over, and the oldest entries come first.
            self._take_over_at = trio.current_time() + consumer_group.TAKE_OVER_AFTER_S / 4
        _log_taken_over(taken)
        await self._begin(taken)

    async def _make_groups(self) -> None:
        self._groups_at = trio.current_time() + REGROUP_S
        self._groupless = set(await consumer_group.make_groups(self._redis, streams.streams_of(self._limits)))
        if self._groupless:
            log.error(
                "redis_is_full",
                note="workers cannot take jobs of these tasks",
                tasks=sorted(_tasks_of(self._groupless)),
            )
        if await consumer_group.begin_epoch(self._redis):
            if self._has_begun:
                log.warning("redis_was_flushed", note="the relay hands the jobs in again")
            self._on_flushed()
        self._has_begun = True

    def _unpaused(self) -> dict[str, TaskLimits]:
        paused = self._monitor.paused
        return {task: limits for task, limits in self._limits.items() if task not in paused}

    async def _take_waiting(self, room: int) -> TakenEntries:
        unpaused = list(self._unpaused().items())
        if not unpaused:
            return TakenEntries([], [], [])
        # Tasks of one priority take turns, so that a task with many jobs does not hold up the others.
        self._turn += 1
        first = self._turn % len(unpaused)
        in_turn = dict(unpaused[first:] + unpaused[:first])
        is_lowest_first = self._turn % LOWEST_FIRST == 0
        ahead = {task: self._runner.pace.ahead(task) for task in in_turn}
        taken = await consumer_group.take(
            self._redis, self._worker, in_turn, room, ahead=ahead, lowest_first=is_lowest_first
        )
        if not self._groupless.issuperset(taken.groupless) or (
            self._groupless and trio.current_time() >= self._groups_at
        ):
            await self._make_groups()
        return taken

    async def _wait_take(self, call: Callable[..., Any]) -> TakenEntries:
        unpaused = self._unpaused()
        free = [task for task, limits in unpaused.items() if limits.is_unlimited]
        is_to_look = len(free) < len(unpaused)
        readable = [each for each in streams.streams_of(free) if each not in self._groupless]
        wait_ms = min(consumer_group.BLOCK_MS, round(POLL_S * 1000)) if is_to_look else consumer_group.BLOCK_MS
        if not readable:
            await trio.sleep(wait_ms / 1000)
            return TakenEntries([], [], [])
        return await consumer_group.wait_take(call, self._worker, readable, wait_ms)

    async def _begin(self, taken: TakenEntries) -> None:
        if taken.bad:
            for _, _, error in taken.bad:
                log.error("entry_invalid", error=error)
            await consumer_group.finish(self._redis, [(stream, id) for stream, id, _ in taken.bad])
        rest, ahead, taken_at = taken.entries, taken.ahead, trio.current_time()
        while rest:
            # More entries than there is room for, if several streams had one at the same moment.
            room = await self._runner.wait_room()
            if trio.current_time() - taken_at > consumer_group.TAKE_OVER_AFTER_S / 2:
                log.info("jobs_left_to_another_worker", jobs=len(rest))
                return
            await self._runner.begin(rest[: room + ahead], are_cancelled=taken.are_cancelled)
            rest, ahead = rest[room + ahead :], 0


def _tasks_of(groupless: Iterable[JobStream]) -> set[str]:
    return {stream.task for stream in groupless}


def _limits_of(task: Task) -> TaskLimits:
    starts, period_s = task.rate or (0, 0.0)
    return TaskLimits(task.concurrency, starts, period_s)


def _log_taken_over(taken: TakenEntries) -> None:
    for entry in taken.entries:
        log.info("job_taken_over", task=entry.stream.task, job=entry.job or entry.durable, entry=entry.id.decode())
