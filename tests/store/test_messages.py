"""Sending: one order without gaps, once per temp_id, and each message with its own answer."""

from __future__ import annotations

import random
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import structlog
import trio

from client.http import Credentials
from protocol import ids
from protocol.frames import Message
from protocol.limits import TEMP_ID_DAYS
from store import messages, participants
from store.errors import (
    Locked,
    NotAParticipant,
    StoreError,
    TempIdConflict,
    TempIdExpired,
    Unavailable,
    UnknownMessage,
)
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.store.store_world import a_message, is_waiting_for
from tests.waiting import wait_until


class SendingNode:
    """The connections and the cache that one node sends with."""

    def __init__(self, url: str) -> None:
        self.pool = Pool(url, 2)
        self.cache = ParticipantsCache()

    async def send(self, *batch: NewMessage) -> list[Outcome]:
        return await send(self.pool, self.cache, batch)


@pytest.fixture
def nodes(database_url: str) -> Iterator[list[SendingNode]]:
    nodes = [SendingNode(database_url) for _ in range(3)]
    yield nodes
    for node in nodes:
        node.pool.close()


@pytest.fixture
async def people(pool: Pool) -> list[Credentials]:
    return [await new_user(pool, name) for name in ("alice", "bob", "carol", "dave")]


def committed(outcome: Outcome) -> Committed:
    assert isinstance(outcome, Committed), outcome
    return outcome


async def stored(pool: Pool) -> dict[bytes, list[tuple[int, bytes]]]:
    """The seqs and contents of each conversation, in order."""
    found = defaultdict(list)
    for conversation, seq, content in await pool.fetch(
        "select conversation_id, seq, content from messages order by conversation_id, seq"
    ):
        found[conversation].append((seq, content))
    return dict(found)


