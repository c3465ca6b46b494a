"""The chain of control messages: each follows the last one; of several that follow one at most one is accepted
(P16)."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Final

import pytest
import trio

from client.http import Credentials
from protocol.frames import Conversation, Message
from store import conversations, keys, messages, revisions
from store.envelopes import pack
from store.errors import ControlConflict, Locked, NotAParticipant, StaleDevices, TempIdConflict, UnknownMessage
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.sync import sync
from tests.people import new_group
from tests.store.store_world import a_message
from tests.store.test_device_sets import version_of

IDENTITY: Final = b"identity"


@pytest.fixture
async def group(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    return await new_group(pool, alice, bob)


async def send_all(pool: Pool, *batch: NewMessage) -> list[Outcome]:
    return await send(pool, ParticipantsCache(), batch)


async def control_seq(pool: Pool, user: bytes, group: bytes) -> int:
    return (await conversations.one(pool, user, group)).control_seq or 0


@pytest.mark.parametrize("plain", [0, 3])
async def test_a_control_message_follows_the_last_one_or_is_refused_with_it(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes, plain: int
) -> None:
    """Alone, and in a batch with messages that are no control messages, which Postgres serves by other statements."""
    last = 0
    for _ in range(3):
        for wrong in (last + 1, last - 1, 999):
            if wrong >= 0:
                before = await pool.fetch("select count(*) from messages")
                [refused] = await send_all(pool, a_message(group, alice.user, follows=wrong))
                assert isinstance(refused, ControlConflict)
                assert refused.control_seq == last
                assert await pool.fetch("select count(*) from messages") == before
        good = a_message(group, alice.user, follows=last)
        sent, *rest = await send_all(pool, good, *[a_message(group, bob.user) for _ in range(plain)])
        assert isinstance(sent, Committed)
        assert all(isinstance(each, Committed) for each in rest)
        assert await control_seq(pool, bob.user, group) == sent.seq
        page = await messages.history(pool, bob.user, group, limit=9, before=sent.seq + 1)
        assert isinstance(page.messages[0], Message)
        assert page.messages[0].follows == last
        last = sent.seq


async def test_a_refused_one_in_a_batch_leaves_the_others_alone(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    other = await new_group(pool, bob, alice)
    batch = [
        a_message(group, alice.user),
        a_message(group, alice.user, follows=1),
        a_message(other, bob.user, follows=0),
        a_message(group, bob.user),
    ]
    plain, refused, sent, last = await send_all(pool, *batch)
    assert isinstance(refused, ControlConflict)
    assert refused.control_seq == 0
    assert [each.seq for each in (plain, sent, last) if isinstance(each, Committed)] == [1, 1, 2]
    assert (await control_seq(pool, bob.user, group), await control_seq(pool, bob.user, other)) == (0, 1)


async def test_the_first_of_two_in_one_batch_that_follow_the_same_one_wins(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    first, second, third = await send_all(
        pool,
        a_message(group, alice.user, follows=0),
        a_message(group, bob.user, follows=0),
        a_message(group, bob.user, follows=1),
    )
    assert isinstance(first, Committed)
    assert isinstance(second, ControlConflict)
    assert second.control_seq == first.seq == 1
    assert isinstance(third, Committed), "it follows the one that has won"
    assert await control_seq(pool, alice.user, group) == third.seq


@pytest.mark.parametrize("count", [1, 2])
async def test_a_retry_is_answered_as_before_whatever_has_followed(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes, count: int
) -> None:
    """It is never a conflict with itself; the same temp_id with another place in the chain is another message."""
    message = a_message(group, alice.user, follows=0)
    [first] = await send_all(pool, message)
    assert isinstance(first, Committed)
    for follows in (first.seq, 2):
        [_] = await send_all(pool, a_message(group, bob.user, follows=follows))
        again, *_ = await send_all(pool, message, *[a_message(group, bob.user) for _ in range(count - 1)])
        assert isinstance(again, Committed)
        assert (again.seq, again.is_new) == (first.seq, False)
        for changed in (None, 1):
            other = a_message(
                group,
                alice.user,
                temp_id=message.temp_id,
                content=message.content,
                nonce=message.nonce,
                follows=changed,
            )
            assert isinstance((await send_all(pool, other))[0], TempIdConflict)


async def test_the_chain_is_asked_after_the_participant_and_the_reply_and_before_the_devices(
    pool: Pool, alice: Credentials, carol: Credentials, group: bytes
) -> None:
    await keys.put(pool, alice.device, IDENTITY)
    known = await version_of(pool, group)
    stranger, unknown, conflict, stale = [
        (await send_all(pool, each))[0]
        for each in (
            a_message(group, carol.user, follows=7),
            a_message(group, alice.user, follows=7, reply_to=5),
            a_message(group, alice.user, follows=7, devices_version=known - 1),
            a_message(group, alice.user, follows=0, devices_version=known - 1),
        )
    ]
    assert isinstance(stranger, NotAParticipant)
    assert isinstance(unknown, UnknownMessage)
    assert isinstance(conflict, ControlConflict)
    assert isinstance(stale, StaleDevices)
    assert await control_seq(pool, alice.user, group) == 0
    assert await pool.fetch("select 1 from messages") == []


async def test_nothing_of_a_refused_one_is_stored(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    """Neither its envelopes, such as Welcomes."""
    await keys.put(pool, bob.device, IDENTITY)
    given = pack([(bob.device, b"welcome")])
    for batch in ([2], [2, None]):
        outcomes = await send_all(
            pool, *[a_message(group, alice.user, follows=follows, envelopes=given) for follows in batch]
        )
        assert isinstance(outcomes[0], ControlConflict)
    assert await pool.fetch("select seq, follows from messages") == [(1, None)]
    assert await pool.fetch("select seq from envelopes") == [(1,)]


async def test_edits_and_deletions_leave_the_chain_as_it_is(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    [sent] = await send_all(pool, a_message(group, alice.user, follows=0))
    assert isinstance(sent, Committed)
    change, *_ = await revisions.edit(pool, alice.user, group, sent.seq, 0, "text", b"edited", None, None)
    assert isinstance(change.message, Message)
    assert change.message.follows == 0
    await revisions.delete_for_everyone(pool, alice.user, group, sent.seq)
    assert await control_seq(pool, bob.user, group) == sent.seq


async def test_a_sync_tells_the_last_control_message(
    pool: Pool, alice: Credentials, bob: Credentials, group: bytes
) -> None:
    cursor = (await sync(pool, bob.user, None)).cursor
    [sent] = await send_all(pool, a_message(group, alice.user, follows=0, is_quiet=True))
    assert isinstance(sent, Committed)
    told = (await sync(pool, bob.user, cursor)).pushes
    assert [each.control_seq for each in told if isinstance(each, Conversation)] == [sent.seq]
    assert [each.follows for each in told if isinstance(each, Message)] == [0]


ROUNDS: Final = 25
COMMITTERS: Final = 6


async def test_the_chain_is_linear_whoever_sends_at_once_over_several_connections(
    pool: Pool, people: list[Credentials]
) -> None:
    """Each committer sends one after the other, on top of the last one that it knows; in batches with others' messages,
    waiting for locks or not. Each loser is told a winner that was accepted before, and tries again."""
    group = await new_group(pool, *people)
    accepted: dict[int, int] = {}
    conflicts = 0

    async def commit(own: Pool, user: bytes) -> None:
        nonlocal conflicts
        cache, last = ParticipantsCache(), 0
        for _ in range(ROUNDS):
            while True:
                plain = [a_message(group, user) for _ in range(random.randrange(3))]
                wait = random.choice([0.0, 5.0])
                batch = [a_message(group, user, follows=last), *plain]
                outcome, *_ = await send(own, cache, batch, lock_wait_s=wait)
                if isinstance(outcome, Committed):
                    assert last not in accepted, "two follow the same one"
                    accepted[last] = outcome.seq
                    last = outcome.seq
                    break
                assert isinstance(outcome, ControlConflict | Locked), outcome
                if isinstance(outcome, ControlConflict):
                    assert outcome.control_seq > last
                    conflicts += 1
                    last = outcome.control_seq

    with closing(Pool(pool.url, COMMITTERS)) as own, closing(Pool(pool.url, 2)) as other, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for n in range(COMMITTERS):
                nursery.start_soon(commit, own if n % 2 else other, people[n % 3].user)
    assert conflicts > ROUNDS
    found = await pool.fetch("select follows, seq from messages where follows is not null order by seq")
    assert dict(found) == accepted
    assert len(found) == len(accepted) == ROUNDS * COMMITTERS
    assert [follows for follows, _ in found] == [0, *[seq for _, seq in found][:-1]]
    assert await control_seq(pool, people[0].user, group) == found[-1][1]
