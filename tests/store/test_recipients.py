"""The recipients of a message: all users who took part when it was sent, also if users join, leave and come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import Departed, Message, Tombstone
from store import contacts, conversations, marks, messages, participant_lists, participants, retention, revisions
from store.errors import NotTheSender
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache, changed_since
from store.postgres.pool import Pool
from store.sync import sync, take_cursor_snapshot
from tests.ageing import age
from tests.people import make_contacts, new_direct, new_group, new_user
from tests.store.store_world import MORE_EXAMPLES, a_message, catch_up

NAMES = ("alice", "bob", "carol", "dave")

steps = st.lists(
    st.tuples(st.sampled_from(["send", "send", "mark", "toggle", "toggle", "show"]), st.integers(1, 3), st.booleans()),
    max_size=25,
)


class GroupReceipts:
    """A group whose administrator is alice; for each of her messages, the receipts that follow from the operations."""

    def __init__(self, pool: Pool, people: list[Credentials], group: bytes) -> None:
        self.pool = pool
        self.users = [each.user for each in people]
        self.group = group
        self.inside = {0, 1, 2}
        self.shows_all = False
        self.recipients: dict[int, set[int]] = {}
        self.delivered: dict[int, set[int]] = {}
        self.read: dict[int, set[int]] = {}
        self.last = 0
        self.since: dict[int, int] = {}
        self.device = Mailbox(self.users[0])

    async def do(self, what: str, who: int, is_so: bool) -> None:
        user = self.users[who]
        match what:
            case "send":
                sender = who if is_so and who in self.inside else 0
                [sent] = await send(self.pool, ParticipantsCache(), [a_message(self.group, self.users[sender])])
                assert isinstance(sent, Committed)
                self.last = sent.seq
                self._came(sender, sent.seq, is_read=True)
                if sender == 0:
                    self.recipients[sent.seq] = self.inside - {0}
                    self.delivered[sent.seq] = set()
                    self.read[sent.seq] = set()
            case "mark":
                await mark(self.pool, [[Mark(user, self.group, self.last, self.last if is_so else 0)]])
                if who in self.inside:
                    self._came(who, self.last, is_read=is_so)
            case "toggle":
                change = participants.remove if who in self.inside else participants.add
                await change(self.pool, self.users[0], self.group, user)
                self.inside ^= {who}
                self.since[who] = self.last
            case "show":
                self.shows_all = not self.shows_all
                await participants.change_settings(self.pool, self.users[0], self.group, joiners_see_all=self.shows_all)

    def _came(self, who: int, seq: int, *, is_read: bool) -> None:
        """A recipient has received messages of the current stay up to here; those of former stays are settled."""
        for each in range(self.since.get(who, 0) + 1, seq + 1):
            if who in self.recipients.get(each, ()):
                self.delivered[each].add(who)
                if is_read:
                    self.read[each].add(who)

    async def check(self) -> None:
        fresh = Mailbox(self.users[0])
        for device in (fresh, self.device):
            await catch_up(self.pool, device)
        for seq, recipients in self.recipients.items():
            found = await marks.message_status(self.pool, self.users[0], self.group, seq)
            assert {user for user, *_ in found.receipts} == {self.users[each] for each in recipients}
            delivered = {user for user, delivered, _ in found.receipts if delivered >= seq}
            read = {user for user, _, read in found.receipts if read >= seq}
            assert delivered == {self.users[each] for each in self.delivered[seq]}
            assert read == {self.users[each] for each in self.read[seq]}
            counts = await marks.receipt_counts(self.pool, self.group, after=seq - 1, upto=seq, limit=1)
            assert counts.get(self.users[0], []) == (
                [(seq, len(delivered), len(read), len(recipients))] if recipients else []
            )
            word = "sent"
            if recipients and len(delivered) == len(recipients):
                word = "read" if len(read) == len(recipients) else "delivered"
            message = Message(self.group, seq, b"m" * 16, 1, self.users[0], "text", b"", None, None)
            assert [each.status(message) for each in (fresh, self.device)] == [word] * 2


@settings(max_examples=12 + MORE_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_the_status_of_a_message_neither_falls_nor_rises_by_who_comes_and_goes(
    database_url: str, steps: list[tuple[str, int, bool]]
) -> None:
    with pool_of(database_url) as pool:
        people = [await new_user(pool, f"{name}{next(_numbers)}") for name in NAMES]
        await make_contacts(pool, people[0], people[3])
        receipts = GroupReceipts(pool, people, await new_group(pool, *people[:3]))
        for step in steps:
            await receipts.do(*step)
            if step[0] in ("toggle", "mark"):
                await receipts.check()
        await receipts.check()


_numbers: Iterator[int] = iter(range(10**9))


@contextmanager
def pool_of(url: str) -> Iterator[Pool]:
    pool = Pool(url, 2)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
async def people(pool: Pool) -> list[Credentials]:
    return [await new_user(pool, name) for name in NAMES]


async def say(pool: Pool, group: bytes, who: Credentials, count: int = 1) -> None:
    await send(pool, ParticipantsCache(), [a_message(group, who.user) for _ in range(count)])


async def test_a_joiner_of_a_group_that_shows_its_history_has_received_none_of_it(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol, _ = people
    group = await new_group(pool, alice, bob)
    await participants.change_settings(pool, alice.user, group, joiners_see_all=True)
    await say(pool, group, alice)
    await participants.add(pool, alice.user, group, carol.user)
    for asker in (alice, carol):
        assert (await marks.message_status(pool, asker.user, group, 1)).receipts == [(bob.user, 0, 0)]


async def test_a_device_that_comes_back_can_show_who_removed_whom_and_who_was_added_by_whom(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol, dave = people
    group = await new_group(pool, alice, bob, carol)
    devices = {each.user: Mailbox(each.user) for each in (alice, bob, carol)}
    for device in devices.values():
        await catch_up(pool, device)
    await participants.remove(pool, alice.user, group, carol.user)
    await participants.add(pool, alice.user, group, dave.user)
    await participants.change_settings(pool, alice.user, group, name="Other")
    device = devices[bob.user]
    await catch_up(pool, device)
    assert [(each.user, each.actor) for each in device.former(group)] == [(carol.user, alice.user)]
    assert {each.user: each.actor for each in device.participants(group)}[dave.user] == alice.user
    head = device.head(group)
    assert head is not None
    assert head.actor == alice.user
    [departed] = (await sync(pool, carol.user, devices[carol.user].cursor)).pushes
    [stay] = getattr(departed, "former", None) or ()
    assert (stay.user, stay.actor) == (carol.user, alice.user)


async def test_a_joiner_learns_nothing_of_former_stays_that_ended_before(pool: Pool, people: list[Credentials]) -> None:
    """Unless they may read messages from that time."""
    alice, bob, carol, _ = people
    for shows_all in (False, True):
        group = await new_group(pool, alice, bob)
        await participants.change_settings(pool, alice.user, group, joiners_see_all=shows_all)
        await say(pool, group, alice)
        await participants.remove(pool, bob.user, group, bob.user)
        await participants.add(pool, alice.user, group, carol.user)
        former = (await conversations.one(pool, carol.user, group)).former
        assert [each.user for each in former or ()] == ([bob.user] if shows_all else [])


async def test_stays_go_with_the_messages_of_their_time(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, *_ = people
    group = await new_group(pool, alice, bob)
    for _ in range(3):
        await say(pool, group, alice)
        await participants.remove(pool, bob.user, group, bob.user)
        await participants.add(pool, alice.user, group, bob.user)
    assert await pool.fetch("select since_seq, left_seq from stays order by left_seq") == [(0, 1), (1, 2), (2, 3)]
    await age(pool, group, upto=2)
    await retention.move_floors(pool, days=50, archives=False, limit=9)
    await retention.note_announced(pool, [group])
    await retention.clear(pool, group, limit=9)
    assert await pool.fetch("select since_seq, left_seq from stays") == [(2, 3)]


async def test_an_administrator_deletes_others_messages_and_the_tombstone_says_so(
    pool: Pool, people: list[Credentials]
) -> None:
    """Not to users who had deleted it for themselves before; other users may not, and the sender needs no name."""
    alice, bob, carol, dave = people
    group = await new_group(pool, alice, bob, carol, dave)
    devices = {each.user: Mailbox(each.user) for each in (carol, dave)}
    for device in devices.values():
        await catch_up(pool, device)
    await say(pool, group, bob, 2)
    with pytest.raises(NotTheSender):
        await revisions.delete_for_everyone(pool, carol.user, group, 1)
    await revisions.delete_for_me(pool, dave.user, group, 1)
    change = await revisions.delete_for_everyone(pool, alice.user, group, 1)
    assert isinstance(change.message, Tombstone)
    assert (change.is_new, change.message.actor) == (True, alice.user)
    assert set(change.participants) == {alice.user, bob.user, carol.user}
    for who, actor in ((alice, alice.user), (bob, alice.user), (dave, None)):
        again = await revisions.delete_for_everyone(pool, alice.user, group, 1) if who is alice else None
        for message in (again.message if again else None, *await shown_to(pool, who.user, group)):
            assert message is None or getattr(message, "actor", None) == (actor if message.seq == 1 else None)
    change = await revisions.delete_for_everyone(pool, bob.user, group, 2)
    assert getattr(change.message, "actor", None) is None
    for device in devices.values():
        await catch_up(pool, device)
        assert list(device.messages(group)) == [*await shown_to(pool, device.user, group)]


async def shown_to(pool: Pool, user: bytes, group: bytes) -> list[Any]:
    page = await messages.history(pool, user, group, limit=9, after=0)
    around = await messages.history_around(pool, user, group, around=2, limit=9)
    last = (await conversations.one(pool, user, group)).last_message
    assert around.messages == page.messages
    assert page.messages[-1] == last
    return page.messages


Come = Callable[[Pool, Credentials, Credentials, bytes], Awaitable[None]]


async def _is_removed(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await participants.remove(pool, alice.user, group, bob.user)


async def _leaves(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await participants.remove(pool, bob.user, group, bob.user)


async def _declines(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await participants.decline(pool, bob.user, group)


async def _is_added(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await participants.add(pool, alice.user, group, bob.user)


async def _knows(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await contacts.add(pool, bob.user, alice.user)


async def _forgets(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await contacts.remove(pool, bob.user, alice.user)


async def _blocks(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)


async def _unblocks(pool: Pool, alice: Credentials, bob: Credentials, group: bytes) -> None:
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=False)


# Bob's ways: he has got the first two messages; alice writes before each step and after the last.
COMINGS: dict[str, tuple[tuple[Come, bool], ...]] = {
    "a stranger brings back a user who has left": ((_leaves, True), (_forgets, False), (_is_added, False)),
    "and removes them, and a contact brings them back": (
        *(
            (_leaves, True),
            (_forgets, False),
            (_is_added, False),
            (_is_removed, True),
            (_knows, False),
            (_is_added, False),
        ),
    ),
    "a contact brings back a user who was withheld": (
        *((_leaves, True), (_forgets, False), (_is_added, False), (_knows, False), (_is_added, False)),
    ),
    "a user who has declined is removed and comes back": (
        *((_is_removed, True), (_forgets, False), (_is_added, False), (_declines, False), (_is_removed, True)),
        *((_knows, False), (_is_added, False)),
    ),
    "the same, brought back by a stranger twice": (
        *((_is_removed, True), (_forgets, False), (_is_added, False), (_declines, False), (_is_removed, True)),
        *((_is_added, False), (_is_removed, True), (_is_added, False)),
    ),
    "a blocked user brings back the blocker": (
        *((_is_removed, True), (_blocks, False), (_is_added, False), (_is_removed, True), (_unblocks, False)),
        *((_is_added, False),),
    ),
    "a user blocks whose request it is": (
        *((_is_removed, True), (_forgets, False), (_is_added, False), (_blocks, False), (_is_removed, True)),
        *((_unblocks, False), (_is_added, False)),
    ),
}


@pytest.mark.parametrize("name", COMINGS)
async def test_a_user_is_a_recipient_once_with_marks_that_never_fall_whoever_is_withheld_meanwhile(
    pool: Pool, people: list[Credentials], name: str
) -> None:
    alice, bob, *_ = people
    group = await new_group(pool, alice, bob)
    device = Mailbox(alice.user)
    await say(pool, group, alice, 2)
    await mark(pool, [[Mark(bob.user, group, 2, 1)]])
    recipients: list[int] = [1, 1]
    takes_part = True
    for come, ends in COMINGS[name]:
        await catch_up(pool, device)
        await come(pool, alice, bob, group)
        takes_part = not ends and (takes_part or come is _is_added)
        await say(pool, group, alice)
        recipients.append(int(takes_part))
        counts = await marks.receipt_counts(pool, group, after=0, upto=99, limit=99)
        told = {seq: (delivered, read, size) for seq, delivered, read, size in counts.get(alice.user, ())}
        for seq, expected in enumerate(recipients, 1):
            status = await marks.message_status(pool, alice.user, group, seq)
            assert [user for user, *_ in status.receipts] == [bob.user] * expected, seq
            assert told.get(seq, (0, 0, 0)) == (int(seq <= 2) * expected, int(seq == 1) * expected, expected), seq
        former = (await conversations.one(pool, alice.user, group)).former or ()
        assert len({(each.user, each.since_seq, each.left_seq) for each in former}) == len(former)
        shown = await conversations.participant(pool, group, bob.user)
        assert shown is None or (shown.delivered_seq, shown.read_seq) == (2, 1)
    fresh = Mailbox(alice.user)
    for each in (device, fresh):
        await catch_up(pool, each)
    assert device.participants(group) == fresh.participants(group)
    for message in device.messages(group):
        assert device.status(message) == fresh.status(message)


async def test_a_stay_without_messages_takes_the_place_of_no_other(pool: Pool, people: list[Credentials]) -> None:
    """Bob leaves, comes back, and leaves again without a message in between: two stays that end with the same one."""
    alice, bob, *_ = people
    group = await new_group(pool, alice, bob)
    await say(pool, group, alice)
    device = Mailbox(alice.user)
    await catch_up(pool, device)
    for change in (participants.remove, participants.add, participants.remove):
        changed = await change(pool, alice.user, group, bob.user)
        if changed.stay is not None:
            device.take(Departed(group, [bob.user], changed.version, None, [changed.stay]))
        else:
            device.learn(await conversations.one(pool, alice.user, group))
    await mark(pool, [[Mark(bob.user, group, 1, 1)]])
    assert (await marks.message_status(pool, alice.user, group, 1)).receipts == [(bob.user, 0, 0)]
    [message] = device.messages(group)
    assert device.status(message) == "sent"
    assert {(each.since_seq, each.left_seq) for each in device.former(group)} == {(0, 1), (1, 1)}


@pytest.mark.parametrize("most", [2, 3])
async def test_a_node_that_looks_for_marks_counts_participants_who_are_withheld(
    pool: Pool, people: list[Credentials], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Alice and bob take part, and carol has declined: of three, marks are told only where three are shown."""
    monkeypatch.setattr(participant_lists, "MAX_SHOWN", most)
    alice, bob, carol, _ = people
    await make_contacts(pool, alice, bob)
    group = await conversations.add_group(pool, "Group", [each.user for each in (alice, bob, carol)], admin=alice.user)
    await participants.decline(pool, carol.user, group)
    await say(pool, group, alice)
    base = str((await take_cursor_snapshot(pool)).snapshot)
    await mark(pool, [[Mark(bob.user, group, 1, 1)]])
    [changed] = await changed_since(pool, [alice.user], base)
    assert changed.marks == ([(bob.user, 1, 1, 1, None)] if most == 3 else [])
    assert changed.counted_upto == (None if most == 3 else 1)


