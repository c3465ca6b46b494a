"""Redis loses all its data while users chat through three gateways (P9)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import trio

from embedded.redis import RedisServer
from server.cluster.presence import GRACE_S, POLL_S
from store.postgres.pool import Pool
from tests.faults import flush_redis
from tests.people import new_device, new_group, new_user
from tests.processes import open_cluster
from tests.system.many_nodes import RedisView, Watcher, listening, start_nodes, talking, wait_pushed, watching
from tests.waiting import wait_until

WHOLE_S = 5.0
"""Promised from the moment that Redis answers again (P9)."""


async def test_redis_flushed_restarted_and_killed_under_load_loses_no_message_and_no_presence(
    pool: Pool, own_redis: RedisServer
) -> None:
    """One fault after the other: FLUSHALL, SIGTERM, SIGKILL; Redis comes back empty each time.

    After each fault all three nodes are whole again in time. In the end no acked message is lost, repeated or reordered
    at any client, and no client has seen a user go offline.
    """
    people = [await new_user(pool, f"user{number}") for number in range(3)]
    loud, quiet = await new_group(pool, *people), await new_group(pool, *people)
    faults: dict[str, Callable[[], object]] = {
        "FLUSHALL": partial(flush_redis, own_redis.url),
        "SIGTERM": own_redis.restart,
        "SIGKILL": partial(_kill, own_redis),
    }
    async with open_cluster(pool.url, own_redis.url) as cluster:
        nodes = await start_nodes(cluster, 3)
        async with AsyncExitStack() as stack:
            watchers: list[Watcher] = []
            for person, node in zip(people, nodes, strict=True):
                watchers.append(await stack.enter_async_context(watching([node], person, *people)))
            # Bare connections fetch nothing, so the nodes push their messages by themselves.
            pushed = [
                await stack.enter_async_context(listening(node, await new_device(pool, person.user)))
                for person, node in zip(people, nodes, strict=True)
            ]
            for watcher in watchers:
                for person in people:
                    await watcher.wait_seen(person.user, is_online=True, timeout_s=POLL_S + GRACE_S)
                watcher.changes.clear()
            sessions = [watcher.session for watcher in watchers]
            async with (
                talking(loud, sessions, pace_s=0.03) as senders,
                # Fewer than 200 messages in a gap: nodes push up to 200 after it; with more, the client fetches a page.
                talking(quiet, sessions, pace_s=0.1) as murmur,
            ):
                for name, fault in faults.items():
                    await trio.to_thread.run_sync(fault)
                    with RedisView(own_redis.url) as redis:
                        await wait_until(
                            lambda redis=redis: redis.is_whole(nodes, list(zip(people, nodes, strict=True))),  # type: ignore[misc]
                            f"the nodes are whole after {name}",
                            timeout_s=WHOLE_S,
                        )
                    await senders.wait_acks(10)
                last_fault_at = trio.current_time()
            await senders.verify(pool, sessions)
            await murmur.verify(pool, sessions)
            for number, pushes in enumerate(pushed):
                # No device here is the sending one, so each gets all messages.
                await wait_pushed(pushes, quiet, len(murmur.acks), where=f"on node {number}")
            # A user who seemed gone would be shown offline by now.
            await trio.sleep_until(last_fault_at + POLL_S + GRACE_S)
            assert [watcher.changes for watcher in watchers] == [[], [], []], "presence flapped"
            for node in nodes:
                assert [line for line in node.process.log if line["level"] in ("error", "critical")] == []


def _kill(redis: RedisServer) -> None:
    redis.kill()
    redis.start()
