"""Figures by day, in UTC by Postgres' clock: messages, active users, new users, delivery times, storage, attachments.

Each message is counted once, in the transaction that takes it from the outbox (`outbox.decide`): the figure is exact
after any crash, and needs no scan. Attachments are counted in the transaction that completes or removes them. Active
users are a row for each user and day, written with the time when they were last seen (`last_seen.touch`). Everything
here may be run again at any time, by several workers at once (decision 24).
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
"""How long after its end a day is closed. By then the day's commits that waited in the debounce window have been
counted, or are at least in the outbox, which counts them later."""

ACTIVITY_DAYS: Final = 90
"""How long it is known which users were active on a day; after that only how many. A million users a day are 7 GB."""

FORGET_BATCH: Final = 5000
"""Rows of one transaction: some 20 ms."""

PERCENTS: Final = (50, 95, 99)


class Delivery(Struct, frozen=True):
    """How long deliveries took on a day, from commit to delivered mark, in milliseconds (`store.latencies`).

    :ivar samples: the number of measured deliveries.
    """

    samples: int
    p50: float
    p95: float
    p99: float


class AttachmentFigures(Struct, frozen=True):
    """Attachments on a day, their thumbnails among them, and their bytes. Exact: each change counts itself.

    :ivar stored, stored_bytes: complete at the end of the day, and not removed.
    :ivar uploaded, uploaded_bytes: completed on that day.
    :ivar removed, removed_bytes: whose objects were deleted on that day; uploads that were never complete do not count.
    :ivar missing: complete attachments without an object, which a sweep of that day has found.
    """

    stored: int
    stored_bytes: int
    uploaded: int
    uploaded_bytes: int
    removed: int
    removed_bytes: int
    missing: int


class Day(Struct, frozen=True):
    """The figures of one day; None for an unknown figure.

    :ivar storage: bytes of `message_tables`, `message_indexes`, `other_tables`, `other_indexes` and `objects`, at the
        last measurement of that day.
    """

    day: date
    messages: int | None
    active_users: int | None
    new_users: int | None
    delivery: Delivery | None
    storage: dict[str, int | None]
    attachments: AttachmentFigures


class Unclosed(Struct, frozen=True):
    """
    :ivar day: the first day that is over and not closed yet; None if all are closed.
    """

    day: date | None
    today: date


async def today(pool: Pool) -> date:
    """The current day in UTC, by Postgres' clock."""
    day: date
    [(day,)] = await pool.fetch(_sql.today)
    return day


async def unclosed(pool: Pool) -> Unclosed:
    """The day to close next."""
    [(day, now)] = await pool.fetch(_sql.unclosed, {"grace_s": GRACE_S})
    return Unclosed(day, now)


async def count_day(pool: Pool, day: date) -> None:
    """Count all users and the active users of this day, from the rows that are still there.

    No figure decreases: rows that were removed since stay counted.
    """
    await pool.fetch(_sql.count_day, {"day": day})


async def close_day(pool: Pool, day: date) -> None:
    """Close this day and all days before it."""
    await pool.fetch(_sql.close_day, {"day": day})


async def note_storage(pool: Pool) -> None:
    """Note the current size of tables and indexes as today's, until the next measurement."""
    await pool.fetch(_sql.note_storage)


async def add_missing(pool: Pool, attachments: int) -> None:
    """Count attachments whose objects a sweep of today has found missing."""
    await pool.fetch(_sql.add_missing, {"attachments": attachments})


async def has_objects(pool: Pool) -> bool:
    """Whether today's bytes of the object store are known."""
    [(is_known,)] = await pool.fetch(_sql.has_objects)
    return bool(is_known)


async def note_objects(pool: Pool, bytes_: int) -> None:
    """Note the current size of the object store as today's."""
    await pool.fetch(_sql.note_objects, {"bytes": bytes_})


async def forget_activity(pool: Pool) -> int:
    """Forget some active users of closed days that are older than `ACTIVITY_DAYS`; return how many rows."""
    [(forgotten,)] = await pool.fetch(_sql.forget_activity, {"days": ACTIVITY_DAYS, "limit": FORGET_BATCH})
    return int(forgotten)


async def days(pool: Pool, first: date, last: date) -> list[Day]:
    """The figures of these days, both included: each of them, in order."""
    span = {"first": first, "last": last}
    figures: defaultdict[date, dict[str, int]] = defaultdict(dict)
    for day, metric, value in await pool.fetch(_sql.figures, span):
        figures[day][metric] = value
    counts: defaultdict[date, dict[int, int]] = defaultdict(dict)
    for day, bucket, count in await pool.fetch(_sql.latencies, span):
        counts[day][bucket] = count
    [(stored, stored_bytes)] = await pool.fetch(_sql.attachments_before, {"day": first})
    found = []
    for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        attachments = _attachments(figures[day], stored, stored_bytes)
        stored, stored_bytes = attachments.stored, attachments.stored_bytes
        found.append(_day(day, figures[day], counts[day], attachments))
    return found


_STORAGE: Final = ("message_tables", "message_indexes", "other_tables", "other_indexes", "objects")


def _attachments(figures: Mapping[str, int], stored: int, stored_bytes: int) -> AttachmentFigures:
    """
    :param stored, stored_bytes: at the end of the day before.
    """
    uploaded, removed = figures.get("attachments_uploaded", 0), figures.get("attachments_removed", 0)
    uploaded_bytes = figures.get("attachment_bytes_uploaded", 0)
    removed_bytes = figures.get("attachment_bytes_removed", 0)
    return AttachmentFigures(
        stored + uploaded - removed,
        stored_bytes + uploaded_bytes - removed_bytes,
        uploaded,
        uploaded_bytes,
        removed,
        removed_bytes,
        figures.get("attachments_missing", 0),
    )


def _day(day: date, figures: Mapping[str, int], counts: Mapping[int, int], attachments: AttachmentFigures) -> Day:
    delivery = None
    if samples := sum(counts.values()):
        p50, p95, p99 = (percentile_ms(counts, percent) for percent in PERCENTS)
        delivery = Delivery(samples, p50, p95, p99)
    storage = {name: figures.get(f"bytes_{name}") for name in _STORAGE}
    messages, active_users, new_users = map(figures.get, ("messages", "active_users", "new_users"))
    return Day(day, messages, active_users, new_users, delivery, storage, attachments)
