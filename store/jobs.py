"""Jobs in Postgres, from the commit that enqueues them until they end. Redis carries their numbers (`jobs.engine`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from store import sql
from store.errors import BadJob, BadValue
from store.postgres.columns import BIGINT, BIGINTS, BOOLS, TEXT, TEXTS
from store.postgres.driver import bigints, texts
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("jobs")
_ENQUEUE_PLAIN: Final = Statement(
    _sql.enqueue_plain,
    {"tasks": TEXTS, "payloads": TEXTS, "priorities": BIGINTS, "waits_ms": BIGINTS, "are_handed": BOOLS},
)
_RELAY: Final = Statement(
    _sql.relay,
    {"tasks": TEXTS, "priorities": BIGINTS, "rooms": BIGINTS, "lease_ms": BIGINT},
)
_CLAIM: Final = Statement(
    _sql.claim,
    {"ids": BIGINTS, "worker": TEXT, "claim_ms": BIGINT},
)
_BEAT: Final = Statement(_sql.beat, {"ids": BIGINTS, "worker": TEXT, "claim_ms": BIGINT})
_END: Final = Statement(
    _sql.end,
    {
        "ids": BIGINTS,
        "versions": BIGINTS,
        "outcomes": TEXTS,
        "delays_ms": BIGINTS,
        "reasons": TEXTS,
        "tracebacks": TEXTS,
        "worker": TEXT,
    },
)

FRESH_LEASE_S: Final = 5.0
"""How long the enqueuer may take to hand the job to Redis, and Redis to give it to a worker, before a relay hands it in
again. Repetitions are harmless: they find the job claimed, or gone."""

LEASE_S: Final = 60.0
"""How long a job may wait in Redis without a heartbeat before a relay hands it in again."""

CLAIM_S: Final = 8.0
"""How long a running job stays its worker's without a heartbeat; the worker sends one every
`jobs.engine.heartbeat.BEAT_S`. Less than `jobs.engine.consumer_group.TAKE_OVER_AFTER_S`: a worker that takes its entry
over finds the job free."""

MAX_UNREADABLE_BYTES: Final = 4096
"""How much of an unreadable payload is kept for its reader."""

CLOCK_SLACK_S: Final = 5.0
"""How far Postgres' clock may be slewed without an effect on jobs."""


class NewJob(Struct, frozen=True):
    """A job without a key, to be enqueued.

    :ivar payload: a JSON object.
    :ivar is_handed: its enqueuer hands it to Redis once it is committed; it has no delay.
    """

    task: str
    payload: bytes
    priority: int = 1
    delay_s: float = 0
    is_handed: bool = False


class Claimed(Struct, frozen=True):
    """A job that begins to run.

    :ivar version: the number of times that it was enqueued under its key.
    :ivar attempt: number of this run, from 1.
    :ivar now_ms: Postgres' time.
    """

    id: int
    task: str
    payload: bytes
    version: int
    attempt: int
    priority: int
    now_ms: int


class Due(Struct, frozen=True):
    """A job for Redis.

    :ivar waited_ms: how long it has been due.
    """

    id: int
    task: str
    priority: int
    waited_ms: int


class Ending(Struct, frozen=True):
    """How a run ended.

    :ivar outcome: "done", "retry", "snoozed", "dead", "lost" (dead: the last attempt ended with its worker, and this
        run did not start) or "cancelled".
    :ivar delay_s: until the next run.
    :ivar reason: of a failure.
    """

    outcome: str
    delay_s: float = 0
    reason: str | None = None
    traceback: str | None = None

    @property
    def is_death(self) -> bool:
        return self.outcome in ("dead", "lost")


class RunEnd(Struct, frozen=True):
    """The end of a run, for `end`."""

    id: int
    version: int
    ending: Ending


class TaskStatus(Struct, frozen=True):
    """The jobs of one task in Postgres.

    :ivar oldest_s: how long the oldest waiting job has been due; None if no job waits.
    """

    task: str
    waiting: int = 0
    delayed: int = 0
    running: int = 0
    dead: int = 0
    oldest_s: float | None = None
    is_paused: bool = False


class DeadJob(Struct, frozen=True):
    """A job that has failed for good.

    :ivar payload: its arguments, in JSON.
    :ivar died_ms: milliseconds since 1970.
    """

    id: int
    task: str
    payload: str
    attempts: int
    reason: str
    traceback: str | None
    died_ms: int


