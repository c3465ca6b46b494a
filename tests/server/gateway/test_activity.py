"""Active users by day, which a gateway writes while they are connected."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from server.delivery.hub import Hub
from server.gateway import last_seen
from server.gateway.last_seen import LastSeen
from store.clock import Clock
from store.latencies import DAY_US
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.idle_device import IdleDevice
from tests.server.node_world import open_node
from tests.waiting import let_pass, wait_until

NOW_US = 20_000 * DAY_US + DAY_US // 2


async def active(pool: Pool) -> set[bytes]:
    return {row[0] for row in await pool.fetch("select user_id from activity")}


async def test_a_connected_user_is_active_on_that_day_and_on_the_next(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At midnight the node writes connected users again, and not those that have gone before."""
    monkeypatch.setattr(last_seen, "LOOK_S", 0.02)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.02)
    monkeypatch.setattr(last_seen, "AT_ONCE", 1)
    stays = [await new_user(pool, name) for name in ("alice", "bob")]
    goes = await new_user(pool, "carol")
    days, now_us = 0, Clock.now_us
    monkeypatch.setattr(Clock, "now_us", lambda clock: now_us(clock) + days * DAY_US)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(stays[0].token),
        node.open_websocket(stays[1].token),
    ):
        async with node.open_websocket(goes.token):

            async def are_all_active() -> bool:
                return len(await active(pool)) == 3

            await wait_until(are_all_active, "they have come")
        await wait_until(lambda: node.gateway.hub.statistics().users == 2, "one has gone")

        def is_written() -> bool:
            batches = node.gateway.statistics().last_seen
            return batches.queued == batches.committing == 0

        await wait_until(is_written, "it is written that one has gone")
        await pool.fetch("delete from activity")
        days = 1

        async def are_active_again() -> bool:
            return await active(pool) == {each.user for each in stays}

        await wait_until(are_active_again, "they are here on the next day")
        batches = node.gateway.statistics().last_seen.batches
        await pool.fetch("delete from activity")
        await let_pass(0.1, why="some looks at the connected users")
        assert node.gateway.statistics().last_seen.batches == batches, "a user's activity is written once a day"
    assert await active(pool) <= {each.user for each in stays}, "users that have gone are not active on the next day"


async def test_connected_users_are_written_at_midnight_however_full_the_queue_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "LOOK_S", 0.01)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr("store.batching.fair_queue.MAX_QUEUED", 3)
    users = [(await new_user(pool, f"user{n}")).user for n in range(8)]
    hub = Hub()
    for user in users:
        hub.add(IdleDevice(user))
    now_us = NOW_US
    async with trio.open_nursery() as nursery:
        seen = LastSeen(pool, hub, lambda: now_us)
        nursery.start_soon(seen.run)
        await trio.testing.wait_all_tasks_blocked()
        now_us += DAY_US

        async def are_active() -> bool:
            return await active(pool) == set(users)

        await wait_until(are_active, "all are written")
        nursery.cancel_scope.cancel()


async def test_a_user_who_goes_while_connected_users_are_written_is_not_written_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disconnect was the last activity of that user."""
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr(last_seen, "AT_ONCE", 1)
    monkeypatch.setattr(last_seen, "LOOK_S", 0.01)
    stays, goes = [IdleDevice((await new_user(pool, name)).user) for name in ("alice", "bob")]
    now_us, asked = NOW_US, set[bytes]()

    class HubThatBobLeaves(Hub):
        def holds(self, user: bytes) -> bool:
            if user not in asked and user == stays.user:
                self.remove(goes)
            asked.add(user)
            return super().holds(user)

    hub = HubThatBobLeaves()
    hub.add(stays)
    hub.add(goes)
    seen = LastSeen(pool, hub, lambda: now_us)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        await trio.testing.wait_all_tasks_blocked()
        now_us += DAY_US
        await wait_until(lambda: asked == {stays.user, goes.user}, "both were looked at")
        await seen.wait_idle()
        nursery.cancel_scope.cancel()
    assert await active(pool) == {stays.user}


async def test_activity_that_postgres_could_not_take_is_written_later_with_its_own_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.05)
    alice = (await new_user(pool, "alice")).user
    real, reached = last_seen.touch, Pool("postgresql://nobody@127.0.0.1:1/none", 2)

    async def touch(_: Pool, users: list[bytes], ago_us: list[int]) -> list[bool]:
        return await real(reached, users, ago_us)

    monkeypatch.setattr(last_seen, "touch", touch)
    seen = LastSeen(pool, Hub(), lambda: NOW_US)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        seen.note(alice)
        [(noted,)] = await pool.fetch("select clock_timestamp()")
        await wait_until(lambda: seen.statistics().batches >= 4, "it has been tried")
        reached = pool
        await seen.wait_idle()
        nursery.cancel_scope.cancel()
    [(off_s,)] = await pool.fetch("select extract(epoch from at - %s)::float8 from last_seen", (noted,))
    assert abs(off_s) < 0.1
    assert await active(pool) == {alice}


async def test_activity_that_could_not_be_written_for_long_is_given_up(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.01)
    monkeypatch.setattr(last_seen, "INSIST_S", 0.1)
    seen = LastSeen(Pool("postgresql://nobody@127.0.0.1:1/none", 2), Hub(), lambda: NOW_US)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        seen.note(b"a" * 16)
        with trio.fail_after(5):
            await seen.wait_idle()
        nursery.cancel_scope.cancel()
