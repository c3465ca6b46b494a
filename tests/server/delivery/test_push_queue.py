"""One user's pushes wait behind themselves: here, in the queue for other nodes, and when too many wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from protocol.codec import decode_from_server, encode
from protocol.frames import Lag, Message
from server.delivery import fanout as fanout_module
from server.delivery import hub as hub_module
from server.delivery.fanout import Fanout
from server.delivery.hub import Hub
from server.delivery.push_queue import PushQueue
from store.redis.client import Redis
from store.redis.entries import AddressedPush, decode_entry
from tests.server.delivery.test_hub import HubClient
from tests.server.sockets import Ends
from tests.waiting import wait_until

ABUSER, ALICE, BOB = b"x" * 16, b"a" * 16, b"b" * 16
CROWD, TALK = b"g" * 16, b"t" * 16


def a_push(cause: bytes, conversation: bytes, seq: int, *users: bytes, size: int = 1) -> AddressedPush:
    return AddressedPush(conversation, seq, b"%d" % seq + bytes(size), users or (BOB,), cause=cause)


def taken(queue: PushQueue, most: int = 100, cost: int = 10**9) -> list[tuple[bytes, int]]:
    return [(waiting.push.cause, waiting.push.seq) for waiting in queue.take(most, cost)]


def test_pushes_of_several_causes_take_turns_and_those_of_one_keep_their_order() -> None:
    queue = PushQueue(1)
    for seq in range(100):
        queue.put(a_push(ABUSER, bytes([seq]) * 16, seq), 1, 0.0)
    queue.put(a_push(ALICE, TALK, 1), 1, 0.0)
    assert taken(queue, 3) == [(ABUSER, 0), (ALICE, 1), (ABUSER, 1)]
    assert taken(queue) == [(ABUSER, seq) for seq in range(2, 100)]
    assert not queue


def test_a_line_of_large_pushes_has_fewer_turns() -> None:
    queue = PushQueue(1)
    for seq in range(3):
        queue.put(a_push(ABUSER, CROWD, seq), 10, 0.0)
    for seq in range(20):
        queue.put(a_push(ALICE, TALK, seq), 1, 0.0)
    order = [cause for cause, _ in taken(queue)]
    assert order.index(ABUSER) == 9, "ten turns, in each of which it saves 1"
    assert order[-1] == ABUSER


def test_pushes_of_one_conversation_stay_in_order_whoever_causes_them() -> None:
    queue = PushQueue(1)
    for seq in range(5):
        queue.put(a_push(ABUSER, CROWD, seq), 1, 0.0)
    answer = a_push(ALICE, CROWD, 5)
    assert queue.must_follow(answer)
    assert not queue.must_follow(a_push(ALICE, TALK, 1))
    queue.put(answer, 1, 0.0)
    assert [seq for _, seq in taken(queue)] == [0, 1, 2, 3, 4, 5]


def test_no_more_is_taken_than_a_turn_may_cost() -> None:
    queue = PushQueue(1)
    for seq in range(5):
        queue.put(a_push(ABUSER, CROWD, seq), 10, float(seq))
    assert len(queue.take(100, 20)) == 2
    assert (len(queue), queue.cost, queue.oldest_at()) == (3, 30, 2.0)
    assert [waiting.push.seq for waiting in queue.drop_longest()] == [2, 3, 4]
    assert (len(queue), queue.cost, queue.oldest_at()) == (0, 0, None)


@pytest.fixture
def devices() -> Iterator[list[HubClient]]:
    devices = [HubClient(ALICE, Ends(None)), HubClient(BOB, Ends(None))]
    yield devices
    for device in devices:
        device.ends.close()


def entered(devices: list[HubClient]) -> Hub:
    hub = Hub()
    for device in devices:
        hub.add(device)
    return hub


async def test_a_flood_of_one_user_is_delivered_in_turns_with_what_others_cause(
    devices: list[HubClient], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's push goes past the flood. All pushes of the flood come, in order."""
    monkeypatch.setattr(hub_module, "TURN_COST", 10)
    hub = entered(devices)
    _, bob = devices
    for seq in range(1, 101):
        hub.push(a_push(ABUSER, CROWD, seq))
    hub.flush()
    assert b"".join(bob.messages()).count(b"\0") == 10, "the first turn goes straight to the connections"
    hub.push(a_push(ALICE, TALK, 7))
    hub.flush()
    assert bob.messages() == [b"7\0"], "others do not wait for the flood"
    hub.push(a_push(ALICE, CROWD, 101))
    hub.flush()
    assert bob.messages() == [], "a push of the flooded conversation follows the earlier ones"
    turns = 0
    nursery.start_soon(hub.run)
    while hub.statistics().waiting:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 9, "the other tasks run after each turn of the flood"
    await hub.wait_pushed()
    assert b"".join(bob.messages()) == b"".join(b"%d\0" % seq for seq in range(11, 102))


