"""Figures by day, in UTC by Postgres' clock: messages, who was active, who is new, how long deliveries took, storage.

Messages are counted where each of them passes once, in the transaction that takes it from the outbox (`outbox.decide`):
exact after any crash, and nothing is scanned for it. Who was active is a row for each user and day, written with when
they were seen last (`last_seen.touch`). Everything here may be run again at any time, by several workers at once
(decision 24).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from msgspec import Struct

from store import sql
from store.latencies import percentile_ms
from store.postgres.pool import Pool

_sql = sql.load("analytics")

GRACE_S: Final = 3600.0
"""After its end a day is closed: what was committed in it, and waits in the debounce window, has been counted, or is at
least in the outbox, and will be."""

ACTIVITY_DAYS: Final = 90
"""For how long it is known who was active on a day; after that only how many. A million users a day are 7 GB."""

FORGET_BATCH: Final = 5000
"""Rows of one transaction: some 20 ms."""

PERCENTS: Final = (50, 95, 99)


class Delivery(Struct, frozen=True):
    """How long deliveries took on a day, from commit to delivered mark, in milliseconds (`store.latencies`).

    :ivar samples: how many were measured.
    """

    samples: int
    p50: float
    p95: float
    p99: float


class Day(Struct, frozen=True):
    """What is known of one day; None where nothing is.

    :ivar storage: bytes of `message_tables`, `message_indexes`, `other_tables`, `other_indexes` and `objects`, at the
        last look of that day.
    """

    day: date
    messages: int | None
    active_users: int | None
    new_users: int | None
    delivery: Delivery | None
    storage: dict[str, int | None]


class Unclosed(Struct, frozen=True):
    """
    :ivar day: the first day that is over and not closed yet; None if there is none.
    """

    day: date | None
    today: date


async def today(pool: Pool) -> date:
    """The day that it is in UTC, by Postgres' clock."""
    day: date
    [(day,)] = await pool.fetch(_sql.today)
    return day


async def unclosed(pool: Pool) -> Unclosed:
    """Which day is to be closed next."""
    [(day, now)] = await pool.fetch(_sql.unclosed, {"grace_s": GRACE_S})
    return Unclosed(day, now)


async def count_day(pool: Pool, day: date) -> None:
    """Count users, and who was active, on this day, from the tables as far as they are still there.

    No figure becomes less than it was: what has been removed since counts.
    """
    await pool.fetch(_sql.count_day, {"day": day})


async def close_day(pool: Pool, day: date) -> None:
    """This day needs no further look, nor does any before it."""
    await pool.fetch(_sql.close_day, {"day": day})


async def note_storage(pool: Pool) -> None:
    """How large the tables and indexes are now is what today has of them, until the next look."""
    await pool.fetch(_sql.note_storage)


async def has_objects(pool: Pool) -> bool:
    """Whether the object store's bytes of today are known."""
    [(is_known,)] = await pool.fetch(_sql.has_objects)
    return bool(is_known)


async def note_objects(pool: Pool, bytes_: int) -> None:
    """How much the object store holds now is what today has of it."""
    await pool.fetch(_sql.note_objects, {"bytes": bytes_})


async def forget_activity(pool: Pool) -> int:
    """Forget some of who was active longer than `ACTIVITY_DAYS` ago, on days that are closed; how many rows."""
    [(forgotten,)] = await pool.fetch(_sql.forget_activity, {"days": ACTIVITY_DAYS, "limit": FORGET_BATCH})
    return int(forgotten)


async def days(pool: Pool, first: date, last: date) -> list[Day]:
    """What is known of these days, both included: each of them, in order."""
    span = {"first": first, "last": last}
    figures: defaultdict[date, dict[str, int]] = defaultdict(dict)
    for day, metric, value in await pool.fetch(_sql.figures, span):
        figures[day][metric] = value
    counts: defaultdict[date, dict[int, int]] = defaultdict(dict)
    for day, bucket, count in await pool.fetch(_sql.latencies, span):
        counts[day][bucket] = count
    every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [_day(day, figures[day], counts[day]) for day in every]


_STORAGE: Final = ("message_tables", "message_indexes", "other_tables", "other_indexes", "objects")


def _day(day: date, figures: Mapping[str, int], counts: Mapping[int, int]) -> Day:
    delivery = None
    if samples := sum(counts.values()):
        p50, p95, p99 = (percentile_ms(counts, percent) for percent in PERCENTS)
        delivery = Delivery(samples, p50, p95, p99)
    storage = {name: figures.get(f"bytes_{name}") for name in _STORAGE}
    messages, active_users, new_users = map(figures.get, ("messages", "active_users", "new_users"))
    return Day(day, messages, active_users, new_users, delivery, storage)
