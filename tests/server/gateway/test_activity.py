"""Active users by day, which a gateway writes while they are connected."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from server.delivery.hub import Hub
from server.gateway import last_seen
from server.gateway.last_seen import LastSeen
from store.latencies import DAY_US
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.idle_device import IdleDevice
from tests.server.node_world import open_node, wait_for
from tests.waiting import wait_until

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
    days = 0
    async with open_node(pool.url, redis_url) as node:
        seen = node.gateway._last_seen
        now_us = seen._now_us
        seen._now_us = lambda: now_us() + days * DAY_US
        async with node.open_websocket(stays[0].token), node.open_websocket(stays[1].token):
            async with node.open_websocket(goes.token):

                async def are_all_active() -> bool:
                    return len(await active(pool)) == 3

                await wait_until(are_all_active, "they have come")
            await wait_for(lambda: node.gateway._hub.statistics().users == 2, what="one has gone")
            await seen.wait_idle()
            await pool.fetch("delete from activity")
            days = 1

            async def are_active_again() -> bool:
                return await active(pool) == {each.user for each in stays}

            await wait_until(are_active_again, "they are here on the next day")
            batches = seen._batcher.statistics().batches
            await pool.fetch("delete from activity")
            await trio.sleep(0.1)
            assert seen._batcher.statistics().batches == batches, "once a day"
    assert await active(pool) <= {each.user for each in stays}, "they go"


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
    hub = Hub()
    devices = [IdleDevice((await new_user(pool, name)).user) for name in ("alice", "bob")]
    for device in devices:
        hub.add(device)
    seen = LastSeen(pool, hub, lambda: NOW_US)
    async with trio.open_nursery() as running:
        running.start_soon(seen.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen._note_all)
            await trio.testing.wait_all_tasks_blocked()
            hub.remove(devices[1])
        await seen.wait_idle()
        running.cancel_scope.cancel()
    assert await active(pool) == {devices[0].user}


async def test_activity_that_postgres_could_not_take_is_written_later_with_its_own_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.05)
    alice = (await new_user(pool, "alice")).user
    seen = LastSeen(Pool("postgresql://nobody@127.0.0.1:1/none", 2), Hub(), lambda: NOW_US)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.run)
        seen.note(alice)
        [(noted,)] = await pool.fetch("select clock_timestamp()")
        await wait_for(lambda: seen._batcher.statistics().batches >= 4, what="it has been tried")
        seen._pool = pool
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
