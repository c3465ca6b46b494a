"""The commands of operators. Each returns rows to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import trio

from jobs.engine import consumer_group, streams
from jobs.engine.queue import Queue
from jobs.engine.task import BadPayload, Task
from runtime.commands import CommandError, Rows
from store import jobs, schedules
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis

REDIS_PATIENCE_S: Final = 3.0
"""How long a command waits for a connection to Redis."""

MAX_REPLAYED: Final = 1000
"""Dead jobs in one transaction."""

MAX_REASON: Final = 80
"""Characters of a reason in a table; a single job is shown with all of its reason."""


class Commands:
    """
    :param tasks: all tasks, by name.
    """

    def __init__(self, pool: Pool, redis: Redis, tasks: Mapping[str, Task]) -> None:
        self._pool = pool
        self._redis = redis
        self._tasks = tasks
        self._queue = Queue(pool, redis)

    async def status(self) -> Rows:
        """For each task: its jobs in Postgres by state, how long the oldest has waited, its entries in Redis; and in
        each row the number of workers."""
        found = {each.task: each for each in await jobs.task_statuses(self._pool)}
        in_redis, workers = await self._in_redis()
        rows: Rows = []
        for name in sorted({*self._tasks, *found}):
            each = found.get(name) or jobs.TaskStatus(name)
            row = {"task": name, "waiting": each.waiting, "delayed": each.delayed, "running": each.running}
            row |= {"dead": each.dead, "oldest_s": each.oldest_s, "in_redis": in_redis.get(name)}
            row |= {"is_paused": each.is_paused, "is_known": name in self._tasks, "workers": workers}
            rows.append(row)
        return rows

    async def _in_redis(self) -> tuple[dict[str, int], int | None]:
        """The entries of each task and the number of workers; empty and None if Redis cannot be reached."""
        try:
            await self._wait_redis()
            in_redis = await streams.lengths_by_task(self._redis, self._tasks)
            return in_redis, await consumer_group.count_workers(self._redis)
        except StoreError:
            return {}, None

    async def schedule(self) -> Rows:
        """When each schedule fires next."""
        found, _ = await schedules.all_schedules(self._pool)
        return [
            {
                "schedule": each.name,
                "task": each.task,
                "rule": each.rule,
                "zone": each.zone,
                "missed": each.missed,
                "next": _moment(each.next),
                "last": _moment(each.last),
                "is_paused": each.is_paused,
                "is_known": each.task in self._tasks,
            }
            for each in found
        ]

    async def set_schedule(self, name: str, what: str) -> Rows:
        """
        :param what: "pause", "resume" or "remove".
        :raises CommandError: if the schedule does not exist, or is in that state already.
        """
        do = {"pause": schedules.pause, "resume": schedules.resume, "remove": schedules.remove}[what]
        if not await do(self._pool, name):
            raise CommandError(
                f"cannot {what} {name!r}: no such schedule, or nothing to change (python -m jobs schedule lists them)"
            )
        return [{"schedule": name, "done": what}]

    async def dead(self, which: str | None, limit: int) -> Rows:
        """Dead jobs, the latest first; a single job with all of its fields.

        :param which: a task or a job; None for all.
        :raises CommandError: if the job does not exist.
        """
        job = int(which) if which is not None and which.isdigit() else None
        found = await jobs.dead_jobs(self._pool, task=which if job is None else None, job=job, limit=limit)
        if job is not None:
            if not found:
                raise CommandError(f"{job} must be the number of a dead job (python -m jobs dead lists them)")
            return [{"field": name, "value": value} for name, value in _dead_row(found[0]).items()]
        return [
            {**_dead_row(each), "reason": each.reason[:MAX_REASON], "traceback": bool(each.traceback)} for each in found
        ]

    async def replay(self, which: str | None) -> Rows:
        """Enqueue dead jobs again.

        :param which: a task or a job; None for all.
        :raises CommandError: if no dead job fits.
        """
        return await self._change_dead(which, jobs.replay, "replayed")

    async def discard(self, which: str | None) -> Rows:
        """Delete dead jobs.

        :param which: a task or a job; None for all.
        :raises CommandError: if no dead job fits.
        """
        return await self._change_dead(which, jobs.discard, "discarded")

    async def _change_dead(self, which: str | None, do: Any, done: str) -> Rows:
        job = int(which) if which is not None and which.isdigit() else None
        total = 0
        while number := await do(self._pool, task=which if job is None else None, job=job, limit=MAX_REPLAYED):
            total += number
        if not total:
            raise CommandError(f"no dead jobs{'' if which is None else f' of {which}'}")
        return [{done: total}]

    async def pause(self, task: str) -> Rows:
        """Let the jobs of a task wait; running jobs go on.

        :raises CommandError: if the task does not exist.
        """
        self._known(task)
        return [{"task": task, "is_paused": True, "was_paused": not await jobs.pause(self._pool, task)}]

    async def resume(self, task: str) -> Rows:
        """Let the jobs of a paused task run again.

        :raises CommandError: if the task is not paused.
        """
        if not await jobs.resume(self._pool, task):
            raise CommandError(f"{task} is not paused")
        return [{"task": task, "is_paused": False}]

    async def enqueue(self, task: str, arguments: str, *, key: str, delay_s: float, priority: str) -> Rows:
        """
        :param arguments: a JSON object.
        :raises CommandError: if the task does not exist, or the arguments do not fit it.
        """
        known = self._known(task)
        try:
            parsed = json.loads(arguments)
            if not isinstance(parsed, dict):
                raise CommandError(f"the arguments must be a JSON object, such as {{}}, not {arguments}")
            job = await self._queue.enqueue(known, parsed, key=key, delay_s=delay_s, priority=priority)
        except json.JSONDecodeError as error:
            raise CommandError(f"the arguments must be a JSON object: {error}") from None
        except BadPayload as error:
            raise CommandError(str(error)) from None
        return [{"job": job, "task": task}]

    async def cancel(self, job: str) -> Rows:
        """Keep a job from running, or stop it.

        :raises CommandError: if the job does not exist.
        """
        await self._wait_redis()
        state = await self._queue.cancel(job)
        if state == "unknown":
            raise CommandError(f"job {job} has ended, or never existed")
        return [{"job": job, "state": state}]

    async def show(self, job: str) -> Rows:
        """The state of a job: attempts, progress, result."""
        await self._wait_redis()
        state = await self._queue.state(job)
        return [{"job": job, **{name: getattr(state, name) for name in state.__struct_fields__}}]

    def _known(self, task: str) -> Task:
        if task not in self._tasks:
            raise CommandError(f"{task!r} must be one of these tasks: {', '.join(sorted(self._tasks))}")
        return self._tasks[task]

    async def _wait_redis(self) -> None:
        with trio.move_on_after(REDIS_PATIENCE_S):
            await self._redis.wait_connected()


def _dead_row(each: jobs.DeadJob) -> dict[str, Any]:
    return {
        "job": each.id,
        "task": each.task,
        "attempts": each.attempts,
        "died": _moment(datetime.fromtimestamp(each.died_ms / 1000, UTC)),
        "payload": each.payload,
        "reason": each.reason,
        "traceback": each.traceback,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")
