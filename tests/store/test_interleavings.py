"""All operations of a group at once, on several nodes, against a plain model.

Hypothesis chooses rounds of sends, retries, marks, joins and leaves. The operations of a round run at the same time, so
any order may come out within it; the result must fit one that the answers allow, and between rounds all is known.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from protocol.frames import Message
from store import conversations, messages, participants
from store.errors import NotAParticipant
from store.marks import Mark, mark
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_group, new_user
from tests.store.store_world import MORE_EXAMPLES, a_message

USERS: Final = 4
NODES: Final = 3


@dataclass(frozen=True)
class GroupOp:
    """One operation of a user on a node.

    :ivar what: send, retry (of the user's last send), mark (as read up to the last known seq), toggle (join or leave).
    """

    what: str
    user: int
    node: int
    count: int


ops = st.builds(
    GroupOp,
    st.sampled_from(["send", "send", "retry", "mark", "toggle"]),
    st.integers(0, USERS - 1),
    st.integers(0, NODES - 1),
    st.integers(1, 3),
)
rounds = st.lists(st.lists(ops, min_size=1, max_size=6), min_size=1, max_size=6)


@dataclass
class Model:
    """The facts about one group that follow from the answers.

    :ivar inside: the participants between rounds.
    :ivar log: seq -> the message that was acknowledged with it.
    :ivar acks: temp_id -> the answer to it.
    :ivar joined, read: user -> the seq where they joined, and the last seq that they have read.
    :ivar left_at_most: user -> the greatest seq that they may have read when they left.
    """

    inside: set[int]
    log: dict[int, NewMessage] = field(default_factory=dict)
    acks: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    joined: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    left_at_most: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    last_of: dict[int, NewMessage] = field(default_factory=dict)


class ModelledGroup:
    """One group, several nodes with a cache each, and a model of it."""

    def __init__(self, pools: Sequence[Pool], users: list[bytes], group: bytes) -> None:
        self.pools = pools
        self.caches = [ParticipantsCache() for _ in pools]
        self.users = users
        self.group = group
        self.model = Model({0, 1})

    async def run_round(self, round_: list[GroupOp]) -> None:
        """Run all operations at once; each user joins or leaves at most once."""
        model, before, head = self.model, set(self.model.inside), len(self.model.log)
        toggled: set[int] = set()
        answers: list[tuple[GroupOp, NewMessage, Outcome]] = []
        async with trio.open_nursery() as nursery:
            for op in round_:
                if op.what == "toggle":
                    # User 0 is the administrator, and stays.
                    if op.user and op.user not in toggled:
                        toggled.add(op.user)
                        nursery.start_soon(self.toggle, op, op.user in before)
                elif op.what == "mark":
                    nursery.start_soon(self.mark, op, head)
                else:
                    nursery.start_soon(self.send, op, answers)
        model.inside = before ^ toggled
        for op, message, outcome in answers:
            self.check_answer(op, message, outcome, before, toggled)
        marked: dict[int, int] = defaultdict(int)
        for op in round_:
            if op.what == "mark":
                marked[op.user] = max(marked[op.user], self.seq_of_mark(op, head))
        for user in toggled & before:
            # The answers do not say whether a mark came before the user left.
            model.left_at_most[user] = max(model.read[user], min(marked[user], len(model.log)))
        await self.check_state(toggled & model.inside, head, marked)

    async def toggle(self, op: GroupOp, is_inside: bool) -> None:
        change = participants.remove if is_inside else participants.add
        changed = await change(self.pools[op.node], self.users[0], self.group, self.users[op.user])
        assert changed.is_new

    def seq_of_mark(self, op: GroupOp, head: int) -> int:
        return max(head + 1 - op.count, 0) if op.count < 3 else 10_000

    async def mark(self, op: GroupOp, head: int) -> None:
        """Up to one of the last messages, or beyond all messages of the test."""
        seq = self.seq_of_mark(op, head)
        assert (await mark(self.pools[op.node], [[Mark(self.users[op.user], self.group, seq, seq)]])).outcomes == [None]

    async def send(self, op: GroupOp, answers: list[tuple[GroupOp, NewMessage, Outcome]]) -> None:
        user = self.users[op.user]
        if op.what == "retry" and op.user in self.model.last_of:
            batch = [self.model.last_of[op.user]] * op.count
        else:
            batch = [a_message(self.group, user, secrets.token_bytes(8)) for _ in range(op.count)]
            self.model.last_of[op.user] = batch[-1]
        outcomes = await send(self.pools[op.node], self.caches[op.node], batch)
        answers += [(op, message, outcome) for message, outcome in zip(batch, outcomes, strict=True)]

    def check_answer(
        self, op: GroupOp, message: NewMessage, outcome: Outcome, before: set[int], toggled: set[int]
    ) -> None:
        model = self.model
        if isinstance(outcome, NotAParticipant):
            assert message.temp_id not in model.acks or op.what != "retry"
            assert op.user not in before or op.user in toggled
            return
        assert isinstance(outcome, Committed), outcome
        ack = (outcome.seq, outcome.message)
        assert model.acks.setdefault(message.temp_id, ack) == ack, "each answer to one send is the same"
        assert model.log.setdefault(outcome.seq, message) == message, "each seq is given once"
        if outcome.is_new:
            assert op.user in before or op.user in toggled
            told = {self.users.index(user) for user in outcome.participants}
            assert before - toggled <= told <= before | toggled, "no list from before or after is used"
            assert op.user in told

    async def check_state(self, joined_now: set[int], head: int, marked: dict[int, int]) -> None:
        model, pool = self.model, self.pools[0]
        last = len(model.log)
        assert sorted(model.log) == list(range(1, last + 1)), "seqs have no gaps"
        rows = await pool.fetch(
            "select user_id, joined_seq, read_seq from participants where conversation_id = %s", (uuid(self.group),)
        )
        assert {self.users.index(user) for user, *_ in rows} == model.inside
        for user_id, joined, read in rows:
            user = self.users.index(user_id)
            own = max((seq for seq, each in model.log.items() if each.sender == user_id), default=0)
            if user in joined_now:
                # Only the table knows whether a mark came before the user did. Marks outlast leaving.
                assert head <= joined <= last
                least = max(own, model.read[user])
                assert least <= read <= max(least, model.left_at_most[user], min(marked[user], last))
                model.joined[user], model.read[user] = joined, read
            elif marked[user] > head:
                # Only the table knows how far the group had come when the mark did.
                assert max(model.read[user], own, head) <= read <= last
                model.read[user] = read
            else:
                model.read[user] = max(model.read[user], own, marked[user])
            assert (joined, read) == (model.joined[user], model.read[user])
            await self.check_view(user)

    async def check_view(self, user: int) -> None:
        model, pool = self.model, self.pools[0]
        last, joined = len(model.log), model.joined[user]
        page = await messages.history(pool, self.users[user], self.group, limit=100, after=0)
        seen = [(each.seq, each.content) for each in page.messages if isinstance(each, Message)]
        assert seen == [(seq, model.log[seq].content) for seq in range(joined + 1, last + 1)]
        shown = await conversations.one(pool, self.users[user], self.group)
        assert shown.unread_count == last - max(joined, model.read[user])
        assert {self.users.index(each.user) for each in shown.participants} == model.inside


@settings(max_examples=12 + MORE_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=rounds)
async def test_concurrent_writes_leave_the_group_as_their_answers_say(
    database_url: str, rounds: list[list[GroupOp]]
) -> None:
    with ExitStack() as stack:
        pools = [stack.enter_context(closing(Pool(database_url, 4))) for _ in range(NODES)]
        people = [await new_user(pools[0], f"u{secrets.token_hex(8)}") for _ in range(USERS)]
        await make_contacts(pools[0], *people)
        modelled = ModelledGroup(pools, [each.user for each in people], await new_group(pools[0], *people[:2]))
        for round_ in rounds:
            await modelled.run_round(round_)
        event(f"messages: {len(modelled.model.log) // 10 * 10} or more")
