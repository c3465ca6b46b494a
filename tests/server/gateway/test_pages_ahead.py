"""After a long absence, one request brings several pages, the newest first, as fast as the client reads them."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio

from client.http import Credentials
from protocol.frames import Conversation, Cursor, Hello, Message, Push, Reply, Sync, Synced, Welcome
from protocol.limits import MAX_PAGES
from server.transport.outbox import MAX_BYTES, ROOM_BYTES
from store.messages import NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.server.node_world import RawClient, TestNode, open_node
from tests.waiting import wait_until

COUNT: Final = 150
SIZE: Final = 40_000


@asynccontextmanager
async def open_quiet(pool: Pool, redis_url: str) -> AsyncGenerator[TestNode, None]:
    """A node after its first catch-up: from now on it pushes no message that the test commits directly to Postgres."""
    async with open_node(pool.url, redis_url) as node:
        await node.wait_event("caught_up")
        yield node


async def write(pool: Pool, conversation: bytes, user: bytes, count: int) -> None:
    """Commit the messages in some batches, as sends would."""
    for start in range(0, count, 50):
        numbers = range(start, min(start + 50, count))
        batch = [
            NewMessage(conversation, user, conversation[:8] + number.to_bytes(8), "text", bytes(SIZE), None, None)
            for number in numbers
        ]
        await send(pool, ParticipantsCache(), batch)


async def first_cursor(client: RawClient) -> bytes:
    synced = (await client.ask(Sync(1, None)))[-1]
    assert isinstance(synced, Synced)
    return synced.cursor


def seqs(frames: list[Reply | Push]) -> list[int]:
    return [frame.seq for frame in frames if isinstance(frame, Message)]


async def read_all(client: RawClient, request: int, cursor: bytes, pages: int | None) -> tuple[list[Reply | Push], int]:
    """Sync until the last page; returns the frames and the number of round trips."""
    frames: list[Reply | Push] = []
    for number in range(1, 1000):
        frames += await client.ask(Sync(request, cursor, pages=pages))
        last = frames[-1]
        assert isinstance(last, Synced)
        if not last.more:
            return frames, number
        cursor = last.cursor
    raise AssertionError("no end")


@pytest.mark.parametrize(("pages", "most"), [(None, 80), (16, 6), (MAX_PAGES, 3)])
async def test_a_long_absence_costs_a_round_trip_for_each_number_of_pages_asked_for(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, pages: int | None, most: int
) -> None:
    async with open_quiet(pool, redis_url) as node, node.open_websocket(alice.token) as client:
        cursor = await first_cursor(client)
        await write(pool, direct, bob.user, COUNT)
        frames, round_trips = await read_all(client, 2, cursor, pages)
        assert seqs(frames) == list(range(1, COUNT + 1))
        assert round_trips <= most
        # Each page can be the last that a client has stored.
        ends = [n for n, frame in enumerate(frames) if isinstance(frame, Cursor | Synced)]
        assert all(frame.more for frame in frames if isinstance(frame, Cursor))
        middle = ends[len(ends) // 2]
        held = frames[middle]
        assert isinstance(held, Cursor | Synced)
        rest, _ = await read_all(client, 3, held.cursor, pages)
        assert seqs(frames[:middle]) + seqs(rest) == list(range(1, COUNT + 1))


async def test_a_hello_brings_as_many_pages_as_it_asks_for(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_quiet(pool, redis_url) as node:
        async with node.open_websocket(alice.token) as client:
            cursor = await first_cursor(client)
        await write(pool, direct, bob.user, 10)
        async with node.open_websocket() as back:
            await back.send(Hello(7, alice.token, 1, cursor, pages=3))
            frames: list[Reply | Push] = []
            while sum(isinstance(frame, Cursor) for frame in frames) < 3:
                frames += await back.read(1)
            assert isinstance(frames[0], Welcome)
            assert seqs(frames) == [1, 2, 3, 4, 5, 6]
            last = frames[-1]
            assert isinstance(last, Cursor)
            await back.nothing_came()
            rest, _ = await read_all(back, 8, last.cursor, None)
            assert seqs(rest) == [7, 8, 9, 10]


async def pages_wait(  # type: ignore[no-untyped-def]  # the gateway's own class
    pool: Pool, node: TestNode, client: RawClient, conversation: bytes, reader: Credentials, writer: Credentials
):
    """The reader's client has asked for all pages at once and reads slowly; its connection, whose outbox is full of
    pages."""
    cursor = await first_cursor(client)
    await write(pool, conversation, writer.user, COUNT)
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection = connection_of(node, reader)
    await client.send(Sync(2, cursor, pages=MAX_PAGES))
    await wait_until(lambda: connection.outbox.size > ROOM_BYTES, "pages wait")
    return connection


async def test_a_client_that_reads_slowly_has_pages_waiting_for_half_an_outbox_at_most_and_gets_all(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """The rest of the outbox is for pushes: none are dropped, and the client does not lag."""
    async with open_quiet(pool, redis_url) as node, node.open_websocket(alice.token) as client:
        outbox = (await pages_wait(pool, node, client, direct, alice, bob)).outbox
        largest = 0
        frames: list[Reply | Push] = []
        while not any(isinstance(frame, Synced) for frame in frames):
            largest = max(largest, outbox.size)
            frames += await client.read(1)
        assert largest < ROOM_BYTES + 256 * 1024 < MAX_BYTES
        last = frames[-1]
        assert isinstance(last, Synced)
        rest, _ = await read_all(client, 3, last.cursor, None)
        assert seqs(frames + rest) == list(range(1, COUNT + 1))
        assert not outbox.is_lagging


async def test_a_node_that_stops_ends_with_the_page_that_is_under_way(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_quiet(pool, redis_url) as node, node.open_websocket(alice.token) as client:
        connection = await pages_wait(pool, node, client, direct, alice, bob)
        connection.drain()
        frames: list[Reply | Push] = []
        with trio.fail_after(20):
            while not any(isinstance(frame, Synced) for frame in frames):
                frames += await client.read(1)
        last = frames[-1]
        assert isinstance(last, Synced)
        assert last.more
        assert 0 < len(seqs(frames)) < COUNT


async def test_the_newest_come_first_and_only_so_many_of_each_conversation(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    talks = [await new_direct(pool, alice, await new_user(pool, f"user{number}")) for number in range(4)]
    async with open_quiet(pool, redis_url) as node, node.open_websocket(alice.token) as client:
        cursor = await first_cursor(client)
        for talk in talks:
            await write(pool, talk, alice.user, 5)
        frames = await client.ask(Sync(2, cursor, count=2, pages=MAX_PAGES))
        told = [frame.conversation for frame in frames if isinstance(frame, Conversation)]
        assert told == talks[::-1]
        assert seqs(frames) == [4, 5] * 4


def connection_of(node: TestNode, person: Credentials):  # type: ignore[no-untyped-def]  # the gateway's own class
    [connection] = node.gateway.hub.of(person.user)
    return connection
