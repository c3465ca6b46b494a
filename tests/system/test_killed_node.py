"""A gateway that is killed with SIGKILL takes nothing with it that was acknowledged (P1 to P4)."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

import trio

from client.connection import connect
from client.mailbox import Entry
from client.session import Session, open_session
from embedded.redis import Redis
from protocol.frames import Message, Push, Sent
from store.pool import Pool
from store.postgres import uuid
from tests.people import new_direct, new_group, new_user
from tests.processes import open_cluster

RECOVERED_S = 20.0


async def test_200_in_flight_while_a_gateway_is_killed(pool: Pool, redis_url: str) -> None:
    """Every acked message is in Postgres and on every participant's screen once, in seq order, without gaps."""
    people = [await new_user(pool, f"user{number}") for number in range(4)]
    groups = [await new_group(pool, *people), await new_group(pool, *people[:3])]
    acks: dict[bytes, list[Sent]] = {group: [] for group in groups}
    async with open_cluster(pool.url, redis_url) as cluster, AsyncExitStack() as stack:
        await cluster.start_web()
        (doomed, first), (_, second) = await cluster.start_socket(), await cluster.start_socket()
        # Two start on the node that dies, two on the other.
        orders = [[first, second], [first, second], [second, first], [second, first]]
        sessions = [
            await stack.enter_async_context(open_session(order, person))
            for order, person in zip(orders, people, strict=True)
        ]
        for session in sessions:
            await session.wait_caught_up()
        some_acked = trio.Event()

        async def send(session: Session, group: bytes) -> None:
            acks[group].append(await session.send(group, secrets.token_bytes(200)))
            if sum(map(len, acks.values())) == 20:
                some_acked.set()

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(send, sessions[number % 3], groups[number % 2])
            await some_acked.wait()
            doomed.kill()
            assert sum(map(len, acks.values())) < 200, "the kill came too late to mean anything"

        screens = []
        with trio.fail_after(RECOVERED_S):
            for number, session in enumerate(sessions):
                screens.append(await _screen(session, 200 if number < 3 else 100))
    for group in groups:
        stored = await pool.fetch(
            "select seq, id from messages where conversation_id = %s order by seq", (uuid(group),)
        )
        assert stored == sorted((ack.seq, ack.message) for ack in acks[group])
        assert [seq for seq, _ in stored] == list(range(1, 101))
        for screen in screens if group == groups[0] else screens[:3]:
            assert [(m.seq, m.message) for m in screen if m.conversation == group] == stored


async def test_message_of_a_node_that_dies_before_it_fans_out_comes_live_all_the_same(
    pool: Pool, own_redis: Redis
) -> None:
    """The other node notices the dead one's lease ending and pushes what it finds in Postgres, without being asked.

    The race: killed between the commit and the stream. Redis stands still meanwhile, so that nothing can have been
    fanned out. The recipient is a bare connection, which fetches nothing by itself.
    """
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    seen: list[int] = []
    acked: list[int] = []
    complete = trio.Event()

    async def on_push(push: Push) -> None:
        assert isinstance(push, Message)
        seen.append(push.seq)
        if len(set(seen)) == 20:
            complete.set()

    async with open_cluster(pool.url, own_redis.url) as cluster:
        (doomed, here), (_, there) = await cluster.start_socket(), await cluster.start_socket()
        async with connect(there, bob.token, on_push=on_push):
            async with connect(here, alice.token) as sender:
                own_redis.pause()
                for _ in range(20):
                    sent = await sender.send(conversation, b"x", temp_id=secrets.token_bytes(16), content_type="t")
                    acked.append(sent.seq)
                doomed.kill()
                await sender.wait_lost()
            assert not seen
            own_redis.resume()
            with trio.fail_after(RECOVERED_S):
                await complete.wait()
    assert acked == list(range(1, 21))
    assert seen == acked


async def _screen(session: Session, expected: int) -> list[Entry]:
    screen: list[Entry] = []
    async for message in session.messages:
        screen.append(message)
        if len(screen) == expected:
            break
    # Once: nothing comes twice, not even later.
    await session.wait_caught_up()
    assert len(session.mailbox.log) == expected
    return screen
