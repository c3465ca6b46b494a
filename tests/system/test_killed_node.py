"""A gateway that is killed with SIGKILL loses no acknowledged message (P1 to P4)."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from uuid import uuid4

import trio

from client.connection import connect
from client.held import Entry
from client.session import Session, open_session
from embedded.redis import RedisServer
from protocol.frames import Push, Sent, Undecryptable
from server.cluster.presence import GRACE_S, POLL_S
from store import keys
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.directory import LEASE_S
from tests.people import new_device, new_direct, new_group, new_user
from tests.processes import open_cluster
from tests.system.many_nodes import RedisView, listening, seqs, start_nodes, watching
from tests.waiting import wait_until

RECOVERED_S = 20.0

FORGOTTEN_S = LEASE_S + 4
"""From the death of a node until the others have noticed it, and have looked for its missed messages."""

OFFLINE_S = FORGOTTEN_S + POLL_S + GRACE_S
"""Until watchers on other nodes see its users offline; nodes look periodically."""


async def test_200_in_flight_while_a_gateway_is_killed(pool: Pool, redis_url: str) -> None:
    """Every acked message is in Postgres and at every participant once, in seq order, without gaps."""
    people = [await new_user(pool, f"user{number}") for number in range(4)]
    groups = [await new_group(pool, *people), await new_group(pool, *people[:3])]
    acks: dict[bytes, list[Sent]] = {group: [] for group in groups}
    async with open_cluster(pool.url, redis_url) as cluster, AsyncExitStack() as stack:
        await cluster.start_web()
        (killed, first), (_, second) = await cluster.start_socket(), await cluster.start_socket()
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
            killed.kill()
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
    pool: Pool, own_redis: RedisServer
) -> None:
    """The other nodes notice the end of the dead node's lease, and push the messages that they find in Postgres.

    The race: killed between the commit and the stream. Redis stands still meanwhile, so that nothing can have been
    fanned out. The recipients are bare connections, which fetch nothing by themselves.
    """
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    group = await new_group(pool, alice, bob, carol)
    acked: list[int] = []
    async with open_cluster(pool.url, own_redis.url) as cluster:
        killed, here, there = await start_nodes(cluster, 3)
        async with listening(here, bob) as pushed_here, listening(there, carol) as pushed_there:
            async with connect(killed.url, alice.token) as sender:
                own_redis.pause()
                for _ in range(20):
                    sent = await sender.send(group, b"x", temp_id=uuid4().bytes, content_type="t")
                    acked.append(sent.seq)
                killed.process.kill()
                await sender.wait_lost()
            own_redis.resume()
            resumed_at = trio.current_time()
            assert not pushed_here
            assert not pushed_there
            await wait_until(lambda: len(pushed_here) >= 20, "all pushes here", timeout_s=FORGOTTEN_S)
            await wait_until(lambda: len(pushed_there) >= 20, "all pushes there", timeout_s=FORGOTTEN_S)
            took_s = trio.current_time() - resumed_at
    assert acked == list(range(1, 21))
    assert seqs(pushed_here, group) == seqs(pushed_there, group) == acked
    assert LEASE_S - 1 < took_s < FORGOTTEN_S, "the end of the lease alone lets the pushes come"


async def test_a_report_that_a_killed_node_has_noted_is_told_to_the_device_that_wrote_the_message(
    pool: Pool, redis_url: str
) -> None:
    """The race: killed between the commit and the push. It is told to a device that is connected to another node, and
    to one that connects after that, until it answers."""
    alice, bob = [await new_user(pool, name) for name in ("alice", "bob")]
    for device in (alice, bob):
        await keys.put(pool, device.device, b"identity")
    talk = await new_direct(pool, alice, bob)
    told: list[Undecryptable] = []

    async def note(push: Push) -> None:
        if isinstance(push, Undecryptable):
            told.append(push)

    async with open_cluster(pool.url, redis_url) as cluster:
        killed, here = await start_nodes(cluster, 2)
        async with connect(here.url, alice.token, on_push=note) as sender:
            sent = await sender.send(talk, b"x", temp_id=uuid4().bytes, content_type="t")
            async with connect(killed.url, bob.token) as reader:
                await reader.report_undecryptable(talk, sent.seq, "no_session", revision=0)
                killed.process.kill()
                await reader.wait_lost()
            await wait_until(lambda: len(told) == 1, "it is told while connected")
        async with connect(here.url, alice.token, on_push=note) as sender:
            await wait_until(lambda: len(told) == 2, "it is told after the welcome")
            await sender.add_envelopes(talk, sent.seq, [(bob.device, b"late")], revision=0)
        async with connect(here.url, alice.token, on_push=note) as sender:
            await sender.sync(None)
    assert told == 2 * [Undecryptable(talk, sent.seq, bob.user, bob.device, None, "no_session")]


async def test_a_killed_node_is_forgotten_when_its_lease_ends(pool: Pool, redis_url: str) -> None:
    """Its lease and its stream go, nothing is written for it, and its users go offline on all others after the grace.

    A user with a second connection on another node stays online throughout. A user who moves to another node is online
    again, and only that node holds the user.
    """
    alice, bob, carol, dave = [await new_user(pool, name) for name in ("alice", "bob", "carol", "dave")]
    group = await new_group(pool, alice, bob, carol, dave)
    async with open_cluster(pool.url, redis_url) as cluster:
        killed, here, there = await start_nodes(cluster, 3)
        with RedisView(redis_url) as redis:
            async with (
                watching([here], alice, carol, dave) as one,
                watching([there], bob, carol, dave) as other,
                open_session([there.url], dave),
                AsyncExitStack() as lost,
            ):
                await lost.enter_async_context(connect(killed.url, carol.token))
                await lost.enter_async_context(connect(killed.url, (await new_device(pool, dave.user)).token))
                for watcher in (one, other):
                    for person in (carol, dave):
                        await watcher.wait_seen(person.user, is_online=True, timeout_s=POLL_S + GRACE_S)
                    watcher.changes.clear()
                assert redis.holders(dave.user) == {killed.id, there.id}
                killed.process.kill()
                killed_at = trio.current_time()
                await wait_until(
                    lambda: redis.leased() == {here.id, there.id} and not redis.has_stream(killed),
                    "the lease and the stream have gone",
                    timeout_s=FORGOTTEN_S,
                )
                await one.session.send(group, b"x")
                await other.session.send(group, b"y")
                assert not redis.has_stream(killed), "no stream is written for the dead node"
                for watcher in (one, other):
                    await watcher.wait_seen(carol.user, is_online=False, timeout_s=OFFLINE_S)
                    assert trio.current_time() - killed_at > LEASE_S - 1 + GRACE_S, (
                        "the user went offline before the grace was over"
                    )
                    assert watcher.changes == [(carol.user, False)]
                async with connect(here.url, carol.token), connect(here.url, (await new_device(pool, dave.user)).token):
                    for watcher in (one, other):
                        await watcher.wait_seen(carol.user, is_online=True, timeout_s=POLL_S)
                    assert redis.holders(carol.user) == {here.id}
                    assert redis.holders(dave.user) == {here.id, there.id}
                assert one.changes == other.changes == [(carol.user, False), (carol.user, True)]


async def _screen(session: Session, expected: int) -> list[Entry]:
    screen: list[Entry] = []
    async for message in session.messages:
        screen.append(message)
        if len(screen) == expected:
            break
    # Once: no message comes twice, not even later.
    await session.wait_caught_up()
    assert len(session.mailbox.log) == expected
    return screen
