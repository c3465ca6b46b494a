"""Two gateways on one Postgres and one Redis."""

from __future__ import annotations

from uuid import uuid4

import trio
from msgspec.structs import replace

from client.connection import connect
from client.held import Entry
from client.http import Credentials
from client.mailbox import Mailbox
from client.session import open_session
from client.signs import Sign
from protocol.frames import Message, Presence, Push, Tombstone, Typing
from server.cluster.presence import GRACE_S, POLL_S
from store.postgres.pool import Pool
from tests.faults import flush_redis
from tests.people import new_device, new_direct, new_group, new_user
from tests.processes import open_cluster

HEALED_S = 5.0
"""Promised after FLUSHALL (docs/guarantees.md, P9)."""


async def test_message_reaches_every_other_device_on_every_node(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Push to every live device of every participant, the sender's other devices included; not to the sending one."""
    alice2 = await new_device(pool, alice.user)
    conversation = await new_direct(pool, alice, bob)
    async with open_cluster(pool.url, redis_url) as cluster:
        (_, here), (_, there) = await cluster.start_socket(), await cluster.start_socket()
        pushes: dict[str, list[Message]] = {"alice": [], "alice2": [], "bob": [], "bob2": []}
        arrived = trio.Event()

        def collect(name: str):  # type: ignore[no-untyped-def]
            async def on_push(push: Push) -> None:
                assert isinstance(push, Message)
                pushes[name].append(push)
                if sum(map(len, pushes.values())) == 3:
                    arrived.set()

            return on_push

        temp_id = uuid4().bytes
        async with (
            connect(here, alice.token, on_push=collect("alice")) as sender,
            connect(there, alice2.token, on_push=collect("alice2")),
            connect(there, bob.token, on_push=collect("bob")),
            connect(here, (await new_device(pool, bob.user)).token, on_push=collect("bob2")),
        ):
            sent = await sender.send(conversation, b"ciphertext", temp_id=temp_id, content_type="text", nonce=b"n" * 24)
            with trio.fail_after(HEALED_S):
                await arrived.wait()
        expected = Message(
            conversation,
            1,
            sent.message,
            sent.created,
            alice.user,
            "text",
            b"ciphertext",
            b"n" * 24,
            None,
            device=alice.device,
        )
        own = replace(expected, temp_id=temp_id)
        assert pushes == {"alice": [], "alice2": [own], "bob": [expected], "bob2": [expected]}


async def test_same_temp_id_50_times_at_once_from_two_nodes_is_one_message(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    conversation, temp_id = await new_direct(pool, alice, bob), uuid4().bytes
    acks = []
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = [(await cluster.start_socket())[1] for _ in range(2)]
        async with connect(nodes[0], alice.token) as one, connect(nodes[1], alice.token) as other:

            async def send(connection) -> None:  # type: ignore[no-untyped-def]
                sent = await connection.send(conversation, b"once", temp_id=temp_id, content_type="text")
                acks.append((sent.seq, sent.message, sent.created))

            async with trio.open_nursery() as nursery:
                for turn in range(50):
                    nursery.start_soon(send, (one, other)[turn % 2])
    assert len(acks) == 50
    assert len(set(acks)) == 1
    assert await pool.fetch("select count(*), max(seq) from messages") == [(1, 1)]
    assert await pool.fetch("select last_seq from conversations") == [(1,)]


async def test_flushall_between_two_nodes_heals_with_nothing_missing(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        await cluster.start_web()
        (_, here), (there_process, there) = await cluster.start_socket(), await cluster.start_socket()
        async with connect(here, alice.token) as sender:
            seen: list[int] = []
            complete = trio.Event()

            async def on_push(push: Push) -> None:
                assert isinstance(push, Message)
                seen.append(push.seq)
                if set(seen) >= set(range(1, 61)):
                    complete.set()

            # A bare connection fetches nothing: only pushes of the server count.
            async with connect(there, bob.token, on_push=on_push):
                for number in range(1, 61):
                    if number == 20:
                        flush_redis(redis_url)
                    await sender.send(direct, b"%d" % number, temp_id=uuid4().bytes, content_type="text")
                with trio.fail_after(HEALED_S):
                    await complete.wait()
                # Healed, not only caught up: the next message comes the ordinary way.
                await there_process.wait_event("caught_up", skip=1)
    assert sorted(set(seen)) == list(range(1, 61))


async def test_group_of_three_on_two_nodes_sees_one_order(pool: Pool, redis_url: str) -> None:
    """Senders on both nodes at once: every session ends with the same messages in the same order."""
    people = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    group = await new_group(pool, *people)
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = [(await cluster.start_socket())[1] for _ in range(2)]
        async with (
            open_session([nodes[0]], people[0]) as alice,
            open_session([nodes[1]], people[1]) as bob,
            open_session([nodes[1]], people[2]) as carol,
        ):
            for session in (alice, bob, carol):
                await session.wait_caught_up()

            async def talk(session) -> None:  # type: ignore[no-untyped-def]
                for number in range(30):
                    await session.send(group, b"%d" % number)

            async with trio.open_nursery() as nursery:
                for session in (alice, bob, carol):
                    nursery.start_soon(talk, session)
            histories = []
            with trio.fail_after(HEALED_S):
                for session in (alice, bob, carol):
                    got: list[Entry] = []
                    async for message in session.messages:
                        got.append(_as_others_see(message))
                        if len(got) == 90:
                            break
                    histories.append(got)
    assert [message.seq for message in histories[0]] == list(range(1, 91))
    assert histories[0] == histories[1] == histories[2]


def _as_others_see(entry: Entry) -> Entry:
    """Without the temp_id, which only the sender's devices get."""
    return replace(entry, temp_id=None) if isinstance(entry, Message) else entry


async def test_a_device_that_was_away_ends_with_what_a_fresh_one_fetches(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Sent, edited and deleted: live pushes on another node, a catch-up by cursor, and a fresh fetch agree."""
    held = Mailbox(bob.user)
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = [(await cluster.start_socket())[1] for _ in range(2)]
        async with open_session([nodes[0]], alice) as sender:
            for number in range(1, 11):
                await sender.send(direct, b"%d" % number)
            own = sender.mailbox.messages(direct)
            async with (
                open_session([nodes[1]], bob, mailbox=held) as live,
                open_session([nodes[1]], await new_device(pool, bob.user)) as fresh,
            ):
                for session in (live, fresh):
                    await session.wait_caught_up()
                    assert await session.load_older(direct, 100)
                await sender.edit(_message(own[2]), b"edited")
                await sender.delete(own[3], for_everyone=True)
                with trio.fail_after(HEALED_S):
                    changed = [await anext(live.messages) for _ in range(12)][-2:]
                assert [type(each) for each in changed] == [Message, Tombstone]
            await sender.edit(_message(own[2]), b"edited again")
            await sender.edit(_message(own[4]), b"edited while away")
            await sender.delete(own[5], for_everyone=True)
            await sender.send(direct, b"11")
            async with (
                open_session([nodes[1]], bob, mailbox=held) as back,
                open_session([nodes[0]], await new_device(pool, bob.user)) as fresh,
            ):
                with trio.fail_after(HEALED_S):
                    await back.wait_caught_up()
                    await fresh.wait_caught_up()
                    await fresh.load_older(direct, 100)
                fetched = list(fresh.mailbox.messages(direct))
                assert list(held.messages(direct)) == fetched == [_as_others_see(each) for each in own]
    assert [each.seq for each in fetched] == list(range(1, 12))
    assert [each.seq for each in fetched if isinstance(each, Tombstone)] == [4, 6]
    assert [(each.seq, each.content) for each in fetched if isinstance(each, Message) and each.revision] == [
        (3, b"edited again"),
        (5, b"edited while away"),
    ]


def _message(entry: Entry) -> Message:
    assert isinstance(entry, Message)
    return entry


async def test_presence_and_typing_reach_the_other_node(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    send, signs = trio.open_memory_channel[Sign](10)
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = [(await cluster.start_socket())[1] for _ in range(2)]
        async with open_session([nodes[0]], alice, on_sign=send.send_nowait) as watcher:
            watcher.watch([bob.user])
            with trio.fail_after(GRACE_S + 2 * POLL_S + HEALED_S):
                assert await signs.receive() == Presence(bob.user, False)
                async with connect(nodes[1], bob.token) as other:
                    assert await signs.receive() == Presence(bob.user, True)
                    await other.set_typing(direct, True)
                    assert await signs.receive() == Typing(direct, bob.user, True)
                gone = await signs.receive()
                assert isinstance(gone, Presence)
                assert (gone.user, gone.is_online) == (bob.user, False)
                assert gone.last_seen is not None, "last_seen is known this time"
