"""When a schedule is due: computes ticks from its rule. No I/O, no clock."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

MAX_MISSED: Final = 1000
"""Jobs for missed ticks that are enqueued at once, if each tick gets its own; the oldest ticks get none."""

GRACE_S: Final = 10.0
"""A tick this late or less was not missed, only fired late."""

MIN_PERIOD_S: Final = 0.001
MAX_PERIOD_S: Final = 366 * 86_400.0
"""Bounds of an interval. Rules are written in milliseconds; a year is longer than any schedule needs."""

_EVERY: Final = re.compile(r"every (\d+(?:\.\d+)?) s")


class BadRule(ValueError):
    """A rule or a time zone cannot be read. The text says which."""


class Firing(NamedTuple):
    """What to do for a due schedule.

    :ivar jobs: how many to enqueue; may be 0.
    :ivar next: the next tick.
    :ivar missed: ticks that get no job of their own.
    """

    jobs: int
    next: datetime
    missed: int


def next_tick(rule: str, zone: str, after: datetime) -> datetime:
    """The first tick after a moment.

    When clocks are put forward, a tick in the hour that does not exist comes right after it. When they are put back, a
    tick at a fixed hour comes once (as in Debian's cron).

    :raises BadRule: if the rule or the zone cannot be read.
    """
    if every := _EVERY.fullmatch(rule):
        return after + _period(rule, every[1])
    try:
        return next(CronSim(rule, after.astimezone(ZoneInfo(zone)))).astimezone(after.tzinfo)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRule(f"the zone must be a name of the IANA database, such as Europe/Berlin, not {zone!r}") from error
    except CronSimError as error:
        raise BadRule(f"{rule!r} is not a cron expression: {error}") from error
    except StopIteration:
        raise BadRule(f"{rule!r} never fires") from None


def due(rule: str, zone: str, missed: str, tick: datetime, now: datetime) -> Firing:
    """The jobs for a tick that has come, and the next tick.

    :param tick: not after `now`.
    :param missed: "skip": only a tick within `GRACE_S` counts; "once": one job for all ticks; "all": one for each.
    """
    ticks, latest, upcoming = _ticks(rule, zone, tick, now)
    if missed == "all":
        jobs = min(ticks, MAX_MISSED)
    elif missed == "skip":
        jobs = int((now - latest).total_seconds() <= GRACE_S)
    else:
        jobs = 1
    return Firing(jobs, upcoming, ticks - jobs)


def _ticks(rule: str, zone: str, tick: datetime, now: datetime) -> tuple[int, datetime, datetime]:
    """The number of ticks that have come, the latest of them, and the next tick."""
    if every := _EVERY.fullmatch(rule):
        # Stay on the same grid, so that the schedule does not drift.
        period = _period(rule, every[1])
        passed = (now - tick) // period
        return passed + 1, tick + passed * period, tick + (passed + 1) * period
    count, latest = 1, tick
    while (upcoming := next_tick(rule, zone, latest)) <= now:
        count, latest = count + 1, upcoming
        if count > 2 * MAX_MISSED:
            # Too many to count: go on from now.
            latest, upcoming = now, next_tick(rule, zone, now)
            break
    return count, latest, upcoming


def _period(rule: str, seconds: str) -> timedelta:
    if not MIN_PERIOD_S <= float(seconds) <= MAX_PERIOD_S:
        raise BadRule(f"{rule!r} must be {MIN_PERIOD_S:g} to {MAX_PERIOD_S:g} s")
    return timedelta(seconds=float(seconds))


def is_too_far(rule: str, zone: str, tick: datetime, now: datetime) -> datetime | None:
    """The right next tick, if the present one lies further in the future than its rule allows, as after the clock went
    back; None if it does not. A clock that goes back by at most `GRACE_S` fires no tick twice."""
    return next_tick(rule, zone, now) if tick > next_tick(rule, zone, now + timedelta(seconds=GRACE_S)) else None
