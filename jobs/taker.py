"""Takes entries from the streams, as many as may run, and hands them to the crew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
import trio

from jobs import streams
from jobs.crew import Crew
from jobs.streams import Limits, Taken
from jobs.task import Task
from store.errors import StoreError
from store.redis import Redis, RedisError

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.2
"""How often a task with a limit of its own is looked at while nothing else comes: a stream cannot be waited for that
may not be read now."""

RETRY_S: Final = 0.25


class Taker:
    """
    :param paused: asked for the tasks that are paused now.
    :param on_flushed: called when Redis is found to have lost what was in it, by the one worker that is to see to it.
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        tasks: Mapping[str, Task],
        crew: Crew,
        paused: Callable[[], set[str]],
        on_flushed: Callable[[], Any],
    ) -> None:
        self._redis = redis
        self._worker = worker
        self._limits = {name: _limits_of(task) for name, task in tasks.items()}
        self._crew = crew
        self._paused = paused
        self._on_flushed = on_flushed
        self._is_stopping = False
        self._take_over_at = 0.0

    def stop(self) -> None:
        """Take nothing more; `run` returns within `streams.BLOCK_MS`."""
        self._is_stopping = True

    async def run(self) -> None:
        """Until told to stop. Cancelling it may leave an entry that Redis has given to this worker already; others
        take it over."""
        while not self._is_stopping:
            try:
                await self._redis.wait_connected()
                await self._take_on()
            except (StoreError, RedisError) as error:
                if not str(error).startswith("NOGROUP"):
                    log.warning("queue_lost", error=str(error))
                    await trio.sleep(RETRY_S)

    async def _take_on(self) -> None:
        async with self._redis.blocking() as call:
            await self._make_groups()
            while not self._is_stopping:
                room = await self._crew.wait_room()
                if trio.current_time() >= self._take_over_at:
                    self._take_over_at = trio.current_time() + streams.TAKE_OVER_AFTER_S / 4
                    taken = await streams.take_over(self._redis, self._worker, self._limits, room)
                    _log_taken_over(taken)
                    await self._begin(taken)
                    continue
                taken = await self._take_what_is_there(room)
                if not taken.entries and not taken.bad:
                    taken = await self._wait_for_more(call)
                await self._begin(taken)

    async def _make_groups(self) -> None:
        await streams.make_groups(self._redis, streams.streams_of(self._limits))
        if await streams.begin_epoch(self._redis):
            await self._on_flushed()

    def _open(self) -> dict[str, Limits]:
        paused = self._paused()
        return {task: limits for task, limits in self._limits.items() if task not in paused}

    async def _take_what_is_there(self, room: int) -> Taken:
        open_ = self._open()
        if not open_:
            return Taken([], [], [])
        taken = await streams.take(self._redis, self._worker, open_, room)
        if taken.groupless:
            await self._make_groups()
        return taken

    async def _wait_for_more(self, call: Callable[..., Any]) -> Taken:
        open_ = self._open()
        free = [task for task, limits in open_.items() if limits.are_none]
        is_to_look = len(free) < len(open_)
        if not free:
            await trio.sleep(LOOK_S if is_to_look else streams.BLOCK_MS / 1000)
            return Taken([], [], [])
        wait_ms = min(streams.BLOCK_MS, round(LOOK_S * 1000)) if is_to_look else streams.BLOCK_MS
        return await streams.wait_take(call, self._worker, free, wait_ms)

    async def _begin(self, taken: Taken) -> None:
        if taken.bad:
            for _, _, what in taken.bad:
                log.error("entry_is_no_job", error=what)
            await streams.finish(self._redis, [(stream, id) for stream, id, _ in taken.bad])
        rest = taken.entries
        while rest:
            # More than there is room for, if several streams had something at the same moment.
            room = await self._crew.wait_room()
            await self._crew.begin(rest[:room])
            rest = rest[room:]


def _limits_of(task: Task) -> Limits:
    starts, period_s = task.rate or (0, 0.0)
    return Limits(task.concurrency, starts, period_s)


def _log_taken_over(taken: Taken) -> None:
    for entry in taken.entries:
        log.info("job_taken_over", task=entry.stream.task, job=entry.job or entry.durable, entry=entry.id.decode())
