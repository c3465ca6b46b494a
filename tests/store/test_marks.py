"""Marks of delivery: up to the last message, never back, and only the user's own."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest
import trio

from client.http import Credentials
from client.mailbox import Mailbox
from store import contacts, conversations, participants
from store.errors import Locked, Unavailable
from store.marks import Mark, mark
from store.messages import send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_direct, new_group, new_user
from tests.rows import checked_rows
from tests.store.store_world import a_message, catch_up


@pytest.fixture
async def group(pool: Pool, people: list[Credentials]) -> bytes:
    """A group of all, with ten messages of the first."""
    return await filled_group(pool, people)


async def filled_group(pool: Pool, people: list[Credentials]) -> bytes:
    group = await new_group(pool, *people)
    await send(pool, ParticipantsCache(), [a_message(group, people[0].user) for _ in range(10)])
    return group


@pytest.fixture
def single(pool: Pool) -> Iterator[Pool]:
    """One connection: its counts of rows that were read are complete."""
    with closing(Pool(pool.url, 1)) as single:
        yield single


async def delivered(pool: Pool) -> dict[tuple[bytes, bytes], int]:
    rows = await pool.fetch("select conversation_id, user_id, delivered_seq from participants")
    return {(conversation, user): seq for conversation, user, seq in rows}


async def test_mark_never_goes_back_nor_beyond_the_last_message(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    bob = people[1].user
    for seq, expected in ((3, 3), (2, 3), (0, 3), (7, 7), (2**63 - 1, 10), (1, 10)):
        assert (await mark(pool, [[Mark(bob, group, seq)]])).outcomes == [None]
        assert (await delivered(pool))[group, bob] == expected


async def read(pool: Pool) -> dict[tuple[bytes, bytes], tuple[int, int]]:
    rows = await pool.fetch("select conversation_id, user_id, delivered_seq, read_seq from participants")
    return {(conversation, user): (delivered, read) for conversation, user, delivered, read in rows}


async def test_read_message_is_delivered_and_neither_mark_goes_back(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    bob = people[1].user
    steps = [
        (Mark(bob, group, 4), (4, 0)),
        (Mark(bob, group, 3, 3), (4, 3)),
        (Mark(bob, group, 2, 2), (4, 3)),
        (Mark(bob, group, 9), (9, 3)),
        (Mark(bob, group, 6, 6), (9, 6)),
        (Mark(bob, group, 2**63 - 1, 2**63 - 1), (10, 10)),
    ]
    for given, expected in steps:
        assert (await mark(pool, [[given]])).outcomes == [None]
        assert (await read(pool))[group, bob] == expected


async def test_device_that_moved_the_delivered_mark_last_is_known(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    """A mark is not noted if it brings nothing new, or only says that the user has read."""
    bob, phone, desktop = people[1].user, b"p" * 16, b"d" * 16
    steps = [
        (Mark(bob, group, 4, 0, phone), phone),
        (Mark(bob, group, 4, 0, desktop), phone),
        (Mark(bob, group, 2, 2, desktop), phone),
        (Mark(bob, group, 5, 0, desktop), desktop),
        (Mark(bob, group, 7, 7, phone), phone),
        (Mark(bob, group, 8), None),
    ]
    for given, expected in steps:
        assert (await mark(pool, [[given]])).outcomes == [None]
        noted = "select delivered_by from participants where conversation_id = %s and user_id = %s"
        assert await pool.fetch(noted, (uuid(group), uuid(bob))) == [(expected,)]


async def test_marks_where_the_user_takes_no_part_are_dropped_without_a_word(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    eve = await new_user(pool, "eve")
    before = await delivered(pool)
    request = [Mark(eve.user, group, 5), Mark(people[1].user, b"?" * 16, 5), Mark(b"?" * 16, group, 5)]
    assert (await mark(pool, [request, request])).outcomes == [None, None]
    assert await delivered(pool) == before


async def test_batch_with_the_same_mark_many_times_takes_the_highest(
    pool: Pool, people: list[Credentials], group: bytes
) -> None:
    other = await filled_group(pool, people)
    _, bob, carol = (person.user for person in people)
    batch = [
        [Mark(bob, group, 4), Mark(bob, group, 2), Mark(carol, group, 1)],
        [],
        [Mark(bob, group, 6), Mark(bob, group, 6), Mark(bob, other, 99), Mark(carol, group, 9), Mark(carol, group, 3)],
    ]
    assert (await mark(pool, batch)).outcomes == [None] * 3
    marks = await delivered(pool)
    assert (marks[group, bob], marks[other, bob], marks[group, carol], marks[other, carol]) == (6, 10, 9, 0)


async def asked_group(pool: Pool, people: list[Credentials]) -> bytes:
    """A group of the first two, in which the third, a stranger, is asked to take part, and has messages up to 14."""
    alice, bob, carol = people
    group = await filled_group(pool, [alice, bob])
    await participants.add(pool, alice.user, group, carol.user)
    await send(pool, ParticipantsCache(), [a_message(group, alice.user) for _ in range(5)])
    await mark(pool, [[Mark(carol.user, group, 14)]])
    return group


async def seen(pool: Pool, viewer: Credentials, conversation: bytes, user: Credentials) -> int:
    """How far messages are delivered to the user, as the viewer sees it."""
    shown = await conversations.one(pool, viewer.user, conversation)
    return next(each.delivered_seq for each in shown.participants or () if each.user == user.user)


async def test_the_own_delivered_mark_of_a_request_survives_each_way_out_and_back(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people

    async def leave(group: bytes) -> None:
        await participants.remove(pool, carol.user, group, carol.user)

    async def decline(group: bytes) -> None:
        await participants.decline(pool, carol.user, group)

    async def be_removed(group: bytes) -> None:
        await participants.remove(pool, alice.user, group, carol.user)

    async def be_asked_again(group: bytes) -> None:
        await participants.add(pool, alice.user, group, carol.user)

    async def be_added_by_a_contact(group: bytes) -> None:
        await participants.set_role(pool, alice.user, group, bob.user, "admin")
        await make_contacts(pool, bob, carol)
        await participants.add(pool, bob.user, group, carol.user)
        await contacts.remove(pool, carol.user, bob.user)

    async def be_asked_and_then_added(group: bytes) -> None:
        await be_asked_again(group)
        await be_added_by_a_contact(group)

    ways: list[tuple[Callable[[bytes], Awaitable[None]], Callable[[bytes], Awaitable[None]]]] = [
        (be_removed, be_asked_again),
        (be_removed, be_added_by_a_contact),
        (leave, be_added_by_a_contact),
        (leave, be_asked_and_then_added),
        (decline, be_added_by_a_contact),
    ]
    with checked_rows() as rows:
        for out, back in ways:
            with rows.row((out.__name__, back.__name__)):
                group = await asked_group(pool, people)
                await out(group)
                await back(group)
                assert await seen(pool, carol, group, carol) == 14
                assert await seen(pool, alice, group, carol) == 0, "nobody else is told of it"


async def test_the_own_delivered_mark_of_a_declined_direct_request_is_there_when_the_user_begins_it(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob = people[:2]
    direct, _ = await conversations.add_direct(pool, alice.user, bob.user)
    await send(pool, ParticipantsCache(), [a_message(direct, alice.user) for _ in range(5)])
    await mark(pool, [[Mark(bob.user, direct, 4)]])
    await participants.decline(pool, bob.user, direct)
    assert await conversations.add_direct(pool, bob.user, alice.user) == (direct, True)
    assert await seen(pool, bob, direct, bob) == 4
    assert await seen(pool, alice, direct, bob) == 0


@pytest.mark.parametrize("batch", [1, 2])
async def test_a_quiet_message_into_a_request_publishes_the_delivered_mark_as_accepting_does(
    pool: Pool, people: list[Credentials], batch: int
) -> None:
    alice, _, carol = people
    group = await asked_group(pool, people)
    device = Mailbox(alice.user)
    await catch_up(pool, device)
    await send(pool, ParticipantsCache(), [a_message(group, carol.user, is_quiet=True) for _ in range(batch)])
    assert not (await conversations.one(pool, carol.user, group)).is_request
    assert await seen(pool, alice, group, carol) == 14
    await catch_up(pool, device)
    assert {each.user: each.delivered_seq for each in device.participants(group)}[carol.user] == 14


async def test_an_empty_batch_of_marks_does_nothing(pool: Pool) -> None:
    assert (await mark(pool, [[]])).outcomes == [None]


async def test_concurrent_batches_end_with_the_highest_marks(pool: Pool, people: list[Credentials]) -> None:
    """Overlapping rows in any order, and sends that move the same rows: deadlocks among them are retried."""
    groups = [await filled_group(pool, people) for _ in range(6)]
    users = [person.user for person in people]
    told = await delivered(pool)
    errors: list[object] = []

    async def mark_at_random(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(8):
            marks = [
                Mark(chance.choice(users), chance.choice(groups), chance.randint(0, 10))
                for _ in range(chance.randint(1, 30))
            ]
            errors.extend(filter(None, (await mark(pool, [marks])).outcomes))
            for one in marks:
                told[one.conversation, one.user] = max(told[one.conversation, one.user], one.delivered)

    async def talk() -> None:
        for _ in range(8):
            await send(pool, ParticipantsCache(), [a_message(group, users[0]) for group in groups])

    async with trio.open_nursery() as nursery:
        for seed in range(6):
            nursery.start_soon(mark_at_random, seed)
        nursery.start_soon(talk)
    assert errors == []
    marks = await delivered(pool)
    for group in groups:
        assert marks[group, users[0]] == 18
        assert all(marks[group, user] >= told[group, user] for user in users)


async def test_marks_and_sends_of_several_nodes_do_not_deadlock(
    pool: Pool, database_url: str, people: list[Credentials]
) -> None:
    """A deadlock is retried, but found only after a second, and the node acknowledges nothing in that time."""
    users = [person.user for person in people]
    groups = [await new_group(pool, *people) for _ in range(100)]
    nodes = [Pool(database_url, 1) for _ in range(4)]

    async def mark_all(node: Pool, chance: random.Random) -> None:
        marks = [Mark(user, group, 2**40) for group in groups for user in users]
        for _ in range(50):
            assert (await mark(node, [chance.sample(marks, len(marks))])).outcomes == [None]

    async def talk(node: Pool, sender: bytes, chance: random.Random) -> None:
        for _ in range(50):
            await send(
                node, ParticipantsCache(), [a_message(group, sender) for group in chance.sample(groups, len(groups))]
            )

    async with trio.open_nursery() as nursery:
        for i, work in enumerate((mark_all, mark_all)):
            nursery.start_soon(work, nodes[i], random.Random(i))
        for i in (2, 3):
            nursery.start_soon(talk, nodes[i], users[i - 2], random.Random(i))
    for node in nodes:
        await node.fetch("select pg_stat_force_next_flush()")
        node.close()
    await pool.fetch("select pg_stat_force_next_flush()")
    assert await pool.fetch("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


async def test_unreachable_postgres_is_unavailable_for_each_request() -> None:
    outcomes = (await mark(Pool("postgresql://nobody@127.0.0.1:1/none", 1), [[], [Mark(b"u", b"c", 1)]])).outcomes
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_a_row_that_stays_locked_fails_its_own_marks_and_no_others(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """And the batch after that: one request has both a locked and an unlocked one."""
    held, free = await new_direct(pool, alice, bob), await new_group(pool, alice, bob)
    await send(pool, ParticipantsCache(), [a_message(each, alice.user) for each in (held, free)])
    batch = [
        [Mark(bob.user, held, 1)],
        [Mark(bob.user, free, 1, 1)],
        [Mark(bob.user, held, 1), Mark(alice.user, free, 2)],
    ]
    async with connected(pool.url) as other:
        await other.query("begin")
        await other.query("select from participants where conversation_id = %s for update", (uuid(held),))
        with trio.fail_after(5):
            outcomes = (await mark(pool, batch)).outcomes
        assert [type(outcome) for outcome in outcomes] == [Locked, type(None), Locked]
        await other.query("rollback")
    marks = "select delivered_seq, read_seq from participants where conversation_id = %s and user_id = %s"
    assert await pool.fetch(marks, (uuid(free), uuid(bob.user))) == [(1, 1)]
    assert await pool.fetch(marks, (uuid(held), uuid(bob.user))) == [(0, 0)]
    assert (await mark(pool, batch)).outcomes == [None, None, None]
    assert await pool.fetch(marks, (uuid(held), uuid(bob.user))) == [(1, 0)]


SKEWED = """
insert into users (id, username, password_hash)
    select md5('u' || n)::uuid, 'u' || n, 'x' from generate_series(0, 499) n;
