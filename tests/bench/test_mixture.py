"""The mixture of operations, and the population that it falls on."""

from collections import Counter
from itertools import islice

import psycopg
import pytest

from bench.mixture import SHARES, Mixture, OperationKind
from bench.ours import Ours
from bench.population import MESSAGES, fill_ours, populate
from bench.rows import participant

OPERATIONS = 20_000


def test_sizes_and_activity_follow_zipfs_law() -> None:
    population = populate(1000, 500, 200)
    assert [len(users) for users in population.conversations[:5]] == [200, 100, 67, 50, 40]
    assert [len(users) for users in population.conversations[100:]] == [2] * 400
    operations = list(islice(Mixture(population.chats()).operations(), OPERATIONS))
    found = Counter(operation.chat.conversation for operation in operations)
    first, tenth = (found[population.chats()[n].conversation] for n in (0, 9))
    assert first / OPERATIONS == pytest.approx(1 / 6.79, rel=0.1)
    assert first / tenth == pytest.approx(10, rel=0.25)


def test_kinds_have_their_shares_and_all_participants_are_active() -> None:
    chats = populate(20, 20, 8).chats()
    operations = list(islice(Mixture(chats).operations(), OPERATIONS))
    found = Counter(operation.kind for operation in operations)
    assert sum(SHARES.values()) == 100
    assert {kind: found[kind] / OPERATIONS for kind in OperationKind} == pytest.approx(
        {kind: share / 100 for kind, share in SHARES.items()}, rel=0.1
    )
    assert all(operation.participant in operation.chat.participants for operation in operations)
    assert len({operation.participant for operation in operations}) == 20


def test_each_server_gets_the_same_operations() -> None:
    mixture = Mixture(populate(20, 20, 8).chats())
    assert list(islice(mixture.operations(), 100)) == list(islice(mixture.operations(), 100))


def test_each_user_takes_part_and_no_two_users_share_two_direct_chats() -> None:
    population = populate(1000, 500, 200)
    assert {user for users in population.conversations for user in users} == set(range(1000))
    assert len(set(population.conversations)) == 500


def test_the_rows_are_those_that_the_generator_asks_for(ours: Ours) -> None:
    population = populate(12, 6, 5)
    ours.prepare([])
    fill_ours(ours.database_url, population)
    with psycopg.connect(ours.database_url) as connection:
        places = connection.execute("select conversation_id::text, user_id::text from participants").fetchall()
        messages = connection.execute(
            "select count(distinct m.content), count(*) from messages m join participants p"
            " on p.conversation_id = m.conversation_id and p.user_id = m.sender_id"
        ).fetchone()
        tokens = connection.execute("select user_id::text from devices where token_hash = sha256('token3')").fetchall()
    chats = population.chats()
    assert set(places) == {(chat.conversation, each.user) for chat in chats for each in chat.participants}
    assert messages == (len(chats) * MESSAGES,) * 2
    assert tokens == [(participant(3).user,)]
