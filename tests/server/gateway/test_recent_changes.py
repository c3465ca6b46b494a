"""Looks for recent changes: none is missed by an outage of Postgres, and those of the promises come in time."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from server.gateway import low_keys
from server.gateway.recent_changes import MARGIN_S, follow_changes
from store.errors import Unavailable
from store.postgres.pool import QUERY_TIMEOUT_S, WAIT_TIMEOUT_S

POLL_S = 2.0


async def test_after_looks_that_failed_the_next_one_covers_their_time_too(autojump_clock: MockClock) -> None:
    asked: list[float] = []
    taken: list[str] = []

    async def read(ago_s: float) -> list[str]:
        asked.append(ago_s - MARGIN_S)
        if len(asked) in (2, 3):
            raise Unavailable("Postgres", "", "gone for a moment")
        return [f"look {len(asked)}"]

    async def take(found: list[str]) -> None:
        taken.extend(found)
        if len(taken) == 3:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: follow_changes(read, take, poll_s=POLL_S, failed="not_read"))
    assert asked == [POLL_S, POLL_S, 2 * POLL_S, 3 * POLL_S, POLL_S]
    assert taken == ["look 1", "look 4", "look 5"]


def test_a_device_is_told_of_low_keys_within_the_promised_30_s_though_a_look_fails() -> None:
    """The change just misses a look; the next one waits for Postgres in vain, as long as it may; then one finds it."""
    assert 2 * low_keys.POLL_S + WAIT_TIMEOUT_S + QUERY_TIMEOUT_S <= 30
