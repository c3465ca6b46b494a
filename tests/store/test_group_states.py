"""The state of a group after its last control message: set with that message or refused, and never shown with another
one (P16)."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Final

import pytest
import trio

from client.http import Credentials
from store import account_deletions, contacts, conversations, group_states, participants
from store.errors import ControlConflict, NotAParticipant
from store.group_states import GroupState, HeldState
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.store.store_world import a_message

ROUNDS: Final = 40


@pytest.fixture
async def group(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    return await new_group(pool, alice, bob)


async def control(pool: Pool, who: Credentials, group: bytes, follows: int) -> int:
    [sent] = await send(pool, ParticipantsCache(), [a_message(group, who.user, follows=follows)])
    assert isinstance(sent, Committed)
    return sent.seq


async def put(pool: Pool, who: Credentials, group: bytes, control_seq: int, body: bytes = b"state") -> None:
    await group_states.put(pool, who.user, who.device, group, control_seq, body)


async def held(pool: Pool, who: Credentials, group: bytes) -> HeldState | None:
    return (await group_states.state(pool, who.user, group)).held


async def body_for(pool: Pool, who: Credentials, group: bytes) -> bytes | None:
    found = await held(pool, who, group)
    return None if found is None else found.body


async def test_a_state_is_shown_with_its_control_message_until_the_next_one(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    assert await group_states.state(pool, bob.user, group) == GroupState(0, None)
    last = 0
    for n in range(3):
        last = await control(pool, alice, group, last)
        assert await group_states.state(pool, bob.user, group) == GroupState(last, None), "it is yet to be put"
        await put(pool, alice, group, last, b"%d" % n)
        found = await group_states.state(pool, bob.user, group)
        assert found.control_seq == last
        assert found.held is not None
        assert (found.held.device, found.held.body) == (alice.device, b"%d" % n)
        known = await group_states.state(pool, bob.user, group, has_body=False)
        assert known.held is not None
        assert (known.held.revision, known.held.body) == (found.held.revision, None)
    assert await pool.fetch("select count(*) from group_states") == [(1,)]


async def test_a_state_of_another_control_message_is_refused_with_the_last_one(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    for last in (0, 1, 2):
        if last:
            assert await control(pool, alice, group, last - 1) == last
        for wrong in (last - 1, last + 1, 999):
            if wrong > 0:
                with pytest.raises(ControlConflict) as refused:
                    await put(pool, alice, group, wrong)
                assert refused.value.control_seq == last
        assert await pool.fetch("select control_seq from group_states") == []
    await put(pool, alice, group, 2)
    assert await body_for(pool, bob, group) == b"state"


async def test_the_newest_state_stays_and_the_same_one_again_changes_nothing(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    """Any participant may put it: the sender of the control message may be gone, and what it put may be garbage."""
    last = await control(pool, alice, group, 0)
    await put(pool, alice, group, last, b"garbage")
    first = await held(pool, bob, group)
    await put(pool, alice, group, last, b"garbage")
    assert await held(pool, bob, group) == first
    await put(pool, bob, group, last, b"good")
    second = await held(pool, alice, group)
    assert first is not None
    assert second is not None
    assert (second.device, second.body) == (bob.device, b"good")
    assert second.revision > first.revision


async def test_only_users_who_take_part_put_and_read_states(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    """Not those who are asked to, nor those who were removed, nor strangers."""
    alice, bob, carol = people
    last = await control(pool, alice, group, 0)
    await put(pool, alice, group, last)
    dave = await new_user(pool, "dave")
    await participants.add(pool, alice.user, group, dave.user)
    for who in (carol, dave):
        with pytest.raises(NotAParticipant):
            await held(pool, who, group)
        with pytest.raises(NotAParticipant):
            await put(pool, who, group, last, b"theirs")
    await participants.accept(pool, dave.user, group)
    assert await body_for(pool, dave, group) == b"state"
    await put(pool, dave, group, last, b"dave's")
    assert await body_for(pool, alice, group) == b"dave's"
    for who in (bob, dave):
        await participants.remove(pool, alice.user, group, who.user)
        with pytest.raises(NotAParticipant):
            await held(pool, who, group)
        with pytest.raises(NotAParticipant):
            await put(pool, who, group, last, b"theirs")


async def test_a_blocked_user_reaches_the_blocker_by_no_state(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    direct = await new_direct(pool, alice, bob)
    last = await control(pool, bob, direct, 0)
    await put(pool, bob, direct, last, b"before")
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True, is_online=False)
    assert await body_for(pool, alice, direct) is None
    await put(pool, bob, direct, last, b"while blocked")
    assert (await body_for(pool, alice, direct), await body_for(pool, bob, direct)) == (None, b"while blocked")
    await put(pool, alice, direct, last, b"alice's")
    assert (await body_for(pool, alice, direct), await body_for(pool, bob, direct)) == (b"alice's", b"alice's")
    await put(pool, bob, direct, last, b"bob's")
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=False, is_online=False)
    assert await body_for(pool, alice, direct) == b"bob's"


async def test_the_state_goes_with_the_last_participant(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    group = await new_group(pool, alice, bob)
    direct = await new_direct(pool, alice, bob)
    for each in (group, direct):
        await put(pool, alice, each, await control(pool, alice, each, 0))
    for who, left in ((alice, 2), (bob, 1)):
        await participants.remove(pool, who.user, group, who.user)
        assert await pool.fetch("select count(*) from group_states") == [(left,)]
    for who, left in ((alice, 1), (bob, 0)):
        await account_deletions.close(pool, who.user, delay_s=0, deletes_messages=False)
        await account_deletions.leave_conversations(pool, who.user, limit=10)
        await account_deletions.delete_contacts(pool, who.user, limit=10)
        assert await account_deletions.anonymise(pool, who.user)
        assert await pool.fetch("select count(*) from group_states") == [(left,)]


class RacingCommitter:
    """A participant who sends control messages, and puts the state after each late, and that after an earlier one too.
    A state has the number of its control message in it.

    :ivar refused: states that were refused.
    """

    def __init__(self, pool: Pool, who: Credentials, group: bytes) -> None:
        self.pool = pool
        self.who = who
        self.group = group
        self.refused = 0

    async def run(self, until: int) -> None:
        cache, last = ParticipantsCache(), 0
        while last < until:
            batch = [a_message(self.group, self.who.user, follows=last)]
            [outcome] = await send(self.pool, cache, batch, lock_wait_s=5.0)
            if isinstance(outcome, ControlConflict):
                last = outcome.control_seq
                continue
            assert isinstance(outcome, Committed)
            earlier, last = last, outcome.seq
            for seq in (last, *[earlier] * random.randrange(2)):
                if seq:
                    await self.put(seq)

    async def put(self, seq: int) -> None:
        try:
            await put(self.pool, self.who, self.group, seq, b"%d" % seq)
        except ControlConflict as error:
            last = error.control_seq
        else:
            return
        assert last > seq
        self.refused += 1


async def test_no_reader_gets_a_state_with_another_control_message_whoever_puts_and_sends_at_once(
    pool: Pool, people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    shown: list[bool] = []
    is_over = trio.Event()

    async def read(own: Pool) -> None:
        while not is_over.is_set():
            found = await group_states.state(own, people[0].user, group)
            assert found.held is None or found.held.body == b"%d" % found.control_seq
            shown.append(found.held is not None)

    with closing(Pool(pool.url, 3)) as one, closing(Pool(pool.url, 3)) as other, trio.fail_after(60):
        committers = [RacingCommitter((one, other)[n % 2], who, group) for n, who in enumerate(people)]
        async with trio.open_nursery() as readers:
            for own in (one, other):
                readers.start_soon(read, own)
            async with trio.open_nursery() as nursery:
                for each in committers:
                    nursery.start_soon(each.run, ROUNDS)
            is_over.set()
    assert set(shown) == {True, False}
    assert sum(each.refused for each in committers) > 0
    last = (await conversations.one(pool, people[0].user, group)).control_seq or 0
    await put(pool, people[0], group, last, b"last")
    assert await body_for(pool, people[1], group) == b"last"
