"""When a schedule is due: rules, time zones, missed ticks, impossible rules; without a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engine.task import Cron, Every
from jobs.engine.ticks import GRACE_S, MAX_MISSED, BadRule, Firing, due, is_too_far, next_tick
from tests.rows import each_row

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"

moments = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
rules = st.sampled_from(
    [
        "* * * * *",
        "30 2 * * *",
        "0 */3 * * *",
        "15 9 * * 1-5",
        "0 0 1 * *",
        "every 7 s",
        "every 0.25 s",
        "every 86400 s",
    ]
)
zones = st.sampled_from(["UTC", BERLIN, NEW_YORK, "Australia/Lord_Howe", "Asia/Kolkata"])


def local(text: str, zone: str, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def ticks(rule: str, zone: str, after: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        after = next_tick(rule, zone, after)
        found.append(after)
    return found


@pytest.mark.parametrize(
    ("zone", "day", "late"),
    [(BERLIN, "2026-03-29", "03:00"), (NEW_YORK, "2026-03-08", "03:00")],
)
def test_a_tick_in_the_hour_that_does_not_exist_comes_once_right_after_it(zone: str, day: str, late: str) -> None:
    noon_before = local(day, zone) - timedelta(hours=12)
    first, second = ticks("30 2 * * *", zone, noon_before, 2)
    assert first == local(f"{day} {late}", zone)
    assert second == local(f"{day} 02:30", zone) + timedelta(hours=23)


@pytest.mark.parametrize(("zone", "day"), [(BERLIN, "2026-10-25"), (NEW_YORK, "2026-11-01")])
def test_a_tick_at_a_fixed_hour_comes_once_where_that_hour_comes_twice(zone: str, day: str) -> None:
    start = local(day, zone) - timedelta(hours=12)
    found = ticks("30 1 * * *" if zone == NEW_YORK else "30 2 * * *", zone, start, 2)
    assert found[0].astimezone(ZoneInfo(zone)).date().isoformat() == day
    assert found[1].astimezone(ZoneInfo(zone)).date() == found[0].astimezone(ZoneInfo(zone)).date() + timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (NEW_YORK, "2026-03-08", 23),
        (NEW_YORK, "2026-11-01", 25),
    ],
)
def test_hourly_ticks_come_each_hour_whatever_the_clocks_are_put_to(zone: str, day: str, hours: int) -> None:
    start, end = local(day, zone), local(day, zone) + timedelta(hours=hours)
    found = ticks("0 * * * *", zone, start - timedelta(seconds=1), hours + 1)
    assert found == [start + timedelta(hours=hour) for hour in range(hours)] + [end]


@settings(max_examples=40, deadline=None)
@given(rules, zones, moments)
def test_the_next_tick_is_later_and_the_same_at_each_moment_before_it(rule: str, zone: str, after: datetime) -> None:
    tick = next_tick(rule, zone, after)
    assert tick > after
    assert tick.tzinfo is after.tzinfo
    if not rule.startswith("every"):
        assert next_tick(rule, zone, after + (tick - after) / 2) == tick
        assert (tick.second, tick.microsecond) == (0, 0)


@settings(max_examples=40, deadline=None)
@given(rules, zones, moments, st.floats(0, 5000), st.sampled_from(["skip", "once", "all"]))
def test_a_firing_accounts_for_each_tick_and_the_next_is_to_come(
    rule: str, zone: str, tick: datetime, late_s: float, missed: str
) -> None:
    tick = next_tick(rule, zone, tick)
    now = tick + timedelta(seconds=late_s)
    firing = due(rule, zone, missed, tick, now)
    assert firing.next > now
    assert 0 <= firing.jobs <= MAX_MISSED
    assert firing.missed >= 0
    assert firing.jobs == 1 or missed != "once"
    # No tick lies between now and the next one.
    assert is_too_far(rule, zone, firing.next, now) is None
    if not rule.startswith("every") and late_s < 3600:
        passed = [tick]
        while (following := next_tick(rule, zone, passed[-1])) <= now:
            passed.append(following)
        assert firing.jobs + firing.missed == len(passed)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 366 * 86_400), moments, st.floats(0, 1e9))
def test_intervals_stay_on_their_grid(seconds: float, tick: datetime, late_s: float) -> None:
    rule = str(Every(seconds))
    now = tick + timedelta(seconds=late_s)
    firing = due(rule, "UTC", "once", tick, now)
    period = next_tick(rule, "UTC", tick) - tick
    assert (firing.next - tick) % period == timedelta(0)
    assert now < firing.next <= now + period


def test_missed_ticks_are_skipped_run_once_or_all_run_as_declared() -> None:
    tick = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    late = tick + timedelta(minutes=10, seconds=30)
    following = tick + timedelta(minutes=11)
    assert due("* * * * *", "UTC", "skip", tick, late) == Firing(0, following, 11)
    assert due("* * * * *", "UTC", "once", tick, late) == Firing(1, following, 10)
    assert due("* * * * *", "UTC", "all", tick, late) == Firing(11, following, 0)
    noticed = tick + timedelta(seconds=GRACE_S)
    for missed in ("skip", "once", "all"):
        assert due("* * * * *", "UTC", missed, tick, noticed) == Firing(1, tick + timedelta(minutes=1), 0)


def test_a_clock_that_was_decades_away_is_answered_at_once() -> None:
    """Millions of ticks are not counted one by one, and the jobs for missed ticks are bounded."""
    tick = datetime(1970, 1, 1, tzinfo=UTC)
    now = datetime(2090, 1, 1, 0, 0, 30, tzinfo=UTC)
    for rule in ("* * * * *", "every 0.001 s"):
        firing = due(rule, BERLIN, "all", tick, now)
        assert firing.jobs == MAX_MISSED
        assert now < firing.next <= now + timedelta(minutes=1)
        assert is_too_far(rule, BERLIN, now, tick) == next_tick(rule, BERLIN, tick)


def test_a_clock_that_is_put_right_a_little_fires_no_tick_twice() -> None:
    fired_at = datetime(2026, 5, 1, 12, 0, 0, 2000, tzinfo=UTC)
    for rule in ("* * * * *", "every 60 s"):
        following = due(rule, "UTC", "once", fired_at - timedelta(milliseconds=2), fired_at).next
        for back_s in (0.001, 1, GRACE_S - 0.1):
            assert is_too_far(rule, "UTC", following, fired_at - timedelta(seconds=back_s)) is None
        an_hour_ago = fired_at - timedelta(hours=1)
        assert is_too_far(rule, "UTC", following, an_hour_ago) == next_tick(rule, "UTC", an_hour_ago)


@each_row(
    ("rule", "zone"),
    [
        ("0 0 30 2 *", "UTC"),
        ("60 * * * *", "UTC"),
        ("* * * *", "UTC"),
        ("", "UTC"),
        ("every day", "UTC"),
        ("every 0 s", "UTC"),
        ("every -1 s", "UTC"),
        ("every 1e9 s", "UTC"),
        ("every 99999999999999999999 s", "UTC"),
        ("* * * * *", "Europe/Atlantis"),
        ("* * * * *", ""),
        ("* * * * *", "Europe"),
        ("* * * * *", "../../etc/passwd"),
        ("* * * * *", "x" * 5000),
        ("* * * * *", "\0"),
    ],
)
def test_a_rule_or_zone_that_cannot_be_is_refused_by_name(rule: str, zone: str) -> None:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    with pytest.raises(BadRule):
        next_tick(rule, zone, moment)
    with pytest.raises(BadRule):
        due(rule, zone, "once", moment, moment + timedelta(hours=1))


@each_row("seconds", [0.001, 0.25, 1, 60, 86_400, 1_234_567, 30 * 86_400, 366 * 86_400])
def test_intervals_are_written_so_that_they_can_be_read(seconds: float) -> None:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    assert next_tick(str(Every(seconds)), "UTC", moment) == moment + timedelta(seconds=seconds)
    assert str(Cron("5 4 * * *")) == "5 4 * * *"
