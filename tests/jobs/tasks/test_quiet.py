"""Quiet hours by the local clock: over midnight, in any zone, on days when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from jobs.tasks.quiet import quiet_for_s
from store.quiet_hours import QuietHours
from tests.rows import each_row

BERLIN = "Europe/Berlin"
NIGHT = QuietHours(23 * 60, 7 * 60, BERLIN)
LUNCH = QuietHours(12 * 60, 13 * 60 + 30, BERLIN)


def us(*when: int, zone: str = BERLIN, fold: int = 0) -> int:
    return round(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1_000_000)  # type: ignore[misc,arg-type]


@each_row(
    ("quiet", "now", "hours"),
    [
        (NIGHT, us(2026, 6, 1, 22, 59, 59), 0),
        (NIGHT, us(2026, 6, 1, 23, 0), 8),
        (NIGHT, us(2026, 6, 1, 0, 0), 7),
        (NIGHT, us(2026, 6, 1, 6, 30), 0.5),
        (NIGHT, us(2026, 6, 1, 7, 0), 0),
        (LUNCH, us(2026, 6, 1, 11, 59), 0),
        (LUNCH, us(2026, 6, 1, 12, 0), 1.5),
        (LUNCH, us(2026, 6, 1, 13, 30), 0),
        (None, us(2026, 6, 1, 3, 0), 0),
        # 29 March 2026: 02:00 is followed by 03:00. 25 October: 03:00 is followed by 02:00.
        (NIGHT, us(2026, 3, 28, 23, 0), 7),
        (NIGHT, us(2026, 10, 24, 23, 0), 9),
        (QuietHours(60, 150, BERLIN), us(2026, 3, 29, 1, 30), 0.5),
        (QuietHours(60, 150, BERLIN), us(2026, 3, 29, 3, 0), 0),
        (QuietHours(120, 150, BERLIN), us(2026, 10, 25, 2, 15), 0.25),
        (QuietHours(120, 150, BERLIN), us(2026, 10, 25, 2, 45), 0),
        (QuietHours(120, 150, BERLIN), us(2026, 10, 25, 2, 15, fold=1), 0.25),
        (QuietHours(60, 180, BERLIN), us(2026, 10, 25, 1, 0), 3),
    ],
)
def test_quiet_hours_last_until_clocks_show_their_end(quiet: QuietHours | None, now: int, hours: float) -> None:
    assert quiet_for_s(quiet, now) == hours * 3600


def test_same_moment_is_night_in_one_zone_and_day_in_another() -> None:
    now = us(2026, 6, 1, 12, 0, zone="UTC")
    assert quiet_for_s(QuietHours(23 * 60, 7 * 60, "Asia/Tokyo"), now) == 0
    assert quiet_for_s(QuietHours(20 * 60, 7 * 60, "Asia/Tokyo"), now) == 10 * 3600
    # Half an hour off, and a day ahead.
    assert quiet_for_s(QuietHours(17 * 60 + 30, 18 * 60, "Asia/Kolkata"), now) == 30 * 60
    assert quiet_for_s(QuietHours(60, 3 * 60, "Pacific/Kiritimati"), now) == 3600


def test_zone_that_this_machine_does_not_know_is_taken_for_utc() -> None:
    assert quiet_for_s(QuietHours(60, 120, "Nowhere/Else"), us(2026, 6, 1, 1, 0, zone="UTC")) == 3600


@given(
    from_minute=st.integers(0, 1439),
    length=st.integers(1, 1439),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]),
    second=st.integers(0, 366 * 86400),
)
def test_wherever_they_end_it_is_not_quiet_and_just_before_it_is(
    from_minute: int, length: int, zone: str, second: int
) -> None:
    quiet = QuietHours(from_minute, (from_minute + length) % 1440, zone)
    now = round((datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).timestamp() * 1_000_000)
    left_s = quiet_for_s(quiet, now)
    assert 0 <= left_s < 26 * 3600
    end = now + round(left_s * 1_000_000)
    assert quiet_for_s(quiet, end) == 0
    if left_s:
        assert 0 < quiet_for_s(quiet, end - 1_000_000) <= 1
