"""The last-seen time of a user is when the user came or went last."""

from __future__ import annotations

from client.connection import connect
from store.last_seen import last_seen
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.node_world import open_node
from tests.waiting import wait_until


async def test_coming_and_going_are_written_in_few_batches(pool: Pool, redis_url: str) -> None:
    people = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    users = [person.user for person in people]
    seen: dict[bytes, int] = {}

    async def wait_written(since: dict[bytes, int]) -> None:
        async def is_written() -> bool:
            seen.update(await last_seen(pool, users))
            return all(seen.get(user, 0) > since.get(user, 0) for user in users)

        await wait_until(is_written, "all are written")

    one, two, three = [person.token for person in people]
    async with open_node(pool.url, redis_url) as node:
        async with connect(node.url, one), connect(node.url, two), connect(node.url, three):
            await wait_written({})
            arrivals = dict(seen)
        await wait_written(arrivals)
        assert 2 <= node.gateway.statistics().last_seen.batches <= 4


async def test_a_node_that_stops_writes_when_its_last_users_were_here(pool: Pool, redis_url: str) -> None:
    person = await new_user(pool, "alice")
    async with open_node(pool.url, redis_url) as node, connect(node.url, person.token):
        node.gateway.stop()
        await node.wait_event("stopped")
    assert list(await last_seen(pool, [person.user])) == [person.user]
