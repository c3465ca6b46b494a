"""One of several Redis servers, or a master of a cluster, is killed while users chat (`make buses`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from store.postgres.pool import Pool
from tests.faults import masters_of
from tests.memory import in_memory
from tests.people import new_device, new_group, new_user
from tests.processes import open_cluster
from tests.redis_topologies import MASTERS, RedisCluster, RedisServers, redis_servers
from tests.system.many_nodes import RedisView, listening, start_nodes, talking, wait_pushed, watching
from tests.waiting import wait_until

pytestmark = pytest.mark.buses

WHOLE_S = 5.0
"""Promised from the moment that there is a server for each bus again (P9)."""


@pytest.fixture(params=["three", "cluster"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServers]:
    with in_memory(tmp_path) as folder, redis_servers(request.param, folder) as servers:
        yield servers


async def kill_one(servers: RedisServers) -> None:
    """Kill a server that holds keys; return when another has its place. A supervisor would start it again at once; in a
    cluster its replica becomes a master."""
    killed = servers.masters()[1]
    await trio.to_thread.run_sync(killed.kill)
    if isinstance(servers, RedisCluster):
        await wait_until(lambda: len(servers.masters()) == MASTERS, "a replica is a master")
        await wait_until(
            lambda: killed.port not in [port for _, port in masters_of(servers.url)], "the others know of it"
        )
    else:
        await trio.to_thread.run_sync(killed.start)


async def test_a_server_that_is_killed_under_load_costs_no_message(pool: Pool, servers: RedisServers) -> None:
    """The nodes are whole again in time. No acked message is lost, repeated or reordered at any client."""
    people = [await new_user(pool, f"user{number}") for number in range(3)]
    loud, quiet = await new_group(pool, *people), await new_group(pool, *people)
    async with open_cluster(pool.url, servers.url) as cluster, AsyncExitStack() as stack:
        nodes = await start_nodes(cluster, 3)
        sessions = []
        for person, node in zip(people, nodes, strict=True):
            sessions.append((await stack.enter_async_context(watching([node], person, *people))).session)
        # Bare connections fetch nothing, so the nodes push their messages by themselves.
        pushed = [
            await stack.enter_async_context(listening(node, await new_device(pool, person.user)))
            for person, node in zip(people, nodes, strict=True)
        ]
        async with (
            talking(loud, sessions, pace_s=0.03) as senders,
            talking(quiet, sessions, pace_s=0.1) as murmur,
        ):
            await kill_one(servers)
            with RedisView(servers.url) as redis:
                await wait_until(
                    lambda: redis.is_whole(nodes, list(zip(people, nodes, strict=True))),
                    "the nodes are whole",
                    timeout_s=WHOLE_S,
                )
            await senders.wait_acks(10)
        await senders.verify(pool, sessions)
        await murmur.verify(pool, sessions)
        for number, pushes in enumerate(pushed):
            await wait_pushed(pushes, quiet, len(murmur.acks), where=f"on node {number}")
        for node in nodes:
            assert [line for line in node.process.log if line["level"] in ("error", "critical")] == []
