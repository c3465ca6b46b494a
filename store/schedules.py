"""Schedules in Postgres: when each fires next, by Postgres' clock. `jobs.engine.scheduler` knows their rules."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from store import sql
from store.postgres.pool import Pool

_sql = sql.load("schedules")


class Schedule(Struct, frozen=True):
    """A schedule.

    :ivar rule: a cron expression, or "every N s".
    :ivar zone: of the IANA database.
    :ivar missed: what to do about missed ticks: "skip", "once" or "all".
    :ivar next: the next tick.
    :ivar last: the time when it last fired.
    """

    name: str
    task: str
    rule: str
    zone: str
    missed: str
    next: datetime
    last: datetime | None
    is_paused: bool


async def now(pool: Pool) -> datetime:
    """Postgres' time."""
    [(moment,)] = await pool.fetch(_sql.now)
    assert isinstance(moment, datetime)
    return moment


async def declare(
    pool: Pool, name: str, task: str, rule: str, zone: str, missed: str, *, next: datetime, payload: str = "{}"
) -> None:
    """Create a schedule, or give it this rule.

    :param next: its first tick, if it is new or its rule has changed.
    """
    parameters = {
        "name": name,
        "task": task,
        "payload": payload,
        "rule": rule,
        "zone": zone,
        "missed": missed,
        "next": next,
    }
    await pool.fetch(_sql.declare, parameters)


async def all_schedules(pool: Pool) -> tuple[list[Schedule], datetime | None]:
    """All schedules, and Postgres' time (None if there are no schedules)."""
    rows = await pool.fetch(_sql.all)
    return [Schedule(*row[:-1]) for row in rows], rows[0][-1] if rows else None


async def fire(pool: Pool, schedule: Schedule, *, next: datetime, jobs: int) -> bool:
    """Enqueue this many jobs and set the next tick, in one transaction; false if another worker did, or it is
    paused."""
    parameters = {
        "name": schedule.name,
        "seen": schedule.next,
        "next": next,
        "jobs": jobs,
        "is_one": schedule.missed != "all",
    }
    [(fired,)] = await pool.fetch(_sql.fire, parameters)
    return bool(fired)


async def mend(pool: Pool, schedule: Schedule, *, next: datetime) -> None:
    """Set its next tick, since the clock went back."""
    await pool.fetch(_sql.mend, {"name": schedule.name, "seen": schedule.next, "next": next})


async def pause(pool: Pool, name: str) -> bool:
    """Pause it; false if it was paused, or does not exist."""
    return bool(await pool.fetch(_sql.pause, {"name": name}))


async def resume(pool: Pool, name: str) -> bool:
    """Resume it; false if it was not paused, or does not exist."""
    return bool(await pool.fetch(_sql.resume, {"name": name}))


async def remove(pool: Pool, name: str) -> bool:
    """Remove it. A schedule that the code declares comes back with the next worker that starts."""
    return bool(await pool.fetch(_sql.remove, {"name": name}))
