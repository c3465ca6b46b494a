"""Figures by day, and the answers of health checks."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec
from msgspec import Struct

from store.analytics import Day, Delivery


class DeliveryAnswer(Struct, frozen=True):
    """The times of deliveries of a day in milliseconds, from commit to delivered mark.

    :ivar samples: measured deliveries, of one message in 16.
    """

    samples: int
    p50: float
    p95: float
    p99: float


class StorageAnswer(Struct, frozen=True):
    """Bytes at the last look of a day; null where unknown.

    :ivar objects: of the object store.
    """

    message_tables: int | None = None
    message_indexes: int | None = None
    other_tables: int | None = None
    other_indexes: int | None = None
    objects: int | None = None


class AttachmentsAnswer(Struct, frozen=True):
    """Attachments on a day, their thumbnails among them, and their bytes.

    :ivar stored: at the end of the day, or until now.
    :ivar uploaded: completed on that day.
    :ivar removed: whose objects were deleted on that day.
    :ivar missing: attachments without an object, which the check of that day has found: there should be none.
    """

    stored: int
    stored_bytes: int
    uploaded: int
    uploaded_bytes: int
    removed: int
    removed_bytes: int
    missing: int


class DayAnswer(Struct, frozen=True):
    """The figures of one day in UTC; null for an unknown figure.

    :ivar messages: all accepted messages, deleted ones included.
    :ivar active_users: users who had a live connection in that day.
    :ivar new_users: users who registered.
    """

    day: date
    messages: int | None
    active_users: int | None
    new_users: int | None
    delivery_ms: DeliveryAnswer | None
    storage_bytes: StorageAnswer
    attachments: AttachmentsAnswer


class DaysAnswer(Struct, frozen=True):
    """All days asked for, in order."""

    days: list[DayAnswer]


class HealthAnswer(Struct, frozen=True):
    """This process serves."""

    status: Literal["ok"]


def day_body(day: Day) -> DayAnswer:
    return DayAnswer(
        day=day.day,
        messages=day.messages,
        active_users=day.active_users,
        new_users=day.new_users,
        delivery_ms=_delivery_body(day.delivery) if day.delivery else None,
        storage_bytes=StorageAnswer(**day.storage),
        attachments=AttachmentsAnswer(**msgspec.structs.asdict(day.attachments)),
    )


def _delivery_body(delivery: Delivery) -> DeliveryAnswer:
    return DeliveryAnswer(delivery.samples, delivery.p50, delivery.p95, delivery.p99)
