"""Pushes to the connections of this node: their recipients, their order, and connections that end in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from trio.testing import MockClock

from server.delivery.hub import Hub
from server.delivery.sequencer import PATIENCE_S
from server.transport.outbox import MAX_BYTES, Outbox
from store.redis.entries import AddressedPush
from tests.server.sockets import Ends
from tests.waiting import let_pass

ALICE, BOB, CAROL = b"a" * 16, b"b" * 16, b"c" * 16
TALK = b"t" * 16


@dataclass(eq=False)
class HubClient:
    """A client of the hub, on one end of a socket pair."""

    user: bytes
    ends: Ends
    registered_at: float = 0.0

    @property
    def outbox(self) -> Outbox:
        return self.ends.outbox

    def messages(self) -> list[bytes]:
        """The frames that arrived at the other end, one item for each WebSocket message."""
        return self.ends.peer.messages_nowait()


class HubWithClients:
    """A hub and devices; the fixture closes them in the end."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.devices: list[HubClient] = []

    def enter(self, user: bytes) -> HubClient:
        device = HubClient(user, Ends(None))
        self.devices.append(device)
        self.hub.add(device)
        return device

    def push(self, seq: int, *users: bytes, origin: HubClient | None = None) -> None:
        self.hub.push(AddressedPush(TALK, seq, b"<%d>" % seq, users, origin))


@pytest.fixture
def room() -> Iterator[HubWithClients]:
    room = HubWithClients()
    yield room
    for device in room.devices:
        device.ends.close()


async def test_all_devices_of_all_participants_get_a_push_but_not_its_origin(room: HubWithClients) -> None:
    phone, laptop, bob, carol = (room.enter(user) for user in (ALICE, ALICE, BOB, CAROL))
    room.push(1, ALICE, BOB, origin=phone)
    room.hub.flush()
    assert [device.messages() for device in (phone, laptop, bob, carol)] == [[], [b"<1>"], [b"<1>"], []]


async def test_a_pass_is_one_system_call_for_each_connection(room: HubWithClients) -> None:
    """Replies and pushes to one connection, of several conversations, leave together, in the order offered."""
    alice, bob = room.enter(ALICE), room.enter(BOB)
    for number in range(50):
        room.hub.offer(alice, b"[%d]" % number)
        room.hub.push(
            AddressedPush(bytes([number]) * 16, 1, b"<%d>" % number, (ALICE, BOB), alice if number % 2 else None)
        )
    assert (alice.ends.sock.sends, bob.ends.sock.sends) == (0, 0)
    room.hub.flush()
    room.hub.flush()
    assert (alice.ends.sock.sends, bob.ends.sock.sends) == (1, 1)
    expected = b"".join(b"[%d]" % n + (b"" if n % 2 else b"<%d>" % n) for n in range(50))
    assert alice.messages() == [expected]
    assert bob.messages() == [b"".join(b"<%d>" % n for n in range(50))]


async def test_a_connection_that_goes_between_push_and_flush_harms_no_other_connection(room: HubWithClients) -> None:
    alice, bob = room.enter(ALICE), room.enter(BOB)
    room.push(1, ALICE, BOB)
    assert room.hub.remove(alice) is True
    alice.outbox.cut("closed")
    alice.ends.ours.close()
    room.hub.flush()
    assert bob.messages() == [b"<1>"]
    room.push(2, ALICE, BOB)
    room.hub.flush()
    assert bob.messages() == [b"<2>"]


async def test_a_connection_that_ends_in_the_middle_of_a_flush_harms_no_other_connection(room: HubWithClients) -> None:
    """The hub flushes a full outbox inside its loop over the connections of a push, and finds that the peer is gone."""
    first, second, bob = room.enter(ALICE), room.enter(ALICE), room.enter(BOB)

    def leave() -> None:
        room.hub.remove(first)

    first.ends.on_cut = leave
    first.outbox.offer(bytes(MAX_BYTES))
    first.ends.ours.close()
    room.push(1, ALICE, BOB)
    room.push(2, ALICE, BOB)
    room.hub.flush()
    assert first.outbox.cut_reason == "connection_lost"
    assert [device.messages() for device in (second, bob)] == [[b"<1><2>"], [b"<1><2>"]]
    assert room.hub.statistics().connections == 2


