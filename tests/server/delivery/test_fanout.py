"""Fan-out writes one entry per batch, and only for the nodes that hold a recipient (P12)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from server.delivery import fanout as fanout_module
from server.delivery.fanout import MAX_WAITING, Fanout
from store.errors import Unavailable
from store.redis.bus import Inbox, stream_of
from store.redis.client import Redis
from store.redis.directory import beat, enter, leave
from store.redis.entries import AddressedPush, CatchUpRequest, decode_entry, encode_catch_up_request, encode_pushes
from tests.waiting import wait_until

HERE, THERE, ELSEWHERE = b"node-aaa", b"node-bbb", b"node-ccc"
ALICE, BOB, CAROL, DAVE = (name * 16 for name in (b"a", b"b", b"c", b"d"))
CHAT = b"t" * 16


@pytest.fixture
async def redis(redis_url: str, nursery: trio.Nursery) -> Redis:
    redis = Redis(redis_url)
    await nursery.start(redis.run)
    await redis.wait_connected()
    return redis


async def _nodes(redis: Redis) -> None:
    """Bob and Carol on THERE, Carol also HERE, Dave nowhere; ELSEWHERE is alive and holds no user."""
    for node in (HERE, THERE, ELSEWHERE):
        inbox = Inbox(redis, node)
        await inbox.open()
        await beat(redis, node, inbox.position)
    await enter(redis, THERE, [BOB, CAROL])
    await enter(redis, HERE, [ALICE, CAROL])


async def _entries(redis: Redis, node: bytes) -> list[list[AddressedPush | CatchUpRequest]]:
    found = await redis.call("XRANGE", stream_of(redis, node), "-", "+")
    return [list(decode_entry(fields[1])) for _, fields in found if fields[0] == b"d"]


async def test_only_nodes_that_hold_a_recipient_are_written_to(redis: Redis, nursery: trio.Nursery) -> None:
    """One entry for the whole batch; each push names the users that the receiving node holds, and no others."""
    await _nodes(redis)
    fanout = Fanout(redis, HERE, lambda: False)
    fanout.send(AddressedPush(CHAT, 1, b"first", (ALICE, BOB, DAVE)))
    fanout.send(AddressedPush(CHAT, 2, b"second", (ALICE, BOB, CAROL)))
    fanout.send(AddressedPush(CHAT, 3, b"third", (ALICE, DAVE)))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    [[first, second]] = await _entries(redis, THERE)
    assert first == AddressedPush(CHAT, 1, b"first", [BOB])
    assert (second.conversation, second.seq, second.frame, set(second.users)) == (CHAT, 2, b"second", {BOB, CAROL})
    assert await _entries(redis, ELSEWHERE) == []
    assert await _entries(redis, HERE) == [], "a push on this node needs no stream"


async def test_each_node_that_holds_a_recipient_is_written_to(redis: Redis, nursery: trio.Nursery) -> None:
    """If a user has devices on several other nodes, each of them gets the push and its recipients."""
    await _nodes(redis)
    await enter(redis, ELSEWHERE, [BOB, DAVE])
    await enter(redis, HERE, [BOB])
    fanout = Fanout(redis, HERE, lambda: False)
    fanout.send(AddressedPush(CHAT, 1, b"to bob", (ALICE, BOB)))
    fanout.send(AddressedPush(CHAT, 2, b"to all", (ALICE, BOB, CAROL, DAVE)))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    for node, to_all in ((THERE, {BOB, CAROL}), (ELSEWHERE, {BOB, DAVE})):
        [[first, second]] = await _entries(redis, node)
        assert first == AddressedPush(CHAT, 1, b"to bob", [BOB])
        assert set(second.users) == to_all
    assert await _entries(redis, HERE) == []


async def test_a_push_for_users_who_are_where_they_were_does_not_wait_for_the_look_up(
    redis: Redis, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _nodes(redis)
    fanout = Fanout(redis, HERE, lambda: False)
    nursery.start_soon(fanout.run)
    address, may_look_up = fanout_module.address_pushes, trio.Event()

    async def address_later(*args: Any, **known: Any) -> list[tuple[bytes, bytes]]:
        await may_look_up.wait()
        return await address(*args, **known)

    for seq in (1, 2):
        fanout.send(AddressedPush(CHAT, seq, b"frame", (ALICE, BOB, DAVE)))
        fanout.flush()
        if seq == 2:
            await wait_until(lambda: fanout.waiting == 0, "the second is taken")
            while len(await _entries(redis, THERE)) < 2:
                await trio.lowlevel.checkpoint()
            may_look_up.set()
        await fanout.wait_idle()
        monkeypatch.setattr(fanout_module, "address_pushes", address_later)
    assert await _entries(redis, THERE) == [[AddressedPush(CHAT, seq, b"frame", [BOB])] for seq in (1, 2)]
    assert await _entries(redis, ELSEWHERE) == []


async def test_a_push_follows_a_user_to_another_node(redis: Redis, nursery: trio.Nursery) -> None:
    """The node that the user has left may get the one that tells of it, and no later one."""
    await _nodes(redis)
    fanout = Fanout(redis, HERE, lambda: False)
    nursery.start_soon(fanout.run)
    for seq in range(1, 5):
        if seq == 2:
            await enter(redis, ELSEWHERE, [BOB])
            await leave(redis, THERE, [BOB])
        fanout.send(AddressedPush(CHAT, seq, b"frame", (ALICE, BOB, CAROL)))
        fanout.flush()
        await fanout.wait_idle()
    for node, told in ((THERE, [{BOB, CAROL}, {BOB, CAROL}, {CAROL}, {CAROL}]), (ELSEWHERE, [{BOB}] * 3)):
        entries = await _entries(redis, node)
        seqs = range(5 - len(told), 5)
        assert [(push.seq, set(push.users)) for [push] in entries] == list(zip(seqs, told, strict=True))


async def test_alone_nothing_is_looked_up_or_written(redis: Redis, nursery: trio.Nursery) -> None:
    await _nodes(redis)
    fanout = Fanout(redis, HERE, lambda: True)
    fanout.send(AddressedPush(CHAT, 1, b"first", (ALICE, BOB)))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    assert await _entries(redis, THERE) == []


async def test_the_fanout_remembers_pushes_that_it_cannot_write_as_missed(nursery: trio.Nursery) -> None:
    """Without Redis the fan-out drops the pushes, and remembers to ask the other nodes to catch up."""
    fanout = Fanout(Redis("redis://127.0.0.1:1/0"), HERE, lambda: False)
    fanout.send(AddressedPush(CHAT, 1, b"first", (BOB,)))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    assert fanout.missed_since is not None


@pytest.mark.parametrize("refused_by", ["address_pushes", "publish"])
async def test_the_request_to_catch_up_reaches_back_to_the_oldest_push_that_redis_refused(
    mock_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, refused_by: str
) -> None:
    """Pushes may wait for long before Redis refuses them; an ephemeral push is not missed."""
    written: list[tuple[bytes, bytes]] = []

    async def address(_: Redis, pushes: list[AddressedPush], **_options: object) -> list[tuple[bytes, bytes]]:
        return [(THERE, encode_pushes([(push, [BOB])])) for push in pushes]

    async def take(_: Redis, entries: list[tuple[bytes, bytes]]) -> list[bytes]:
        written.extend(entries)
        return []

    async def refuse(*_: Any, **__: Any) -> list[Any]:
        raise Unavailable("Redis", "", "gone for a moment")

    fakes: dict[str, Callable[..., Any]] = {"address_pushes": address, "publish": take, refused_by: refuse}
    for name, fake in fakes.items():
        monkeypatch.setattr(fanout_module, name, fake)
    fanout = Fanout(Redis("redis://127.0.0.1:1/0"), HERE, lambda: False)
    typing = AddressedPush(CHAT, 0, b"typing", (BOB,), key=b"typing")
    for push in (typing, AddressedPush(CHAT, 1, b"first", (BOB,)), AddressedPush(CHAT, 2, b"second", (BOB,))):
        fanout.send(push)
        mock_clock.jump(20)
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    monkeypatch.setattr(fanout_module, "publish", take)
    await fanout.tell_missed([THERE])
    [(node, entry)] = written
    assert (node, list(decode_entry(entry))) == (THERE, [CatchUpRequest(40.0)])


async def test_pushes_for_which_there_is_no_room_are_missed_since_they_came(mock_clock: MockClock) -> None:
    fanout = Fanout(Redis("redis://127.0.0.1:1/0"), HERE, lambda: False)
    for _ in range(MAX_WAITING):
        fanout.send(AddressedPush(CHAT, 1, b"first", (BOB,)))
    assert fanout.missed_since is None
    mock_clock.jump(20)
    fanout.send(AddressedPush(CHAT, 2, b"second", (BOB,)))
    mock_clock.jump(20)
    fanout.send(AddressedPush(CHAT, 3, b"third", (BOB,)))
    assert fanout.missed_since == trio.current_time() - 20


def test_a_request_to_catch_up_survives_the_stream() -> None:
    assert list(decode_entry(encode_catch_up_request(2.5))) == [CatchUpRequest(2.5)]


async def test_a_batch_is_bounded_in_bytes(redis: Redis, nursery: trio.Nursery) -> None:
    """The fan-out spreads large frames over several entries, in order."""
    await _nodes(redis)
    fanout = Fanout(redis, HERE, lambda: False)
    frame = os.urandom(200_000)
    for seq in range(1, 8):
        fanout.send(AddressedPush(CHAT, seq, frame, (BOB,)))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await fanout.wait_idle()
    entries = await _entries(redis, THERE)
    assert [[push.seq for push in entry] for entry in entries] == [[1, 2, 3], [4, 5, 6], [7]]
