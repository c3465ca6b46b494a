"""A reader that falls behind pulls by its cursor: it misses nothing in the end, and other clients do not notice."""

from __future__ import annotations

import socket
from uuid import uuid4

import pytest

from protocol import limits
from protocol.frames import Conversation, Lag, Message, Push, Reply, Send, Sent, Sync, Synced
from server.transport.outbox import MAX_BYTES
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.server.node_world import RawClient, open_node, undisturbed
from tests.waiting import wait_until

SIZE = 20_000


def new_send(request: int, conversation: bytes) -> Send:
    return Send(request, conversation, "text", bytes(SIZE), None, None, uuid4().bytes)


@pytest.fixture(autouse=True)
def _without_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer who fills the buffers of the kernel, of which Linux makes megabytes, may be in debt by then."""
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", 10**9)


async def write_all(client: RawClient, sends: list[Send]) -> None:
    await client.send(*sends)
    replies = await client.read(len(sends))
    assert [type(reply) for reply in replies] == [Sent] * len(sends), replies


async def read_until(client: RawClient, type_: type[Lag] | type[Synced]) -> list[Reply | Push]:
    """The frames up to one of this type, and the frames in the same message."""
    frames: list[Reply | Push] = []
    while not any(isinstance(frame, type_) for frame in frames):
        frames += await client.read(1)
    return frames


async def test_a_reader_that_falls_behind_catches_up_by_its_cursor_while_more_keeps_coming(
    pool: Pool, redis_url: str
) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as slow:
        writer, quick = await new_user(pool, "writer"), await new_user(pool, "quick")
        conversation = await new_group(pool, writer, quick, slow)
        async with (
            node.open_websocket(writer.token) as writes,
            node.open_websocket(quick.token) as reads,
            node.open_websocket(slow.token) as lags,
        ):
            await lags.send(Sync(1, None))
            [synced] = [frame for frame in await read_until(lags, Synced) if isinstance(frame, Synced)]
            lags.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            [connection] = node.gateway.hub.of(slow.user)
            last = 0

            async def write(count: int) -> None:
                nonlocal last
                await write_all(writes, [new_send(last + n, conversation) for n in range(count)])
                last += count
                # The quick device gets every push at once.
                await reads.read(count)

            while not connection.outbox.is_lagging:
                await write(12)
                assert connection.outbox.size <= MAX_BYTES
            await write(12)
            frames = await read_until(lags, Lag)
            [lag] = [frame for frame in frames if isinstance(frame, Lag)]
            held = {frame.seq for frame in frames if isinstance(frame, Message)}
            assert held == set(range(1, len(held) + 1))
            assert lag.heads == [(conversation, lag.heads[0][1])]
            assert len(held) < lag.heads[0][1] <= last
            cursor, more = synced.cursor, True
            told: set[bytes] = set()
            while more:
                await lags.send(Sync(2, cursor))
                await write(1)
                frames = await read_until(lags, Synced)
                held |= {frame.seq for frame in frames if isinstance(frame, Message)}
                told |= {frame.conversation for frame in frames if isinstance(frame, Conversation)}
                [synced] = [frame for frame in frames if isinstance(frame, Synced)]
                cursor, more = synced.cursor, synced.more
            await write(1)
            while last not in held:
                held |= {frame.seq for frame in await lags.read(1) if isinstance(frame, Message)}
            assert held == set(range(1, last + 1)), "nothing is missing, and pushes come again"
            assert told == {conversation}


async def test_a_reader_that_reads_nothing_any_more_costs_a_bounded_number_of_bytes(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as stuck:
        writer = await new_user(pool, "writer")
        conversation = await new_direct(pool, writer, stuck)
        async with node.open_websocket(writer.token) as writes, node.open_websocket(stuck.token) as nobody:
            nobody.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            [connection] = node.gateway.hub.of(stuck.user)
            sizes = []
            for start in range(0, 600, 12):
                await write_all(writes, [new_send(n, conversation) for n in range(start, start + 12)])
                sizes.append(connection.outbox.size)
            assert connection.outbox.is_lagging
            assert max(sizes) <= MAX_BYTES
            assert sizes[-1] < MAX_BYTES / 2
            nobody.reset()
            await wait_until(lambda: not node.gateway.hub.holds(stuck.user), "it has gone")
            await write_all(writes, [new_send(999, conversation)])
