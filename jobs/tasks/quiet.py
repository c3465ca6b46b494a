"""Quiet hours: how long, from a given moment, a user wants no notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from store.quiet_hours import QuietHours

log = structlog.get_logger(__name__)


def quiet_for_s(quiet: QuietHours | None, now_us: int) -> float:
    """How long the quiet hours still last, in seconds; 0 outside of them.

    They follow the local clock: an hour that it skips is over at once, and an hour that it shows twice is quiet twice.

    :param now_us: microseconds since 1970.
    """
    if quiet is None:
        return 0.0
    zone = _zone(quiet.zone)
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    end = now
    # Minute by minute, 2 ms at most: clocks change at whole minutes, so this needs no arithmetic of time zones.
    while _is_within(quiet, end.astimezone(zone)):
        end = end.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return (end - now).total_seconds()


def _is_within(quiet: QuietHours, local: datetime) -> bool:
    minute = local.hour * 60 + local.minute
    if quiet.from_minute < quiet.until_minute:
        return quiet.from_minute <= minute < quiet.until_minute
    return minute >= quiet.from_minute or minute < quiet.until_minute


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # The server that stored the zone knew it: this machine has an older database of zones, or none.
        log.warning("zone_unknown", zone=name, hint="install tzdata")
        return UTC