insert into conversations (id, kind, name, last_seq)
    select md5('c' || n)::uuid, 'group', 'g', 8 from generate_series(0, 499) n;
insert into participants (conversation_id, user_id)
    select md5('c' || n)::uuid, md5('u' || k)::uuid from generate_series(0, 499) n, generate_series(0, 199) k
    where k < greatest(2, 200 / (n + 1));
analyze;
"""
"""Few take part in most conversations: a plan that reads all participants of one looks cheap."""


async def test_a_mark_reads_its_own_participant_however_many_take_part(single: Pool) -> None:
    async with connected(single.url) as connection:
        await connection.script(SKEWED)
    rows = await single.fetch("select md5('c0')::uuid, md5('u' || k)::uuid from generate_series(0, 19) k")
    before = await participants_found(single)
    for seq in range(1, 9):
        assert len((await mark(single, [[Mark(user, group, seq)] for group, user in rows])).moved) == len(rows)
    found = await participants_found(single) - before
    assert found <= 8 * len(rows) * 3, "one to lock, one to move, and 200 take part"


async def participants_found(pool: Pool) -> int:
    """The rows of participants that an index has found."""
    await pool.fetch("select pg_stat_force_next_flush()")
    await pool.fetch("select 1")
    [(rows,)] = await pool.fetch("select idx_tup_fetch from pg_stat_user_tables where relname = 'participants'")
    return int(rows)