async def test_a_node_that_looks_for_floors_tells_a_blocked_user_of_their_own_settings(
    pool: Pool, people: list[Credentials]
) -> None:
    """By the conversation as each user sees it: alice lets messages disappear for herself alone."""
    alice, bob, *_ = people
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice, 2)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    await participants.change_settings(pool, alice.user, talk, lifetime_s=3600)
    base = str((await take_cursor_snapshot(pool)).snapshot)
    await age(pool, talk, upto=1)
    await retention.move_floors(pool, days=50, archives=False, limit=9)
    [changed] = await changed_since(pool, [alice.user, bob.user], base)
    assert changed.is_other


async def test_receipts_are_the_same_on_a_device_that_never_got_a_message_deleted_for_its_user(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, *_ = people
    talk = await new_direct(pool, alice, bob)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    await participants.change_settings(pool, alice.user, talk, lifetime_s=3600)
    device, fresh = Mailbox(alice.user), Mailbox(alice.user)
    await catch_up(pool, device)
    for who in (bob, alice):
        await say(pool, talk, who)
    await age(pool, talk)
    await retention.move_floors(pool, days=0, archives=False, limit=9)
    for each in (device, fresh):
        await catch_up(pool, each)
    assert device.participants(talk) == fresh.participants(talk)
    assert device.head(talk) == fresh.head(talk)
    assert {each.user: each.read_seq for each in fresh.participants(talk)} == {alice.user: 2, bob.user: 1}
