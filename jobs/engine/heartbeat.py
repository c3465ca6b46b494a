"""Heartbeats: keep this worker's entries and claims, and stop the runs that it has lost or that were cancelled."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from jobs.engine import consumer_group
from jobs.engine.run import Run
from jobs.engine.runner import Runner
from store import jobs
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis

log = structlog.get_logger(__name__)

BEAT_S: Final = 2.0
"""A fifth of `consumer_group.TAKE_OVER_AFTER_S`, a quarter of `jobs.CLAIM_S`: three in a row may fail."""

MAX_BEATS: Final = 500
"""Entries of one call of the script."""


async def beat_forever(pool: Pool, redis: Redis, worker: str, runner: Runner) -> None:
    """Run until cancelled. Redis and Postgres have a loop each: a slow one does not delay the other."""

    async def beat_redis() -> None:
        while True:
            await _beat_redis(redis, worker, runner.held)
            await trio.sleep(BEAT_S)

    async def beat_postgres() -> None:
        while True:
            await trio.sleep(BEAT_S)
            await _beat_postgres(pool, worker, runner.held)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat_redis)
        nursery.start_soon(beat_postgres)


async def _beat_redis(redis: Redis, worker: str, held: list[Run]) -> None:
    try:
        await consumer_group.announce(redis, worker)
        for at in range(0, len(held), MAX_BEATS):
            some = held[at : at + MAX_BEATS]
            answers = await consumer_group.beat(redis, worker, [run.entry for run in some])
            for run, answer in zip(some, answers, strict=True):
                if answer == 2:
                    run.stop("cancelled")
                elif answer == 0 and run.entry.durable is None:
                    # Or the run has just finished: then this does nothing. For durable jobs the claim in Postgres
                    # decides.
                    run.stop("lost")
    except StoreError as error:
        log.warning("heartbeat_failed", service="Redis", error=str(error))


async def _beat_postgres(pool: Pool, worker: str, held: list[Run]) -> None:
    by_id = {run.entry.durable: run for run in held if run.entry.durable is not None and run.ending is None}
    if not by_id:
        return
    try:
        still = await jobs.beat(pool, [id for id in by_id if id is not None], worker)
    except StoreError as error:
        log.warning("heartbeat_failed", service="Postgres", error=str(error))
        return
    for id, run in by_id.items():
        if still.get(id or 0) is None:
            run.stop("lost")
        elif still[id or 0]:
            run.stop("cancelled")
