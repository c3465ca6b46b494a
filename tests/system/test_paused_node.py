"""A gateway stops for longer than its lease (SIGSTOP, like a frozen virtual machine) and goes on.

By then the others count it as dead, and Redis has dropped its stream, which it does not know.
"""

from __future__ import annotations

import signal
from uuid import uuid4

import pytest
import trio

from client.connection import connect
from client.session import open_session
from embedded.redis import RedisServer
from store.postgres.pool import Pool
from store.redis.directory import LEASE_S
from tests.people import new_device, new_direct, new_group, new_user
from tests.processes import open_cluster
from tests.system.many_nodes import RedisView, listening, seqs, start_nodes, talking, wait_pushed
from tests.waiting import wait_until

NOTICED_S = LEASE_S + 5
"""From the pause until other nodes have looked for its missed messages."""

HEALED_S = 10.0
"""From the end of the pause until its clients have all messages."""


@pytest.mark.parametrize(
    ("pause_s", "pace_s"),
    [
        pytest.param(LEASE_S + 2, 0.1, id="just beyond its lease"),
        # Fewer than 200 messages: nodes push up to 200 after a gap; with more, the client fetches a page of history.
        pytest.param(60.0, 1.0, id="for a minute", marks=pytest.mark.long),
    ],
)
async def test_a_node_that_is_paused_and_goes_on_loses_repeats_and_reorders_nothing(
    pool: Pool, own_redis: RedisServer, pause_s: float, pace_s: float
) -> None:
    """Users on three nodes go on sending to each other while one of the nodes is stopped.

    The faults: what the paused node had committed and not fanned out when it stopped (Redis stands still at that
    moment), what the others wrote for it after its stream was gone, and what its own clients had sent it meanwhile.
    """
    alice, bob, paula = [await new_user(pool, name) for name in ("alice", "bob", "paula")]
    group = await new_group(pool, alice, bob, paula)
    left_behind = await new_direct(pool, paula, alice)
    async with open_cluster(pool.url, own_redis.url) as cluster:
        here, there, paused = await start_nodes(cluster, 3)
        async with (
            open_session([here.url], alice) as one,
            open_session([there.url], bob) as other,
            open_session([paused.url], paula) as third,
            listening(here, await new_device(pool, alice.user)) as pushed_here,
            listening(there, await new_device(pool, bob.user)) as pushed_there,
            listening(paused, await new_device(pool, paula.user)) as pushed_to_paused,
            connect(paused.url, (await new_device(pool, paula.user)).token) as sender,
        ):
            sessions = [one, other, third]
            for session in sessions:
                await session.wait_caught_up()
            async with talking(group, sessions, pace_s=pace_s) as senders:
                own_redis.pause()
                for _ in range(10):
                    await sender.send(left_behind, b"x", temp_id=uuid4().bytes)
                paused.process.signal(signal.SIGSTOP)
                paused_at = trio.current_time()
                own_redis.resume()
                assert seqs(pushed_here, left_behind) == [], "nothing has been fanned out"
                await wait_until(
                    lambda: seqs(pushed_here, left_behind) == list(range(1, 11)),
                    "what the paused node had not fanned out",
                    timeout_s=NOTICED_S,
                )
                with RedisView(own_redis.url) as redis:
                    assert not redis.has_stream(paused)
                    assert redis.leased() == {here.id, there.id}
                    await trio.sleep_until(paused_at + pause_s)
                    paused.process.signal(signal.SIGCONT)
                    await wait_until(
                        lambda: redis.is_whole([here, there, paused], [(paula, paused)]),
                        "the node is there again",
                        timeout_s=HEALED_S,
                    )
                # Its clients get answers, and its messages go the ordinary way from now on.
                await senders.wait_acks(3)
            await senders.verify(pool, sessions)
            await wait_pushed(pushed_here, group, len(senders.acks), where="on one node")
            await wait_pushed(pushed_there, group, len(senders.acks), where="on another node")
            await wait_pushed(pushed_to_paused, group, len(senders.acks), where="on the paused node")
            await wait_pushed(pushed_here, left_behind, 10, where="of what was left behind")
