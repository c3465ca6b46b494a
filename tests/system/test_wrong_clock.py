"""Two gateways whose wall clocks are an hour apart, both half an hour wrong, serve the same users.

All times that must agree on all nodes come from the clock of Postgres or of Redis. The wrong clocks are a fake:
see `wrong_clock/sitecustomize.py`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import ConnectionLost, RequestRefused
from client.http import Credentials
from client.mailbox import Mailbox
from client.session import open_session
from embedded.postgres import PostgresServer
from protocol import ids
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import Ping, Pong, Sent
from server.cluster.presence import GRACE_S, POLL_S
from store.last_seen import last_seen
from store.messages import TEMP_ID_DAYS
from store.postgres.pool import Pool
from store.redis.directory import LEASE_S
from tests.people import TOKEN_LIFETIME_S, new_device, new_direct, new_user
from tests.processes import open_cluster
from tests.system.many_nodes import Node, RedisView, start_node, watching
from tests.waiting import wait_until

WRONG_S = 1800.0
CLOSE_ENOUGH_S = 2.0
"""The tolerance between times that differ only by the time that a request takes."""

FOLDER = Path(__file__).parent / "wrong_clock"


def wrong_by(ahead_s: float) -> dict[str, str]:
    """The environment of a process whose wall clock is ahead by this much."""
    path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "TEST_CLOCK_AHEAD_S": str(ahead_s)}


@asynccontextmanager
async def open_two(pool: Pool, redis_url: str) -> AsyncGenerator[tuple[Node, Node]]:
    """A gateway whose clock is slow, and one whose clock is fast. Both have noticed, so the fake works."""
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes: dict[float, Node] = {}

        async def start(ahead_s: float) -> None:
            nodes[ahead_s] = await start_node(cluster, **wrong_by(ahead_s))
            noticed = await nodes[ahead_s].process.wait_event("clock_is_wrong")
            assert abs(noticed["ahead_of_postgres_s"] - ahead_s) < CLOSE_ENOUGH_S

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, -WRONG_S)
            nursery.start_soon(start, WRONG_S)
        yield nodes[-WRONG_S], nodes[WRONG_S]


async def now_us(pool: Pool) -> int:
    [(now,)] = await pool.fetch("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    return int(now)


def about(time_us: float, other_us: float) -> bool:
    return abs(time_us - other_us) < CLOSE_ENOUGH_S * 1e6


async def test_a_token_is_as_good_on_either_node(pool: Pool, redis_url: str, alice: Credentials) -> None:
    """A token that expires ends its connections to both nodes at that time; a token renewed by one node holds at the
    other."""
    async with open_two(pool, redis_url) as (slow, fast):
        short = await new_device(pool, alice.user, lifetime_s=3.0)
        async with connect(slow.url, short.token) as one, connect(fast.url, short.token) as other:
            assert one.welcome.expires == other.welcome.expires
            for connection in (one, other):
                assert about(connection.welcome.created, await now_us(pool))
                pong = await connection.request(Ping(0))
                assert isinstance(pong, Pong)
                assert about(pong.created, await now_us(pool))
            for connection in (one, other):
                with trio.fail_after(3 + CLOSE_ENOUGH_S):
                    assert (await connection.wait_lost()).close_code == CloseCode.TOKEN_EXPIRED.value
                assert 0 <= await now_us(pool) - one.welcome.expires < CLOSE_ENOUGH_S * 1e6
        for node, another in ((slow, fast), (fast, slow)):
            with pytest.raises(ConnectionLost) as refused:
                async with connect(node.url, short.token):
                    pass
            assert refused.value.close_code == CloseCode.TOKEN_EXPIRED.value
            device = await new_device(pool, alice.user, lifetime_s=60.0)
            async with connect(node.url, device.token) as connection:
                renewed = await connection.refresh(device.token)
            assert about(renewed.expires, await now_us(pool) + TOKEN_LIFETIME_S * 1e6)
            for token in (renewed.token, device.token):
                async with connect(another.url, token) as connection:
                    assert connection.welcome.expires == renewed.expires


async def test_messages_by_turns_over_both_nodes_have_one_order_in_seq_and_time(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """A device that moves from one node to the other with its cursor ends with the state of a fresh fetch."""
    held: Mailbox | None = None
    sents: list[Sent] = []
    async with open_two(pool, redis_url) as nodes:
        for turn in range(3):
            async with open_session([nodes[turn % 2].url], bob, mailbox=held) as session:
                held = session.mailbox
                with trio.fail_after(5):
                    await session.wait_caught_up()
                async with connect(nodes[0].url, alice.token) as one, connect(nodes[1].url, alice.token) as other:
                    for number in range(20):
                        sents.append(await send((one, other)[number % 2], direct))
                        assert about(sents[-1].created, await now_us(pool))
                await wait_until(lambda: session.mailbox.up_to(direct) >= len(sents), "all at the session")
            # While no device of Bob is connected:
            async with connect(nodes[turn % 2].url, alice.token) as connection:
                sents.append(await send(connection, direct))
        async with (
            open_session([nodes[1].url], bob, mailbox=held) as back,
            open_session([nodes[0].url], await new_device(pool, bob.user)) as fresh,
        ):
            with trio.fail_after(5):
                await back.wait_caught_up()
                await fresh.wait_caught_up()
                assert await fresh.load_older(direct, 100)
            shown = list(back.mailbox.log)
            assert list(back.mailbox.messages(direct)) == list(fresh.mailbox.messages(direct))
    assert [sent.seq for sent in sents] == list(range(1, 64))
    assert [sent.created for sent in sents] == sorted(sent.created for sent in sents)
    assert [(m.seq, m.message, m.created) for m in shown] == [(s.seq, s.message, s.created) for s in sents]


async def test_a_temp_id_is_too_old_by_the_clock_of_postgres(
    pool: Pool, redis_url: str, alice: Credentials, direct: bytes
) -> None:
    """A quarter of an hour before its end it is valid on the fast node; a quarter after, invalid on the slow one."""
    async with (
        open_two(pool, redis_url) as (slow, fast),
        connect(slow.url, alice.token) as one,
        connect(fast.url, alice.token) as other,
    ):
        oldest_ms = await now_us(pool) // 1000 - TEMP_ID_DAYS * 86_400_000
        for here, there in ((one, other), (other, one)):
            with pytest.raises(RequestRefused) as refused:
                await send(here, direct, made_ms=oldest_ms - 900_000)
            assert refused.value.code == ErrorCode.TEMP_ID_EXPIRED.value
            # Young enough, and known on the other node.
            temp_id = ids.uuid7(await now_us(pool) // 1000, secrets.token_bytes(ids.NOISE_BYTES))
            first = await here.send(direct, b"x", temp_id=temp_id)
            again = await there.send(direct, b"x", temp_id=temp_id)
            assert (first.seq, first.message, first.created) == (again.seq, again.message, again.created)
            await send(here, direct, made_ms=oldest_ms + 900_000)


async def test_leases_hold_and_presence_and_last_seen_are_right(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Neither node takes the other for dead. Users on one of them are online for the other, and were seen just now."""
    await new_direct(pool, alice, bob)
    async with open_two(pool, redis_url) as nodes:
        began = trio.current_time()
        async with watching([nodes[0]], alice, bob) as one, watching([nodes[1]], bob, alice) as other:
            await one.wait_seen(bob.user, is_online=True, timeout_s=POLL_S + GRACE_S)
            await other.wait_seen(alice.user, is_online=True, timeout_s=POLL_S + GRACE_S)
            one.changes.clear()
            with RedisView(redis_url) as redis:
                await trio.sleep_until(began + LEASE_S)
                assert redis.leased() == {node.id for node in nodes}
            assert one.changes == []
        left_us = await now_us(pool)

        async def is_seen() -> bool:
            return about((await last_seen(pool, [bob.user])).get(bob.user, 0), left_us)

        await wait_until(is_seen, "it is written when bob was seen", timeout_s=5)
        for node in nodes:
            assert [line for line in node.process.log if line["event"] in ("node_vanished", "fan_out_missed")] == []


