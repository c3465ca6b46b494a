"""Unread counts against a query that counts messages, while users send, quietly too, delete, hide, block, leave, come
back and mark at once; and those that devices compute from what `sync` tells them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from client.http import Credentials
from client.mailbox import Mailbox
from store import contacts, conversations, notifiers, outbox, participants, profiles, revisions
from store.errors import Refused
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid, uuids
from store.postgres.pool import Pool
from store.retention import clear, move_floors, note_announced, unannounced, uncleared
from tests.ageing import age
from tests.people import new_direct, new_group, new_user
from tests.store.store_world import MORE_EXAMPLES, a_message, catch_up, is_waiting_for
from tests.waiting import wait_until

COUNTED = """
select p.user_id, p.conversation_id, unread_count(c, p), p.uncounted, (
    select count(*) from messages m
    where m.conversation_id = c.id and m.seq > greatest(p.read_seq, p.private_read_seq, p.since_seq, c.floor_seq)
      and m.sender_id <> p.user_id and m.deleted is null and not m.is_silent and not m.is_quiet and not exists (
          select from hidden h where (h.user_id, h.conversation_id, h.seq) = (p.user_id, c.id, m.seq))
), (
    select count(*) from messages m
    where m.conversation_id = c.id and m.seq > greatest(p.read_seq, p.private_read_seq, p.since_seq, c.floor_seq)
      and not m.is_quiet
)
from participants p join conversations c on c.id = p.conversation_id where c.id = any(%s)
"""
USERS = 3
NODES = 3


@dataclass(frozen=True)
class UnreadOp:
    """One operation of a user in the group (`where` 0) or in the direct conversation of users 0 and 1.

    :ivar back: how far its message is from the last one.
    """

    what: str
    user: int
    where: int
    node: int
    back: int

    @property
    def seq_of_quiet(self) -> int:
        """Which messages of a batch are quiet, as bits."""
        return (0b10101, 0b01110, 0b11111, 0b00001, 0b10000, 0b01000)[self.back]


ops = st.builds(
    UnreadOp,
    st.sampled_from(
        [
            *("send", "send", "batch", "delete", "delete", "hide", "edit", "read", "deliver", "block", "toggle"),
            *("floor", "private", "clear", "quiet", "quiet", "mixed"),
        ]
    ),
    st.integers(0, USERS - 1),
    st.integers(0, 1),
    st.integers(0, NODES - 1),
    st.integers(0, 5),
)
rounds = st.lists(st.lists(ops, min_size=1, max_size=6), min_size=1, max_size=10)


class CountedConversations:
    """A group and a direct conversation, and several nodes that change them."""

    def __init__(self, pools: Sequence[Pool], users: list[bytes], group: bytes, direct: bytes) -> None:
        self.pools = pools
        self.users = users
        self.talks = (group, direct)
        self.last = {group: 0, direct: 0}
        self.inside = set(range(USERS))
        self.blocked = {0: False, 1: False}
        self.devices = [(Mailbox(user), newest) for user in users for newest in (None, 1)]
        """Devices that sync after each round: of each user one that takes all messages, and one that takes the last."""

    async def run_round(self, round_: list[UnreadOp]) -> None:
        toggled: set[int] = set()
        async with trio.open_nursery() as nursery:
            for op in round_:
                if op.what == "toggle":
                    # User 0 is the administrator, and stays.
                    if op.user and op.user not in toggled:
                        toggled.add(op.user)
                        nursery.start_soon(self.toggle, op)
                else:
                    nursery.start_soon(self.do, op)
        self.inside ^= toggled
        await self.check()

    async def toggle(self, op: UnreadOp) -> None:
        change = participants.remove if op.user in self.inside else participants.add
        await change(self.pools[op.node], self.users[0], self.talks[0], self.users[op.user])

    async def do(self, op: UnreadOp) -> None:
        pool, user, talk = self.pools[op.node], self.users[op.user], self.talks[op.where]
        seq = max(self.last[talk] - op.back, 1)
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: self.send(pool, talk, user),
            "batch": lambda: self.send(pool, talk, *self.users, user, self.users[0]),
            "quiet": lambda: self.send(pool, talk, user, quiet=1),
            "mixed": lambda: self.send(pool, talk, *self.users, user, self.users[0], quiet=op.seq_of_quiet),
            "delete": lambda: revisions.delete_for_everyone(pool, user, talk, seq),
            "hide": lambda: revisions.delete_for_me(pool, user, talk, seq),
            "edit": lambda: revisions.edit(pool, user, talk, seq, 0, "text", b"other", None, None),
            "read": lambda: mark(pool, [[Mark(user, talk, seq, seq)]]),
            "deliver": lambda: mark(pool, [[Mark(user, talk, seq)]]),
            "block": lambda: self.block(pool, op.user),
            "private": lambda: profiles.change(
                pool, user, display_name=None, gives_receipts=op.back % 2 == 0, shows_presence=None
            ),
            "floor": lambda: self.move_floor(pool, talk, seq),
            "clear": lambda: self.clear(pool),
        }
        with suppress(Refused):
            await acts[op.what]()

    async def send(self, pool: Pool, talk: bytes, *senders: bytes, quiet: int = 0) -> None:
        """
        :param quiet: the messages whose bits are set are quiet.
        """
        batch = [a_message(talk, sender, is_quiet=bool(quiet >> n & 1)) for n, sender in enumerate(senders)]
        for outcome in await send(pool, ParticipantsCache(), batch):
            if isinstance(outcome, Committed):
                self.last[talk] = max(self.last[talk], outcome.seq)

    async def block(self, pool: Pool, user: int) -> None:
        if user in self.blocked:
            self.blocked[user] = not self.blocked[user]
            await contacts.set_blocked(pool, self.users[user], self.users[1 - user], is_blocked=self.blocked[user])

    async def move_floor(self, pool: Pool, talk: bytes, seq: int) -> None:
        await age(pool, talk, upto=seq)
        await move_floors(pool, days=50, archives=False, limit=10)

    async def clear(self, pool: Pool) -> None:
        await note_announced(pool, [each.settings.conversation for each in await unannounced(pool, limit=9)])
        for each in await uncleared(pool, limit=9):
            await clear(pool, each.conversation, limit=3)

    async def check(self) -> None:
        pool = self.pools[0]
        rows = await pool.fetch(COUNTED, (uuids(self.talks),))
        shown: dict[bytes, int] = dict.fromkeys(self.users, 0)
        for user, conversation, unread, uncounted, counted, above in rows:
            assert (unread, uncounted) == (counted, above - counted)
            assert (await conversations.one(pool, user, conversation)).unread_count == counted
            shown[user] += counted
        for user in self.users:
            assert sum(each.unread_count for each in await conversations.list_of(pool, user, limit=9)) == shown[user]
            [(digest,)] = await pool.fetch("select unread from unread_of(%s)", (uuid(user),))
            assert digest == shown[user]
        for device, newest in self.devices:
            await catch_up(pool, device, newest=newest)
            held = {talk: device.head(talk) for talk in self.talks}
            computed = {talk: head.unread_count for talk, head in held.items() if head is not None}
            assert computed == {talk: counted for user, talk, _, _, counted, _ in rows if user == device.user}
        await self.check_running_numbers()

    async def check_running_numbers(self) -> None:
        wrong = await self.pools[0].fetch(
            "select m.seq from messages m join conversations c on c.id = m.conversation_id"
            " where m.quiet_count <> c.quiet_count - (select count(*) from messages later where later.is_quiet"
            " and later.conversation_id = c.id and later.seq > m.seq) or c.shown_seq >= c.last_seq"
            " or (m.seq = coalesce(c.shown_seq, c.last_seq)) and m.is_quiet"
        )
        assert wrong == []


DELETED_AND_HIDDEN = [
    [UnreadOp("send", 0, 0, 0, 0)],
    [UnreadOp("hide", 1, 0, 0, 0), UnreadOp("delete", 0, 0, 1, 0)],
    [UnreadOp("read", 1, 0, 0, 0)],
]
DELETED_WHILE_READ = [
    [UnreadOp("batch", 0, 0, 0, 0)],
    [UnreadOp("batch", 0, 0, 0, 0)],
    [UnreadOp("delete", 0, 0, 0, 0), UnreadOp("delete", 0, 0, 1, 4), UnreadOp("read", 1, 0, 2, 2)],
    [UnreadOp("floor", 0, 0, 0, 1), UnreadOp("read", 1, 0, 1, 0), UnreadOp("delete", 0, 0, 2, 0)],
    [UnreadOp("clear", 0, 0, 0, 0)],
]
BLOCKED = [
    [UnreadOp("block", 0, 1, 0, 0)],
    [UnreadOp("batch", 1, 1, 0, 0)],
    [UnreadOp("send", 1, 1, 0, 0), UnreadOp("hide", 0, 1, 1, 0)],
    [UnreadOp("delete", 1, 1, 0, 0), UnreadOp("read", 0, 1, 1, 1)],
    [UnreadOp("block", 0, 1, 0, 0)],
    [UnreadOp("edit", 1, 1, 0, 2)],
]


BLOCKED_AND_QUIET = [
    [UnreadOp("block", 0, 1, 0, 0)],
    [UnreadOp("mixed", 1, 1, 0, 0), UnreadOp("quiet", 1, 1, 1, 0)],
    [UnreadOp("send", 1, 1, 0, 0), UnreadOp("hide", 0, 1, 1, 1)],
    [UnreadOp("block", 0, 1, 0, 0)],
    [UnreadOp("edit", 1, 1, 0, 1), UnreadOp("mixed", 1, 1, 0, 1)],
]
QUIET_AND_GONE = [
    [UnreadOp("mixed", 0, 0, 0, 0), UnreadOp("quiet", 1, 0, 1, 0)],
    [UnreadOp("mixed", 0, 0, 0, 1), UnreadOp("delete", 0, 0, 1, 1), UnreadOp("hide", 2, 0, 2, 2)],
    [UnreadOp("toggle", 2, 0, 0, 0), UnreadOp("read", 1, 0, 1, 3)],
    [UnreadOp("mixed", 0, 0, 0, 2), UnreadOp("floor", 0, 0, 1, 2)],
    [UnreadOp("toggle", 2, 0, 0, 0), UnreadOp("clear", 0, 0, 0, 0)],
    [UnreadOp("quiet", 0, 0, 0, 0), UnreadOp("floor", 0, 0, 1, 4), UnreadOp("read", 2, 0, 2, 0)],
]


@settings(max_examples=12 + MORE_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=rounds)
@example(rounds=DELETED_AND_HIDDEN)
@example(rounds=DELETED_WHILE_READ)
@example(rounds=BLOCKED)
@example(rounds=BLOCKED_AND_QUIET)
@example(rounds=QUIET_AND_GONE)
async def test_unread_counts_are_what_a_count_of_the_messages_says(
    database_url: str, rounds: list[list[UnreadOp]]
) -> None:
    with ExitStack() as stack:
        pools = [stack.enter_context(closing(Pool(database_url, 3))) for _ in range(NODES)]
        people = [await new_user(pools[0], f"u{secrets.token_hex(8)}") for _ in range(USERS)]
        group, direct = await new_group(pools[0], *people), await new_direct(pools[0], *people[:2])
        counted = CountedConversations(pools, [each.user for each in people], group, direct)
        for round_ in rounds:
            await counted.run_round(round_)


async def say(pool: Pool, talk: bytes, sender: Credentials, count: int) -> None:
    await send(pool, ParticipantsCache(), [a_message(talk, sender.user) for _ in range(count)])


async def unread(pool: Pool, user: Credentials, talk: bytes) -> int:
    return (await conversations.one(pool, user.user, talk)).unread_count


async def test_deleted_message_no_longer_counts_and_its_readers_gain_nothing(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    talk = await new_group(pool, *people)
    await say(pool, talk, alice, 4)
    await mark(pool, [[Mark(carol.user, talk, 2, 2)]])
    for seq, left in ((1, (3, 2)), (4, (2, 1)), (4, (2, 1)), (3, (1, 0))):
        await revisions.delete_for_everyone(pool, alice.user, talk, seq)
        assert (await unread(pool, bob, talk), await unread(pool, carol, talk)) == left
    await revisions.delete_for_me(pool, bob.user, talk, 2)
    assert await unread(pool, bob, talk) == 0
    await say(pool, talk, alice, 1)
    assert (await unread(pool, bob, talk), await unread(pool, carol, talk)) == (1, 1)


async def test_deleted_messages_lead_to_no_notice(pool: Pool, people: list[Credentials]) -> None:
    """Neither before the window ends nor after; messages that still exist do lead to notices."""
    alice, bob, _ = people
    talk = await new_group(pool, alice, bob)
    await say(pool, talk, alice, 2)
    await revisions.delete_for_everyone(pool, alice.user, talk, 2)
    assert await outbox.decide(pool, window_s=0) == (2, 1)

    async def is_wanted() -> bool:
        context = await notifiers.notice_context(pool, bob.user, read_after_s=60)
        return context is not None and context.is_undelivered

    assert await is_wanted()
    await mark(pool, [[Mark(bob.user, talk, 1)]])
    assert not await is_wanted(), "the messages that Bob lacks are deleted"
    await say(pool, talk, alice, 1)
    await revisions.delete_for_everyone(pool, alice.user, talk, 3)
    assert await outbox.decide(pool, window_s=0) == (1, 0)
    assert not await is_wanted()


async def test_a_joiner_has_received_nothing_and_no_earlier_message_counts(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    for sees_all, first in ((False, 4), (True, 1)):
        talk = await new_group(pool, alice, bob)
        await participants.change_settings(pool, alice.user, talk, joiners_see_all=sees_all)
        await say(pool, talk, alice, 3)
        await participants.add(pool, alice.user, talk, carol.user)
        await say(pool, talk, alice, 1)
        shown = await conversations.one(pool, carol.user, talk)
        assert (shown.first_seq, shown.unread_count) == (first, 1)
        [own] = [each for each in shown.participants or () if each.user == carol.user]
        assert (own.delivered_seq, own.read_seq) == (0, 0)


async def test_a_returning_participant_has_the_marks_from_before(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, _ = people
    talk = await new_group(pool, alice, bob)
    await say(pool, talk, alice, 3)
    await mark(pool, [[Mark(bob.user, talk, 2, 1)]])
    await participants.remove(pool, bob.user, talk, bob.user)
    await say(pool, talk, alice, 1)
    await participants.add(pool, alice.user, talk, bob.user)
    shown = await conversations.one(pool, bob.user, talk)
    [own] = [each for each in shown.participants or () if each.user == bob.user]
    assert (own.delivered_seq, own.read_seq, shown.unread_count) == (2, 1, 0)


DELETE = "select outcome from delete_message(%(alice)s::uuid, %(talk)s::uuid, 2)"
FLOOR = "select moved from move_floors(50, false, 9)"


@pytest.mark.parametrize(("first", "moves"), [(DELETE, 3), (DELETE, 2), (DELETE, 1), (FLOOR, 3), (FLOOR, 2)])
async def test_a_mark_that_waits_for_a_change_of_the_count_sees_the_change(
    pool: Pool, people: list[Credentials], direct: bytes, first: str, moves: int
) -> None:
    """Otherwise the mark would omit, or count twice, messages that were committed while it waited."""
    alice, bob, _ = people
    await say(pool, direct, alice, 4)
    await revisions.delete_for_everyone(pool, alice.user, direct, 1)
    await revisions.delete_for_everyone(pool, alice.user, direct, 3)
    await age(pool, direct, upto=2)
    async with connected(pool.url) as other, trio.open_nursery() as nursery:
        await other.query("begin")
        await other.query(first, {"alice": uuid(alice.user), "talk": uuid(direct)})
        nursery.start_soon(mark, pool, [[Mark(bob.user, direct, moves, moves)]])
        await wait_until(lambda: is_waiting_for(pool, "Lock", "A batch of marks"), "the mark waits")
        await other.query("commit")
    for _, _, shown, uncounted, counted, above in await pool.fetch(COUNTED, (uuids([direct]),)):
        assert (shown, uncounted) == (counted, above - counted)