async def enqueue(
    pool: Pool,
    task: str,
    payload: bytes,
    *,
    key: str,
    delay_s: float = 0,
    max_wait_s: float | None = None,
    priority: int = 1,
    is_handed: bool = False,
) -> tuple[int, bool]:
    """Enqueue one job under a key, as the SQL function enqueue() describes; return its id, and whether to hand it to
    Redis now.

    :param payload: a JSON object.
    :param is_handed: whether the caller can hand it to Redis.
    :raises BadJob: if Postgres cannot take it.
    :raises Unavailable: if the outcome is unknown.
    """
    parameters = {
        "task": task,
        "payload": payload.decode(),
        "key": key,
        "delay_s": delay_s,
        "max_wait_s": max_wait_s,
        "priority": priority,
        "lease_s": FRESH_LEASE_S if is_handed else None,
    }
    try:
        [(job, is_to_go)] = await pool.fetch(_sql.enqueue, parameters)
    except BadValue as error:
        raise BadJob(_first_line(error)) from error
    return job, is_to_go


async def enqueue_plain(pool: Pool, new: Sequence[NewJob]) -> list[int]:
    """Enqueue jobs without keys, in one transaction; return their ids, in order.

    :raises BadJob: if Postgres cannot take one of them; then none is enqueued.
    :raises Unavailable: if the outcome is unknown.
    """
    try:
        rows = await pool.run(_ENQUEUE_PLAIN, _plain_values(new))
    except BadValue as error:
        raise BadJob(_first_line(error)) from error
    return [row[0] for row in rows]


async def enqueue_taken(pool: Pool, take: Callable[[], Sequence[NewJob]]) -> list[int]:
    """Like `enqueue_plain`, for jobs that are taken once there is a connection; from then on it is not cancelled."""
    try:
        rows = await pool.run_taken(_ENQUEUE_PLAIN, lambda: _plain_values(take()))
    except BadValue as error:
        raise BadJob(_first_line(error)) from error
    return [row[0] for row in rows]


def _plain_values(new: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "tasks": [job.task for job in new],
        "payloads": [job.payload.decode() for job in new],
        "priorities": [job.priority for job in new],
        "waits_ms": [round((FRESH_LEASE_S if job.is_handed else job.delay_s) * 1000) for job in new],
        "are_handed": [job.is_handed for job in new],
    }


def _first_line(error: BadValue) -> str:
    return str(error).partition("\n")[0]


async def relay(pool: Pool, rooms: Sequence[tuple[str, int, int]]) -> list[Due]:
    """Lease jobs that are due, for a relay that hands them to Redis; they are due again after `LEASE_S`.

    :param rooms: (task, priority, the most jobs of it).
    """
    if not rooms:
        return []
    tasks, priorities, numbers = zip(*rooms, strict=True)
    values = {"tasks": tasks, "priorities": priorities, "rooms": numbers, "lease_ms": round(LEASE_S * 1000)}
    return [Due(*row) for row in await pool.run(_RELAY, values)]


async def release(pool: Pool, ids: Sequence[int]) -> None:
    """Redis refused these jobs: they are due at once."""
    await pool.fetch(_sql.release, {"ids": bigints(ids)})


async def release_all(pool: Pool) -> None:
    """Redis has lost its data: all jobs that were handed to it and do not run are due at once."""
    await pool.fetch(_sql.release_all)


async def shorten_leases(pool: Pool) -> None:
    """Postgres' clock went back: end the leases that would last until it has caught up."""
    await pool.fetch(_sql.shorten_leases, {"lease_s": LEASE_S, "claim_s": CLAIM_S, "slack_s": CLOCK_SLACK_S})


async def next_due(pool: Pool, tasks: Sequence[str]) -> tuple[int, int | None]:
    """Postgres' time, and when the next job of these tasks is due (None: no job is), in ms since 1970."""
    [(now_ms, due_ms)] = await pool.fetch(_sql.next_due, {"tasks": texts(tasks)})
    return now_ms, due_ms


async def claim(pool: Pool, ids: Sequence[int], worker: str) -> dict[int, Claimed | str]:
    """Begin to run these jobs: job -> `Claimed`, or the reason against it: "busy" (another worker runs it), "early" (it
    failed and waits for its retry) or "gone" (it has ended). An early or busy job comes back by itself if it must."""
    found: dict[int, Claimed | str] = {}
    values = {"ids": ids, "worker": worker, "claim_ms": round(CLAIM_S * 1000)}
    for id, outcome, *rest in await pool.run(_CLAIM, values):
        found[id] = Claimed(id, *rest) if outcome == "claimed" else outcome
    return found


