"""Entries go to the nodes that hold, or watch, the users concerned, and to no others."""

from __future__ import annotations

import pytest
import trio

from store.redis.addressing import address_presence_hints, address_presence_rechecks, address_pushes, group_by_node
from store.redis.client import Redis
from store.redis.directory import beat, enter, enter_watchers
from store.redis.entries import AddressedPush, PresenceHint, PresenceRecheck, decode_entry

HERE, THERE, ELSEWHERE = b"node-aaa", b"node-bbb", b"node-ccc"
ALICE, BOB, CAROL = (name * 16 for name in (b"a", b"b", b"c"))
CHAT = b"t" * 16


@pytest.fixture
async def redis(redis_url: str, nursery: trio.Nursery) -> Redis:
    """Bob is on two nodes, Carol on one, Alice on none; the same nodes watch them."""
    redis = Redis(redis_url)
    await nursery.start(redis.run)
    await redis.wait_connected()
    for node in (HERE, THERE, ELSEWHERE):
        await beat(redis, node, (0, 0))
    for entered in (enter, enter_watchers):
        await entered(redis, HERE, [BOB])
        await entered(redis, THERE, [BOB, CAROL])
    return redis


def test_a_user_on_several_nodes_is_in_each_group() -> None:
    nodes_of = {ALICE: (), BOB: (HERE, THERE), CAROL: (THERE,)}
    assert group_by_node([ALICE, BOB, CAROL], nodes_of) == {HERE: [BOB], THERE: [BOB, CAROL]}
    assert group_by_node([ALICE, BOB, CAROL], nodes_of, without=THERE) == {HERE: [BOB]}


async def test_each_push_names_the_users_of_the_node_that_gets_it(redis: Redis) -> None:
    pushes = [AddressedPush(CHAT, 1, b"one", [ALICE, BOB, CAROL]), AddressedPush(CHAT, 2, b"two", [CAROL, ALICE])]
    entries = {node: list(decode_entry(entry)) for node, entry in await address_pushes(redis, pushes)}
    assert entries == {
        HERE: [AddressedPush(CHAT, 1, b"one", [BOB])],
        THERE: [AddressedPush(CHAT, 1, b"one", [BOB, CAROL]), AddressedPush(CHAT, 2, b"two", [CAROL])],
    }
    assert [node for node, _ in await address_pushes(redis, pushes, own=THERE)] == [HERE]


async def test_a_sampled_push_has_its_trace_in_the_entry_and_others_pay_nothing_for_it(redis: Redis) -> None:
    trace = bytes(range(24))
    push = AddressedPush(CHAT, 1, b"one", [BOB, CAROL], cause=CAROL, temp_id=b"i" * 16)
    entries = dict(await address_pushes(redis, [push]))
    sampled = dict(await address_pushes(redis, [push._replace(trace=trace)]))
    for node, has_temp_id in ((HERE, False), (THERE, True)):
        [plain], [traced] = decode_entry(entries[node]), decode_entry(sampled[node])
        assert isinstance(plain, AddressedPush)
        assert (plain.trace, plain.temp_id is not None) == (None, has_temp_id)
        assert traced == plain._replace(trace=trace)
        assert len(sampled[node]) - len(entries[node]) <= len(trace) + 4


async def test_presence_goes_to_the_nodes_that_watch(redis: Redis) -> None:
    for address, item in ((address_presence_hints, PresenceHint), (address_presence_rechecks, PresenceRecheck)):
        entries = await address(redis, [ALICE, BOB, CAROL], own=HERE)
        assert [(node, list(decode_entry(entry))) for node, entry in entries] == [(THERE, [item([BOB, CAROL])])]


async def test_nothing_is_written_for_users_who_are_nowhere(redis: Redis) -> None:
    assert await address_pushes(redis, [AddressedPush(CHAT, 1, b"one", [ALICE])]) == []
    assert await address_presence_hints(redis, [ALICE], own=HERE) == []
