"""Enqueues scheduled jobs. Any number of workers look at the schedules; one of them fires each tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from jobs.engine.task import Cron, Task
from jobs.engine.ticks import BadRule, Firing, due, is_too_far, next_tick
from store import schedules
from store.errors import StoreError
from store.postgres.pool import Pool
from store.schedules import Schedule

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""How often to look; a tick may be this much late."""


async def declare_all(pool: Pool, tasks: Mapping[str, Task]) -> None:
    """Write the schedules of all tasks to Postgres.

    :raises BadRule: if a rule cannot be read, which is a mistake in the code.
    """
    moment = await schedules.now(pool)
    for task in tasks.values():
        rule = task.schedule
        if isinstance(rule, Cron):
            first = next_tick(rule.expression, rule.zone, moment)
            await schedules.declare(pool, task.name, task.name, str(rule), rule.zone, rule.missed, next=first)
        elif rule is not None:
            await schedules.declare(pool, task.name, task.name, str(rule), "UTC", "once", next=moment)


async def fire_forever(pool: Pool, tasks: Mapping[str, Task]) -> None:
    """Run until cancelled."""
    is_declared, has_looked = False, False
    while True:
        try:
            if not is_declared:
                await declare_all(pool, tasks)
                is_declared = True
            await fire_once(pool, tasks, has_looked=has_looked)
            has_looked = True
        except StoreError as error:
            log.warning("schedules_wait", error=str(error))
        await trio.sleep(POLL_S)


async def fire_once(pool: Pool, tasks: Mapping[str, Task], *, has_looked: bool = True) -> int:
    """Fire the schedules that are due; returns how many this worker fired.

    :param has_looked: whether this worker has looked before. It does not warn of ticks missed before its start, when
        perhaps no worker was meant to run.
    """
    found, moment = await schedules.all_schedules(pool)
    fired = 0
    for schedule in found:
        # Newer workers fire the schedules of tasks that only they know.
        if moment is None or schedule.is_paused or schedule.task not in tasks:
            continue
        try:
            if schedule.next <= moment:
                firing = due(schedule.rule, schedule.zone, schedule.missed, schedule.next, moment)
                fired += await _fire(pool, schedule, firing, has_looked)
            elif (nearer := is_too_far(schedule.rule, schedule.zone, schedule.next, moment)) is not None:
                log.warning("clock_of_postgres_went_back", schedule=schedule.name)
                await schedules.mend(pool, schedule, next=nearer)
        except BadRule as error:
            log.error("bad_schedule", schedule=schedule.name, error=str(error))
    return fired


async def _fire(pool: Pool, schedule: Schedule, firing: Firing, has_looked: bool) -> bool:
    fired = await schedules.fire(pool, schedule, next=firing.next, jobs=firing.jobs)
    if fired:
        log.debug("schedule_fired", schedule=schedule.name, jobs=firing.jobs)
        if firing.missed:
            say = log.warning if has_looked else log.info
            say("ticks_missed", schedule=schedule.name, ticks=firing.missed, missed=schedule.missed)
    return fired