async def beat(pool: Pool, ids: Sequence[int], worker: str) -> dict[int, bool]:
    """Renew this worker's claims; for each job that is still this worker's, whether to stop it."""
    values = {"ids": ids, "worker": worker, "claim_ms": round(CLAIM_S * 1000)}
    return dict(await pool.run(_BEAT, values))


async def end(pool: Pool, runs: Sequence[RunEnd], worker: str) -> None:
    """Write the outcomes of these runs in one transaction."""
    await pool.run(
        _END,
        {
            "ids": [run.id for run in runs],
            "versions": [run.version for run in runs],
            "outcomes": [run.ending.outcome for run in runs],
            "delays_ms": [round(run.ending.delay_s * 1000) for run in runs],
            "reasons": [run.ending.reason for run in runs],
            "tracebacks": [run.ending.traceback for run in runs],
            "worker": worker,
        },
    )


async def add_dead_volatile(
    pool: Pool, volatile_id: str, task: str, payload: bytes, priority: int, attempts: int, ending: Ending
) -> None:
    """Keep a dead job that was in Redis only. A payload that is not JSON becomes a text under `unreadable`."""
    parameters = {
        "volatile_id": _printable(volatile_id),
        "task": task,
        "payload": payload.decode(errors="backslashreplace"),
        "priority": priority,
        "attempts": attempts,
        "reason": ending.reason or "",
        "traceback": ending.traceback,
    }
    try:
        await pool.fetch(_sql.add_dead_volatile, parameters)
    except BadValue:
        text = payload[:MAX_UNREADABLE_BYTES].decode(errors="backslashreplace")
        parameters["payload"] = json.dumps({"unreadable": _printable(text)})
        await pool.fetch(_sql.add_dead_volatile, parameters)


def _printable(text: str) -> str:
    """Without NUL, which Postgres refuses."""
    return text.replace("\0", "\\0")


async def cancel(pool: Pool, job: int) -> str | None:
    """Cancel a job: "cancelled" if it waited, "stopping" if it runs; None for an unknown job."""
    rows = await pool.fetch(_sql.cancel, {"id": job})
    return ("stopping" if rows[0][0] else "cancelled") if rows else None


async def state(pool: Pool, job: int) -> tuple[str, int, str | None] | None:
    """State ("running", "waiting", "delayed", "dead"), attempts, and the reason of death; None for an unknown job."""
    rows = await pool.fetch(_sql.state, {"id": job})
    return rows[0] if rows else None


async def task_statuses(pool: Pool) -> list[TaskStatus]:
    """The jobs of each task that has jobs, or is paused."""
    return [TaskStatus(*row) for row in await pool.fetch(_sql.task_statuses)]


async def dead_jobs(
    pool: Pool, *, task: str | None = None, job: int | None = None, before: int | None = None, limit: int = 50
) -> list[DeadJob]:
    """Dead jobs, the latest first.

    :param before: only jobs with a lower number.
    """
    parameters = {"task": task, "id": job, "before": before, "limit": limit}
    return [DeadJob(*row) for row in await pool.fetch(_sql.dead_jobs, parameters)]


async def replay(pool: Pool, *, task: str | None = None, job: int | None = None, limit: int) -> int:
    """Enqueue dead jobs again, as new jobs; return how many."""
    [(number,)] = await pool.fetch(_sql.replay, {"task": task, "id": job, "limit": limit})
    return int(number)


async def discard(pool: Pool, *, task: str | None = None, job: int | None = None, limit: int) -> int:
    """Delete dead jobs; return how many."""
    [(number,)] = await pool.fetch(_sql.discard, {"task": task, "id": job, "limit": limit})
    return int(number)


async def forget_dead(pool: Pool, *, days: int, limit: int) -> int:
    """Delete jobs that died `days` ago; return how many."""
    [(number,)] = await pool.fetch(_sql.forget_dead, {"days": days, "limit": limit})
    return int(number)


async def paused_tasks(pool: Pool) -> set[str]:
    """Tasks that are paused."""
    return {row[0] for row in await pool.fetch(_sql.paused_tasks)}


async def pause(pool: Pool, task: str) -> bool:
    """Pause a task, so that its jobs wait; false if it was paused already."""
    return bool(await pool.fetch(_sql.pause, {"task": task}))


async def resume(pool: Pool, task: str) -> bool:
    """End the pause of a task; false if it was not paused."""
    return bool(await pool.fetch(_sql.resume, {"task": task}))