async def test_a_node_that_started_before_postgres_does_not_serve_by_its_own_clock(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    """The race: Postgres could not tell the time at the first request, and the next one came a minute later.

    The machine's clock is two months fast, and still no new message is too old.
    """
    pool = Pool(own_postgres.url, 2)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    now_ms = await now_us(pool) // 1000
    pool.close()  # Its open connections would not survive Postgres.
    await trio.to_thread.run_sync(own_postgres.stop)
    async with open_cluster(own_postgres.url, redis_url) as cluster:
        process, url = await cluster.start_socket(wait=False, **wrong_by(60 * 86400.0))
        await process.wait_event("clock_not_measured")
        await trio.to_thread.run_sync(own_postgres.start)
        await process.wait_event("listening", timeout_s=10)
        async with connect(url, alice.token) as connection:
            assert (await send(connection, conversation, made_ms=now_ms)).seq == 1


async def send(connection: ClientConnection, conversation: bytes, *, made_ms: int | None = None) -> Sent:
    """A message with a new temp_id: a UUID of version 7 if its time is given."""
    temp_id = uuid4().bytes
    if made_ms is not None:
        temp_id = ids.uuid7(made_ms, secrets.token_bytes(ids.NOISE_BYTES))
    return await connection.send(conversation, b"x", temp_id=temp_id)