async def test_seq_has_no_gaps_when_nodes_send_to_the_same_conversations_at_once(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """Six tasks on three nodes, batches over overlapping conversations in any order (P2): no deadlock gets through."""
    conversations = [await new_group(pool, *people) for _ in range(5)]
    outcomes: list[tuple[NewMessage, Committed]] = []

    async def talk(node: SendingNode, seed: int) -> None:
        chance = random.Random(seed)
        for turn in range(12):
            batch = [
                a_message(chance.choice(conversations), chance.choice(people).user, b"%d %d %d" % (seed, turn, i))
                for i in range(chance.randint(1, 12))
            ]
            answers = await node.send(*batch)
            outcomes.extend(zip(batch, map(committed, answers), strict=True))

    async with trio.open_nursery() as nursery:
        for seed in range(6):
            nursery.start_soon(talk, nodes[seed % 3], seed)
    expected = defaultdict(list)
    for message, answer in outcomes:
        assert answer.is_new
        assert set(answer.participants) == {person.user for person in people}
        expected[message.conversation].append((answer.seq, message.content))
    assert await stored(pool) == {conversation: sorted(told) for conversation, told in expected.items()}
    for told in expected.values():
        assert [seq for seq, _ in sorted(told)] == list(range(1, len(told) + 1))
    heads = await pool.fetch("select id, last_seq from conversations where last_seq > 0")
    assert dict(heads) == {conversation: len(told) for conversation, told in expected.items()}
    assert await pool.fetch("select count(*) from outbox") == [(len(outcomes),)]
    assert await pool.fetch("select count(distinct id), count(*) from messages") == [(len(outcomes),) * 2]


async def test_messages_of_one_batch_are_numbered_in_their_order(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    here, there = await new_direct(pool, *people[:2]), await new_direct(pool, *people[1:3])
    batch = [a_message((here, there)[i % 2], people[1].user, b"%d" % i) for i in range(10)]
    seqs = [committed(answer).seq for answer in await nodes[0].send(*batch)]
    assert seqs == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_created_never_runs_backwards_in_a_conversation_though_the_clock_does(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    await pool.fetch("update conversations set active_at = clock_timestamp() + interval '1 hour'")
    [(ahead,)] = await pool.fetch("select (extract(epoch from active_at) * 1000000)::bigint from conversations")
    created = []
    for node in nodes * 3:
        created += [committed(answer).created for answer in await node.send(a_message(group, people[0].user))]
    assert created == sorted(created)
    assert created[0] >= ahead
    rows = await pool.fetch("select (extract(epoch from created) * 1000000)::bigint from messages order by seq")
    assert [row[0] for row in rows] == created


async def test_concurrent_created_follows_seq(pool: Pool, nodes: list[SendingNode], people: list[Credentials]) -> None:
    """The time is taken after the lock: a send that waited for it is not dated before the one that held it."""
    group = await new_group(pool, *people)
    async with trio.open_nursery() as nursery:
        for turn in range(30):
            nursery.start_soon(nodes[turn % 3].send, a_message(group, people[turn % 4].user))
    [(backwards,)] = await pool.fetch(
        "select count(*) from messages a join messages b"
        " on b.conversation_id = a.conversation_id and b.seq > a.seq and b.created < a.created"
    )
    assert backwards == 0


async def test_same_send_from_all_nodes_at_once_is_one_message_with_one_answer(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """P3: the answers differ only in `is_new`."""
    group = await new_group(pool, *people)
    message, answers = a_message(group, people[0].user), []

    async def try_it(node: SendingNode) -> None:
        answers.extend(map(committed, await node.send(message, a_message(group, people[1].user), message)))

    async with trio.open_nursery() as nursery:
        for turn in range(12):
            nursery.start_soon(try_it, nodes[turn % 3])
    mine = [answer for i, answer in enumerate(answers) if i % 3 != 1]
    assert len({(answer.message, answer.seq, answer.created) for answer in mine}) == 1
    assert [answer.is_new for answer in mine].count(True) == 1
    assert {answer.participants for answer in mine} == {mine[0].participants}
    assert await pool.fetch("select count(*), max(seq) from messages") == [(13, 13)]
    assert await pool.fetch("select count(*) from outbox") == [(13,)]


async def test_retries_of_two_nodes_in_opposite_order_do_not_end_in_a_deadlock(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """The keys reach the index of temp_ids through different conversations, so locks do not order them."""
    here, there = await new_direct(pool, *people[:2]), await new_direct(pool, people[0], people[2])
    keys = [uuid4().bytes for _ in range(20)]
    answers: list[list[Outcome]] = []

    async def try_it(node: SendingNode, conversation: bytes, temp_ids: list[bytes]) -> None:
        answers.append(
            await node.send(*[a_message(conversation, people[0].user, temp_id=temp_id) for temp_id in temp_ids])
        )

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_it, nodes[0], here, keys)
            nursery.start_soon(try_it, nodes[1], there, keys[::-1])
        keys = [uuid4().bytes for _ in range(20)]
    for answer in answers:
        assert all(isinstance(outcome, Committed | TempIdConflict) for outcome in answer), answer
    assert await pool.fetch("select count(*) from messages") == [(100,)]


async def test_unique_violation_by_a_duplicate_that_commits_meanwhile_is_retried(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """The duplicate is uncommitted when ours is inserted: the send waits, fails, and sees it on a second attempt."""
    group, message = await new_group(pool, *people), a_message(b"", b"")
    message = a_message(group, people[0].user, temp_id=message.temp_id)
    async with connected(pool.url) as duplicate:
        await duplicate.query("begin")
        await duplicate.query(
            "insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)"
            " values (%s, %s, %s, %s, 7, %s, now())",
            (uuid(message.sender), uuid(message.temp_id), uuid(group), message.digest(), uuid(b"7" * 16)),
        )
        async with trio.open_nursery() as nursery:
            answers: list[Outcome] = []

            async def try_it() -> None:
                answers.extend(await nodes[0].send(message, a_message(group, people[1].user)))

            nursery.start_soon(try_it)
            await wait_until(lambda: is_waiting_for(pool, "Lock", "send_batch"), "the send waits for its duplicate")
            await duplicate.query("commit")
    again, other = map(committed, answers)
    assert (again.seq, again.message, again.is_new) == (7, b"7" * 16, False)
    assert (other.seq, other.is_new) == (1, True)


async def test_batch_that_meets_a_deadlock_is_retried(database_url: str, pool: Pool, people: list[Credentials]) -> None:
    """A foreign transaction locks two conversations in the wrong order; Postgres ends the send, which closes the
    circle. A gate holds the send between its locks until the foreign transaction waits for the first of them."""
    low, middle, high = sorted([await new_group(pool, *people) for _ in range(3)])
    lock = "select from conversations where id = %s for update"
    impatient = SendingNode(f"{database_url}?options=-cdeadlock_timeout%3D20ms")
    answers: list[Outcome] = []

    async def send_to_all() -> None:
        answers.extend(await impatient.send(*[a_message(each, people[0].user) for each in (low, middle, high)]))

    async def lock_the_other_way() -> None:
        await other.query(lock, (uuid(low),))
        await other.query("commit")

    with closing(impatient.pool), structlog.testing.capture_logs() as logs:
        async with (
            connected(f"{database_url}?options=-cdeadlock_timeout%3D60s") as other,
            connected(database_url) as gate,
            trio.open_nursery() as nursery,
        ):
            await other.query("set lock_timeout = 0")
            for connection, conversation in ((gate, middle), (other, high)):
                await connection.query("begin")
                await connection.query(lock, (uuid(conversation),))
            nursery.start_soon(send_to_all)
            await wait_until(lambda: is_waiting_for(pool, "Lock", "send_batch"), "the send waits for a lock")
            nursery.start_soon(lock_the_other_way)
            await wait_until(lambda: is_waiting_for(pool, "Lock", "for update"), "the transaction waits for the send")
            await gate.query("commit")
    assert [committed(answer).seq for answer in answers] == [1, 1, 1]
    assert "batch_retried" in [line["event"] for line in logs]


@pytest.mark.parametrize(
    "changes",
    [
        {"content": b"other"},
        {"content_type": "other"},
        {"nonce": None},
        {"nonce": b""},
        {"ephemeral_public_key": b""},
        {"ephemeral_public_key": b"n" * 24, "nonce": None},
    ],
    ids=repr,
)
async def test_temp_id_with_other_content_is_a_conflict(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials], changes: dict[str, bytes]
) -> None:
    """In a later batch, in the same one, and on another node; the first answer stays what it was."""
    group = await new_group(pool, *people)
    message = a_message(group, people[0].user)
    other = a_message(group, people[0].user, **{"temp_id": message.temp_id, **changes})
    first, conflict = await nodes[0].send(message, other)
    assert isinstance(conflict, TempIdConflict)
    for node in nodes[:2]:
        [conflict] = await node.send(other)
        assert isinstance(conflict, TempIdConflict)
        [again] = await node.send(message)
        assert (committed(again).seq, committed(again).message) == (committed(first).seq, committed(first).message)
    assert await pool.fetch("select count(*) from messages") == [(1,)]


async def test_temp_id_in_another_conversation_is_a_conflict(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    here, there = await new_direct(pool, *people[:2]), await new_direct(pool, people[0], people[2])
    message = a_message(here, people[0].user)
    other = a_message(there, people[0].user, temp_id=message.temp_id)
    assert [type(outcome) for outcome in await nodes[0].send(message, other)] == [Committed, TempIdConflict]
    for batch, expected in (([other], TempIdConflict), ([message], Committed)):
        assert [type(outcome) for outcome in await nodes[1].send(*batch)] == [expected]
    assert await pool.fetch("select count(*) from messages") == [(1,)]


async def test_temp_ids_of_two_senders_do_not_meet(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    batch = [a_message(group, person.user, temp_id=b"t" * 16) for person in people]
    assert [committed(outcome).seq for outcome in await nodes[0].send(*batch)] == [1, 2, 3, 4]


async def test_retry_in_one_batch_with_a_refused_duplicate_gets_the_first_answer(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """Another message with its temp_id stands before it in the batch and is refused, for reasons of its own."""
    group, stranger = await new_group(pool, *people[:2]), await new_group(pool, *people[1:])
    message = a_message(group, people[0].user)
    other = a_message(group, people[0].user, b"other", temp_id=message.temp_id)
    elsewhere = a_message(stranger, people[0].user, temp_id=message.temp_id)
    broken = a_message(group, people[0].user, content_type="\0", temp_id=message.temp_id)
    [first] = map(committed, await nodes[0].send(message))
    for duplicate in (other, elsewhere, broken):
        refused, outcome = await nodes[0].send(duplicate, message)
        assert not isinstance(refused, Committed)
        # Either its own answer, or a request to retry; never a refusal that belongs to another message.
        if isinstance(outcome, Committed):
            assert (outcome.seq, outcome.is_new) == (first.seq, False)
        else:
            assert not isinstance(outcome, NotAParticipant | TempIdConflict)
            [outcome] = await nodes[0].send(message)
            assert committed(outcome).seq == first.seq


async def test_only_the_stranger_and_the_unknown_conversation_are_refused(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """Both errors look alike, and the rest of the batch is committed without a gap."""
    group = await new_group(pool, *people[:2])
    batch = [
        a_message(group, people[0].user),
        a_message(group, people[3].user),
        a_message(secrets.token_bytes(16), people[0].user),
        a_message(group, secrets.token_bytes(16)),
        a_message(group, people[1].user),
    ]
    outcomes = await nodes[0].send(*batch)
    assert [type(outcome) for outcome in outcomes] == [Committed, *[NotAParticipant] * 3, Committed]
    assert str(outcomes[1]) == str(outcomes[2]) == str(outcomes[3])
    assert [committed(outcomes[i]).seq for i in (0, 4)] == [1, 2]
    assert await pool.fetch("select count(*) from sends") == [(2,)]
    assert await pool.fetch("select count(*) from outbox") == [(2,)]


async def test_stranger_first_in_the_batch_does_not_cost_the_others_their_participants(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """The participants come with a conversation's first row, also if its sender is refused: pushes need them."""
    group = await new_group(pool, *people[:2])
    _, outcome = await nodes[0].send(a_message(group, people[3].user), a_message(group, people[0].user))
    assert set(committed(outcome).participants) == {people[0].user, people[1].user}


@pytest.mark.parametrize("bad", [{"content_type": "a\0b"}, {"content_type": "\ud800"}], ids=["NUL", "surrogate"])
async def test_message_that_postgres_refuses_fails_alone(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials], bad: dict[str, str]
) -> None:
    group = await new_group(pool, *people)
    batch = [a_message(group, person.user) for person in people]
    batch.insert(2, a_message(group, people[0].user, **bad))
    outcomes = await nodes[0].send(*batch)
    assert type(outcomes.pop(2)) is StoreError
    assert [committed(outcome).seq for outcome in outcomes] == [1, 2, 3, 4]
    assert all(committed(outcome).is_new for outcome in outcomes)


async def test_participants_are_those_at_the_commit_whatever_was_cached(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """P11: after a removal no list with the removed user is used, though the caches were not told."""
    group = await new_group(pool, *people)
    for node in nodes[:2]:
        await node.send(a_message(group, people[0].user))
    await pool.fetch("delete from participants where user_id = %s", (uuid(people[2].user),))
    await pool.fetch("update conversations set recipients_version = recipients_version + 1")
    remaining = {people[i].user for i in (0, 1, 3)}
    for node in nodes:
        outcomes = await node.send(*[a_message(group, people[i].user) for i in (0, 2, 1)])
        assert isinstance(outcomes.pop(1), NotAParticipant)
        assert [set(committed(outcome).participants) for outcome in outcomes] == [remaining] * 2
    await pool.fetch(
        "insert into participants (conversation_id, user_id) values (%s, %s)", (uuid(group), uuid(people[2].user))
    )
    await pool.fetch("update conversations set recipients_version = recipients_version + 1")
    for node in nodes:
        [outcome] = await node.send(a_message(group, people[2].user))
        assert set(committed(outcome).participants) == {person.user for person in people}


async def test_cached_participants_are_not_sent_again(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    for _ in range(3):
        [outcome] = await nodes[0].send(a_message(group, people[0].user))
        assert len(committed(outcome).participants) == 4
    statistics = nodes[0].cache.statistics()
    assert (statistics.misses, statistics.hits) == (1, 2)


async def test_retry_after_leaving_gets_the_first_answer(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """P3: the ack got lost and the sender has left since; a new message is refused all the same."""
    group = await new_group(pool, *people)
    message = a_message(group, people[0].user)
    [first] = await nodes[0].send(message)
    await pool.fetch("delete from participants where user_id = %s", (uuid(people[0].user),))
    await pool.fetch("update conversations set recipients_version = recipients_version + 1")
    again, refused = await nodes[1].send(message, a_message(group, people[0].user))
    assert (committed(again).seq, committed(again).message) == (committed(first).seq, committed(first).message)
    assert not committed(again).is_new
    assert isinstance(refused, NotAParticipant)


async def test_unreachable_postgres_is_unavailable_for_each_of_the_batch(people: list[Credentials]) -> None:
    outcomes = await SendingNode("postgresql://nobody@127.0.0.1:1/none").send(
        a_message(b"c" * 16, b"s" * 16), a_message(b"c" * 16, b"t" * 16)
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_postgres_that_goes_away_while_a_batch_is_tried_one_by_one_is_asked_once(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the rest would wait for the whole deadline, and so would all senders on this node."""
    group, real, runs = await new_group(pool, *people), nodes[0].pool.run, 0

    async def run(statement: Any, values: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs > 2:
            raise Unavailable("Postgres", "here", "no answer")
        return await real(statement, values)

    monkeypatch.setattr(nodes[0].pool, "run", run)
    batch = [a_message(group, person.user) for person in people]
    outcomes = await nodes[0].send(*batch, a_message(group, people[0].user, content_type="\0"))
    assert [type(outcome) for outcome in outcomes] == [Committed, *[Unavailable] * 4]
    assert runs == 3


async def test_batch_of_the_largest_messages_is_committed_as_it_is(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    batch = [a_message(group, people[0].user, secrets.token_bytes(65536)) for _ in range(64)]
    await nodes[0].send(*batch)
    page = await messages.history(pool, people[1].user, group, limit=100, after=0)
    assert [message.content for message in page.messages if isinstance(message, Message)] == [
        message.content for message in batch
    ]


async def test_message_ids_are_of_uuid_version_7_in_order_of_time(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people)
    ids = [committed((await nodes[0].send(a_message(group, people[0].user)))[0]).message for _ in range(3)]
    assert await pool.fetch("select distinct uuid_extract_version(id) from messages") == [(7,)]
    assert [one[:6] for one in ids] == sorted(one[:6] for one in ids)


def temp_id_of(ago_days: float) -> bytes:
    return ids.uuid7(int((time.time() - ago_days * 86400) * 1000), secrets.token_bytes(10))


async def test_a_reply_is_stored_with_what_it_answers(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """If the sender can read that message; else the reply fails alone, in a batch of one and of several."""
    group, user = await new_group(pool, *people), people[0].user
    await nodes[0].send(a_message(group, user))
    for batch in ([2], [0, 1, 2, 9]):
        outcomes = await nodes[0].send(*[a_message(group, user, reply_to=seq) for seq in batch])
        expected = [Committed if seq == 1 else UnknownMessage for seq in batch]
        assert [type(outcome) for outcome in outcomes] == expected
    [stranger] = await nodes[0].send(a_message(group, b"?" * 16, reply_to=1))
    assert isinstance(stranger, NotAParticipant)
    page = await messages.history(pool, user, group, limit=9, after=0)
    assert [each.reply_to for each in page.messages if isinstance(each, Message)] == [None, 1]
    message = a_message(group, user, reply_to=1)
    assert [type(each) for each in await nodes[0].send(message)] == [Committed]
    [conflict] = await nodes[1].send(msgspec.structs.replace(message, reply_to=2))
    assert isinstance(conflict, TempIdConflict)


async def test_a_newcomer_cannot_reply_to_earlier_messages(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group = await new_group(pool, *people[:2])
    await nodes[0].send(a_message(group, people[0].user))
    await participants.add(pool, people[0].user, group, people[2].user)
    outcomes = await nodes[0].send(a_message(group, people[2].user, reply_to=1), a_message(group, people[2].user))
    assert [type(outcome) for outcome in outcomes] == [UnknownMessage, Committed]


@pytest.mark.parametrize("others", [0, 2])
async def test_locked_conversation_is_skipped_and_none_of_its_sends_is_done(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials], others: int
) -> None:
    held, free = await new_direct(pool, *people[:2]), await new_direct(pool, *people[1:3])
    batch = [a_message(held, people[1].user), *[a_message(free, people[1].user) for _ in range(others)]]
    async with connected(pool.url) as other:
        await other.query("begin")
        await other.query("select from conversations where id = %s for update", (uuid(held),))
        locked, *rest = await send(nodes[0].pool, nodes[0].cache, batch, lock_wait_s=0)
        assert isinstance(locked, Locked)
        assert [committed(outcome).seq for outcome in rest] == [1, 2][:others]
        [still] = await send(nodes[0].pool, nodes[0].cache, batch[:1], lock_wait_s=0.05)
        assert isinstance(still, Locked)
        await other.query("rollback")
    [sent] = await send(nodes[0].pool, nodes[0].cache, batch[:1], lock_wait_s=0)
    assert (committed(sent).seq, committed(sent).is_new) == (1, True)
    [unknown] = await send(nodes[0].pool, nodes[0].cache, [a_message(b"?" * 16, people[1].user)], lock_wait_s=0)
    assert isinstance(unknown, NotAParticipant), "a conversation that does not exist is not locked"


async def test_a_temp_id_is_remembered_for_so_many_days_and_then_it_is_said_that_it_is_not(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """P3: a retry is never a second message. A temp_id without a time is remembered for good."""
    group, user = await new_group(pool, *people), people[0].user
    young = temp_id_of(TEMP_ID_DAYS - 1)
    timeless = secrets.token_bytes(6) + b"\x40" + secrets.token_bytes(9)
    old = [temp_id_of(days) for days in (TEMP_ID_DAYS + 1, 100, 400)] + [ids.uuid7(5_000, secrets.token_bytes(10))]
    batch = [a_message(group, user, temp_id=temp_id) for temp_id in (*old, young, timeless)]
    for turn in range(2):
        outcomes = await nodes[turn].send(*batch)
        assert all(isinstance(outcome, TempIdExpired) for outcome in outcomes[: len(old)])
        assert [committed(outcome).seq for outcome in outcomes[len(old) :]] == [1, 2]
        assert [committed(outcome).is_new for outcome in outcomes[len(old) :]] == [turn == 0] * 2
    assert await pool.fetch("select count(*) from messages") == [(2,)]


async def test_an_old_temp_id_that_is_still_known_is_answered(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    group, other = await new_group(pool, *people), await new_group(pool, *people)
    message = a_message(group, people[0].user, temp_id=temp_id_of(TEMP_ID_DAYS - 1))
    [first] = map(committed, await nodes[0].send(message))
    later_ms = int(time.time() * 1000) + 2 * 86_400_000
    elsewhere = a_message(other, people[0].user, temp_id=message.temp_id)
    [again] = await send(pool, nodes[1].cache, [message], now_ms=later_ms)
    [conflict] = await send(pool, nodes[1].cache, [elsewhere], now_ms=later_ms)
    assert (committed(again).seq, committed(again).message, committed(again).is_new) == (1, first.message, False)
    assert isinstance(conflict, TempIdConflict)


async def test_keys_are_forgotten_only_when_their_retries_are_refused_by_their_time(
    pool: Pool, nodes: list[SendingNode], people: list[Credentials]
) -> None:
    """In batches that continue where the last one ended; a temp_id without a time, or from the future, stays."""
    group, user = await new_group(pool, *people), people[0].user
    timeless = secrets.token_bytes(6) + b"\x40" + secrets.token_bytes(9)
    then = TEMP_ID_DAYS + 3
    temp_ids = [*[temp_id_of(then) for _ in range(5)], timeless, temp_id_of(-40), temp_id_of(0)]
    batch = [a_message(group, user, temp_id=temp_id) for temp_id in temp_ids]
    outcomes = await send(pool, nodes[0].cache, batch, now_ms=int((time.time() - then * 86400) * 1000))
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    ago = "update sends set created = created - make_interval(days => %s, secs => 9 - seq) where temp_id <> %s"
    await pool.fetch(ago, (then, uuid(temp_ids[-1])))
    assert [await messages.forget_temp_ids(pool, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    left = {row[0] for row in await pool.fetch("select temp_id from sends")}
    assert left == set(temp_ids[5:])
    assert await messages.forget_temp_ids(pool, limit=3) == 0
