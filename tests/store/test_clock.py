"""All processes share Postgres' clock, even if their machines' clocks differ."""

from __future__ import annotations

import time

import pytest
import structlog.testing
import trio

from store.clock import Clock
from store.errors import Unavailable
from store.last_seen import last_seen, touch
from store.postgres.pool import Pool
from tests.people import new_user

HOUR_US = 3600 * 1_000_000


async def now_of(pool: Pool) -> int:
    [(now,)] = await pool.fetch("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    return int(now)


@pytest.mark.parametrize("wrong_by_us", [0, HOUR_US, -HOUR_US])
async def test_a_wrong_wall_clock_makes_no_difference_and_is_told(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, wrong_by_us: int
) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + wrong_by_us * 1000)
    clock = Clock(pool)
    assert abs(clock.now_us() - await now_of(pool) - wrong_by_us) < 1e6, (
        "an unmeasured clock is as wrong as the machine's"
    )
    await clock.measure()
    assert clock.error_us is not None
    before = clock.now_us()
    shown = await now_of(pool)
    assert before - clock.error_us - 1000 <= shown <= clock.now_us() + clock.error_us + 1000
    assert abs(clock.wall_offset_us() - wrong_by_us) < 1e6
    monkeypatch.setattr(time, "time_ns", lambda: real() + 7 * HOUR_US * 1000)
    assert abs(clock.now_us() - await now_of(pool)) < 1e6, "a jump of the machine's clock does not move the clock"
    with structlog.testing.capture_logs() as logs, trio.move_on_after(0.5):
        await clock.run()
    assert [line["event"] for line in logs] == ["clock_is_wrong"]


async def test_without_postgres_it_goes_on_as_it_was(pool: Pool) -> None:
    own = Pool(pool.url, 2)
    clock = Clock(own)
    await clock.measure()
    own.end_by(trio.current_time())
    with pytest.raises(Unavailable):
        await clock.measure()
    assert abs(clock.now_us() - await now_of(pool)) < 1e6
    with structlog.testing.capture_logs() as logs, trio.move_on_after(0.2):
        await clock.run()
    assert [line["event"] for line in logs] == ["clock_not_measured"]
    own.close()


async def test_last_seen_is_the_latest_of_all_writes(pool: Pool) -> None:
    alice, bob = [(await new_user(pool, name)).user for name in ("alice", "bob")]
    assert await touch(pool, [alice, alice]) == [True, True]
    first = await last_seen(pool, [alice, bob])
    assert list(first) == [alice]
    assert abs(first[alice] - await now_of(pool)) < 5e6
    await pool.fetch("update last_seen set at = at + interval '1 hour'")
    async with trio.open_nursery() as nursery:
        for batch in ([alice, bob], [bob, alice]) * 5:
            nursery.start_soon(touch, pool, batch)
    then = await last_seen(pool, [alice, bob])
    assert then[alice] == first[alice] + HOUR_US, "last_seen never goes back"
    assert set(then) == {alice, bob}


async def test_unknown_users_are_skipped_and_an_outage_is_logged(pool: Pool) -> None:
    alice = (await new_user(pool, "alice")).user
    assert await touch(pool, [b"?" * 16, alice]) == [True, True]
    assert list(await last_seen(pool, [b"?" * 16, alice])) == [alice]
    with structlog.testing.capture_logs() as logs:
        assert await touch(Pool("postgresql://nobody@127.0.0.1:1/none", 2), [alice]) == [False]
    assert [line["event"] for line in logs] == ["last_seen_not_stored"]
