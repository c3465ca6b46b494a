"""Quiet hours: for how long, from some moment on, a user wants no notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from store.quiet_hours import QuietHours

log = structlog.get_logger(__name__)


def quiet_for_s(quiet: QuietHours | None, now_us: int) -> float:
    """How long the quiet hours still last, in seconds; 0 outside of them.

    They are what clocks on the wall show: an hour that clocks skip is over at once, one that they show twice is quiet
    twice.

    :param now_us: microseconds since 1970.
    """
    if quiet is None:
        return 0.0
    zone = _zone(quiet.zone)
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    end = now
    # Minute by minute, for 2 ms at worst: clocks are changed at whole minutes, and there is nothing to reckon wrongly.
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
        # It was known where it was set: this machine has an older database of zones, or none.
        log.warning("zone_unknown", zone=name, hint="install tzdata")
        return UTC
