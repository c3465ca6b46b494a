"""All gateways are restarted one after the other, as by a deployment, while users chat."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from client.session import open_session
from store.postgres.pool import Pool
from tests.people import new_group, new_user
from tests.processes import open_cluster
from tests.system.many_nodes import ACKED_S, start_nodes, talking

EXIT_S = 25.0
"""The time that process managers must allow (P10)."""


async def test_rolling_restart_of_three_nodes_loses_and_repeats_nothing(pool: Pool, redis_url: str) -> None:
    """Each node is told to stop (SIGTERM), and its successor takes its port, before the next one is.

    In the end every send is acked, every session has all messages once, in order, and every node has ended well, in
    time.
    """
    people = [await new_user(pool, f"user{number}") for number in range(6)]
    group = await new_group(pool, *people)
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = await start_nodes(cluster, 3)
        urls = [node.url for node in nodes]
        async with AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(open_session(urls[number % 3 :] + urls[: number % 3], person))
                for number, person in enumerate(people)
            ]
            with trio.fail_after(ACKED_S):
                for session in sessions:
                    await session.wait_caught_up()
            async with talking(group, sessions, pace_s=0.1) as senders:
                for node in nodes:
                    assert await node.process.stop(timeout_s=EXIT_S) == 0
                    assert [line for line in node.process.log if line["level"] in ("error", "critical")] == []
                    await cluster.start_socket(port=node.port)
                    await senders.wait_acks(3)
            await senders.verify(pool, sessions)
