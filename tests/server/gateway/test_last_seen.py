"""The last-seen time of a user is when the user came or went last."""

from __future__ import annotations

import trio

from client.connection import connect
from server.gateway.last_seen import PATIENCE_S
from store.last_seen import last_seen
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.node_world import open_node, wait_for


async def test_coming_and_going_are_written_in_few_batches(pool: Pool, redis_url: str) -> None:
    people = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    users = [person.user for person in people]
    seen: dict[bytes, int] = {}

    async def wait_written(since: dict[bytes, int]) -> None:
        with trio.fail_after(PATIENCE_S + 5):
            while not all(seen.get(user, 0) > since.get(user, 0) for user in users):
                seen.update(await last_seen(pool, users))
                await trio.sleep(0.01)

    one, two, three = [person.token for person in people]
    async with open_node(pool.url, redis_url) as node:
        async with connect(node.url, one), connect(node.url, two), connect(node.url, three):
            await wait_written({})
            arrivals = dict(seen)
        await wait_written(arrivals)
        assert 2 <= node.gateway._last_seen._batcher.statistics().batches <= 4


async def test_a_node_that_stops_writes_when_its_last_users_were_here(pool: Pool, redis_url: str) -> None:
    person = await new_user(pool, "alice")
    async with open_node(pool.url, redis_url) as node, connect(node.url, person.token):
        node.gateway._terminated.set()
        await wait_for(lambda: not node.gateway._connections, what="the connection is closed")
        await node.gateway._last_seen.wait_idle()
    assert list(await last_seen(pool, [person.user])) == [person.user]