async def test_the_first_and_the_last_device_of_a_user_are_told_apart(room: HubWithClients) -> None:
    """The directory lists the user from the first device to the last."""
    hub = room.hub
    phone = room.enter(ALICE)
    laptop = HubClient(ALICE, Ends(None))
    room.devices.append(laptop)
    assert hub.add(laptop) is False
    assert hub.remove(phone) is False
    assert hub.holds(ALICE)
    assert hub.remove(laptop) is True
    assert not hub.holds(ALICE)
    assert hub.users() == []
    assert hub.add(phone) is True


async def test_pushes_are_in_order_and_what_is_missing_is_waited_for(
    room: HubWithClients, autojump_clock: MockClock
) -> None:
    bob = room.enter(BOB)
    for seq in (1, 3, 4):
        room.push(seq, BOB)
    room.hub.flush()
    assert bob.messages() == [b"<1>"]
    assert room.hub.gap_seen.is_set()
    room.push(2, BOB)
    room.hub.flush()
    assert bob.messages() == [b"<2><3><4>"]
    assert room.hub.gaps_due() == []
    assert not room.hub.gap_seen.is_set()


async def test_a_hole_that_cannot_be_filled_is_skipped(room: HubWithClients, autojump_clock: MockClock) -> None:
    bob = room.enter(BOB)
    for seq in (1, 3):
        room.push(seq, BOB)
    await let_pass(PATIENCE_S, why="the hub's patience with a hole")
    [gap] = room.hub.gaps_due()
    assert (gap.after, gap.before) == (1, 3)
    room.hub.skip(gap)
    room.hub.flush()
    assert bob.messages() == [b"<1><3>"]


async def test_a_participant_that_connects_after_the_last_message_waits_for_no_earlier_ones(
    room: HubWithClients, autojump_clock: MockClock
) -> None:
    """No participant was connected here when the earlier messages were sent, so they leave no gap."""
    bob = room.enter(BOB)
    room.push(1, BOB)
    room.hub.flush()
    room.hub.remove(bob)
    await let_pass(1, why="bob is away")
    again = room.enter(BOB)
    room.push(7, BOB)
    room.hub.flush()
    assert again.messages() == [b"<7>"]
    assert bob.messages() == [b"<1>"]


async def test_one_who_was_here_all_the_time_is_waited_for_with(
    room: HubWithClients, autojump_clock: MockClock
) -> None:
    """One of two recipients connected later. The other may have missed a message, so both wait for it."""
    bob = room.enter(BOB)
    room.push(1, BOB, CAROL)
    await let_pass(1, why="carol comes later")
    carol = room.enter(CAROL)
    room.push(3, BOB, CAROL)
    room.hub.flush()
    assert carol.messages() == []
    room.push(2, BOB, CAROL)
    room.hub.flush()
    assert bob.messages() == [b"<1>", b"<2><3>"]
    assert carol.messages() == [b"<2><3>"]


async def test_the_origin_of_a_held_push_is_still_left_out(room: HubWithClients) -> None:
    """The origin gets the ack. The sequencer may hand on the push much later, when another message comes."""
    alice, bob = room.enter(ALICE), room.enter(BOB)
    room.push(1, ALICE, BOB)
    room.push(3, ALICE, BOB, origin=alice)
    room.push(2, ALICE, BOB)
    room.hub.flush()
    assert alice.messages() == [b"<1><2>"]
    assert bob.messages() == [b"<1><2><3>"]


async def test_duplicates_are_pushed_once(room: HubWithClients) -> None:
    """The same message comes by the bus and from Postgres, when the node catches up."""
    bob = room.enter(BOB)
    for seq in (1, 2, 1, 2, 3, 2):
        room.push(seq, BOB)
    room.hub.flush()
    assert bob.messages() == [b"<1><2><3>"]


async def test_the_hub_follows_no_conversation_without_connected_participants(room: HubWithClients) -> None:
    """A conversation without participants here takes no memory; its order begins when a participant connects."""
    room.push(1, BOB)
    room.push(9, BOB)
    assert room.hub.span(TALK) is None
    bob = room.enter(BOB)
    room.push(12, BOB)
    room.hub.flush()
    assert bob.messages() == [b"<12>"]