async def test_a_usual_push_goes_straight_to_its_connections(devices: list[HubClient]) -> None:
    """No task has to run in between: the hub's `run` is not even started."""
    hub = entered(devices)
    _, bob = devices
    for seq in range(1, 11):
        hub.push(a_push(ALICE, TALK, seq))
        hub.flush()
        assert bob.messages() == [b"%d\0" % seq]
    assert hub.statistics().waiting == 0


async def test_when_too_much_waits_the_greatest_line_is_dropped_and_its_recipients_are_told(
    devices: list[HubClient], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "TURN_COST", 1)
    monkeypatch.setattr(hub_module, "MAX_WAITING_COST", 50)
    hub = entered(devices)
    alice, bob = devices
    message = encode(Message(CROWD, 1, b"m" * 16, 1, ABUSER, "text", b"x", None, None))
    for seq in range(1, 52):
        hub.push(AddressedPush(CROWD, seq, message, (BOB,), cause=ABUSER))
        if seq == 20:
            hub.push(a_push(BOB, TALK, 1, ALICE))
    assert hub.statistics().waiting == 1, "the other user's push is kept"
    nursery.start_soon(hub.run)
    await hub.wait_pushed()
    assert alice.messages() == [b"1\0"]
    [frames] = [list(decode_from_server(each)) for each in bob.messages()]
    assert Lag([(CROWD, 1)]) in frames
    assert bob.outbox.is_lagging
    assert hub.has_pushed(CROWD, 51), "messages that clients fetch do not hold up later ones"


async def test_a_push_that_waits_for_long_keeps_cursors_where_they_are(
    devices: list[HubClient], mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "TURN_COST", 1)
    hub = entered(devices)
    for seq in (1, 2):
        hub.push(a_push(ABUSER, CROWD, seq))
    assert not hub.is_behind
    mock_clock.jump(hub_module.BEHIND_S + 1)
    assert hub.is_behind


async def test_pushes_for_other_nodes_take_turns_too(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[AddressedPush]] = []

    async def address(_: object, pushes: list[AddressedPush], **_options: object) -> list[tuple[bytes, bytes]]:
        written.append(pushes)
        return []

    async def address_nothing(*_: object, **__: object) -> list[tuple[bytes, bytes]]:
        return []

    monkeypatch.setattr(fanout_module, "address_pushes", address)
    monkeypatch.setattr(fanout_module, "address_presence_rechecks", address_nothing)
    monkeypatch.setattr(fanout_module, "MAX_BATCH", 4)
    fanout = Fanout(Redis("redis://127.0.0.1:1/0"), b"node-aaa", lambda: False)
    for seq in range(1, 101):
        fanout.send(a_push(ABUSER, CROWD, seq))
    fanout.send(a_push(ALICE, TALK, 1))
    fanout.flush()
    nursery.start_soon(fanout.run)
    await wait_until(lambda: sum(map(len, written)) == 101, "all are written")
    assert (TALK, 1) in [(push.conversation, push.seq) for push in written[0]]
    assert [push.seq for batch in written for push in batch if push.conversation == CROWD] == list(range(1, 101))


def test_the_nodes_tell_each_other_who_caused_a_push() -> None:
    from store.redis.entries import encode_pushes

    push = AddressedPush(TALK, 1, b"frame", (BOB,), cause=ALICE, temp_id=b"i" * 16)
    [here] = decode_entry(encode_pushes([(push, [BOB])]))
    [of_sender] = decode_entry(encode_pushes([(push, [ALICE, BOB])]))
    assert here == push._replace(users=[BOB], temp_id=None)
    assert of_sender == push._replace(users=[ALICE, BOB])
