"""Migrations: each file once, whoever else is at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from itertools import count

import psycopg
import pytest
import trio
from store_helpers import a_message

from embedded.postgres import Postgres
from embedded.services import Services
from protocol.frames import Conversation, Message
from store import conversations
from store import migrate as migrate_module
from store.accounts import device_by_token
from store.contacts import set_blocked
from store.errors import Locked, Unavailable
from store.members import MembersCache
from store.messages import Committed, history, send
from store.migrate import Migration, migrate, migrations
from store.pool import Pool
from store.postgres import Error, connected
from store.revisions import edit
from store.sync import sync
from tests.conftest import database_of

_numbers = count(1)


@pytest.fixture
def empty_url(shared_services: Services) -> Iterator[str]:
    """A database with nothing in it."""
    postgres: Postgres = shared_services.postgres
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield database_of(postgres, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Migration]:
    """Migrations of a pretended product; tests add to them."""
    files = [
        Migration(1, "0001_first", "create table steps (n int); insert into steps values (1);"),
        Migration(2, "0002_second", "insert into steps values (2)"),
    ]
    monkeypatch.setattr(migrate_module, "migrations", lambda: files)
    return files


async def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    async with connected(url) as connection:
        return await connection.query(sql)


def test_files_are_numbered_without_gaps_from_1() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))
    assert all(migration.name.startswith(f"{migration.version:04}_") for migration in migrations())


async def test_from_nothing_to_the_newest_and_then_nothing_more(empty_url: str) -> None:
    assert await migrate(empty_url) == [migration.name for migration in migrations()]
    assert await migrate(empty_url) == []
    assert await rows(empty_url, "select version, name from migrations order by version") == [
        (migration.version, migration.name) for migration in migrations()
    ]


async def test_many_at_once_apply_each_file_once(empty_url: str) -> None:
    applied: list[str] = []

    async def release() -> None:
        applied.extend(await migrate(empty_url))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(release)
    assert applied == [migration.name for migration in migrations()]


async def test_later_files_are_applied_later(empty_url: str, pretended: list[Migration]) -> None:
    assert await migrate(empty_url, upto=1) == ["0001_first"]
    assert await migrate(empty_url) == ["0002_second"]
    pretended.append(Migration(3, "0003_third", "insert into steps values (3)"))
    assert await migrate(empty_url) == ["0003_third"]
    assert await rows(empty_url, "select n from steps order by n") == [(1,), (2,), (3,)]


async def test_file_that_fails_leaves_nothing_of_itself_and_can_be_run_again(
    empty_url: str, pretended: list[Migration]
) -> None:
    """Each file and its record are one transaction; what came before stays."""
    pretended.append(
        Migration(3, "0003_third", "insert into steps values (3); select 1/0; insert into steps values (4)")
    )
    with pytest.raises(Error, match="division"):
        await migrate(empty_url)
    assert await rows(empty_url, "select n from steps order by n") == [(1,), (2,)]
    pretended[2] = Migration(3, "0003_third", "insert into steps values (3)")
    assert await migrate(empty_url) == ["0003_third"]
    assert await rows(empty_url, "select max(version) from migrations") == [(3,)]


async def test_file_that_has_to_wait_for_a_table_gives_up(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else everybody who wants the table would wait behind it."""
    monkeypatch.setattr(migrate_module, "PATIENCE_S", 0.5)
    await migrate(empty_url)
    pretended.append(Migration(3, "0003_third", "alter table steps add column m int"))
    async with connected(empty_url) as reader:
        await reader.query("begin")
        await reader.query("select n from steps")
        with pytest.raises(Locked, match="lock timeout"):
            await migrate(empty_url)
        await reader.query("rollback")
    assert await migrate(empty_url) == ["0003_third"]


async def test_unreachable_postgres_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/none")


USER, OTHER, TALK = (name * 16 for name in (b"\x01", b"\x02", b"\x03"))
IDS = {"user": USER.hex(), "other": OTHER.hex(), "talk": TALK.hex(), "token_hash": sha256(b"token").hexdigest()}

PEOPLE = """
insert into users (id, username, password_hash) values ('{user}', 'alice', 'x'), ('{other}', 'bob', 'x');
insert into devices (id, user_id, name, token_hash) values (gen_random_uuid(), '{user}', 'Phone', '\\x{token_hash}');
insert into conversations (id, kind, direct_low, direct_high)
    values ('{talk}', 'direct', least('{user}'::uuid, '{other}'), greatest('{user}'::uuid, '{other}'));
insert into participants (conversation_id, user_id) values ('{talk}', '{user}'), ('{talk}', '{other}');
"""
SEND = """
select outcome, seq, members from send_messages(
    array['{talk}']::uuid[], array[0]::bigint[], array[gen_random_uuid()], array['{other}']::uuid[],
    array[gen_random_uuid()], array['\\x00']::bytea[], array['text'], array['{content}']::bytea[], array[null]::bytea[],
    array[null]::bytea[]);
"""
"""As the first releases called it; a batch of two has the same arguments twice."""

EDIT = """
select outcome, id, created, revision, edited, members
from edit_message('{other}'::uuid, '{talk}'::uuid, 1, 0, 'text', '\\x75', null, null);
"""
CHANGES = """
select conversation, seq, id, created, sender, content_type, content, nonce, ephemeral_public_key, revision, edited,
       is_gone, is_beyond
from unseen_messages('{user}'::uuid, array['{talk}']::uuid[], array[0]::bigint[], '1:1:'::pg_snapshot, 9, 1000);
"""


def of_release(statement: str, **more: str) -> str:
    return statement.format(**IDS, **more)


@pytest.mark.parametrize("version", range(1, migrations()[-1].version + 1))
async def test_what_an_earlier_release_stored_is_there_and_goes_on(empty_url: str, version: int) -> None:
    """Tokens are good for 90 days from the migration on, and what was written has been seen by every cursor."""
    await migrate(empty_url, upto=version)
    async with connected(empty_url) as connection:
        await connection.script(of_release(PEOPLE))
        for content in ("one", "two"):
            await connection.script(of_release(SEND, content=content))
    await migrate(empty_url)
    with closing(Pool(empty_url, 2)) as pool:
        identity = await device_by_token(pool, "token")
        assert identity.user == USER
        assert abs(identity.expires - identity.now - 90 * 86400 * 1e6) < 60e6
        page = await history(pool, USER, TALK, limit=9, after=0)
        assert [each.content for each in page.messages if isinstance(each, Message)] == [b"one", b"two"]
        first = await sync(pool, USER, None)
        assert [each.last_message for each in first.pushes if isinstance(each, Conversation)] == [page.messages[-1]]
        [sent] = await send(pool, MembersCache(), [a_message(TALK, OTHER, b"three", reply_to=1)])
        assert isinstance(sent, Committed)
        assert (sent.seq, set(sent.members)) == (3, {USER, OTHER})
        _, new = (await sync(pool, USER, first.cursor)).pushes
        assert isinstance(new, Message)
        assert (new.seq, new.content, new.reply_to) == (3, b"three", 1)
        change, _, _ = await edit(pool, OTHER, TALK, 1, 0, "text", b"uno", None, None)
        assert change.is_new
        assert (await conversations.one(pool, USER, TALK)).unread_count == 3
        await set_blocked(pool, USER, OTHER, is_blocked=True)
        [silent] = await send(pool, MembersCache(), [a_message(TALK, OTHER, b"four")])
        assert isinstance(silent, Committed)
        assert silent.members == (OTHER,)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_release_goes_on_serving_while_the_database_is_migrated_past_it(empty_url: str, version: int) -> None:
    """Its sends succeed before, during and after, in one order; and what it reads has the columns that it knows."""
    await migrate(empty_url, upto=version)
    async with connected(empty_url) as connection:
        await connection.script(of_release(PEOPLE))
    seqs: list[int] = []
    migrated = trio.Event()

    async def serve() -> None:
        async with connected(empty_url) as connection:
            after = 5
            while after:
                [(outcome, seq, members)] = await connection.query(of_release(SEND, content="x"))
                assert outcome == "sent"
                assert {*members} == {USER, OTHER}
                seqs.append(seq)
                after -= migrated.is_set()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(serve)
        await migrate(empty_url)
        migrated.set()
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    if version > 1:
        async with connected(empty_url) as connection:
            assert (await connection.query(of_release(EDIT)))[0][0] == "edited"
            assert len(await connection.query(of_release(CHANGES))) == min(len(seqs), 9) + (len(seqs) > 9)


async def test_what_is_made_outside_a_transaction_begins_anew_after_a_failure(
    empty_url: str, pretended: list[Migration]
) -> None:
    index = "drop index concurrently if exists i;\ncreate unique index concurrently i on steps (n);"
    text = f"-- outside a transaction\n{index}"
    await migrate(empty_url)
    await rows(empty_url, "insert into steps values (1)")
    pretended.append(Migration(3, "0003_third", text))
    with pytest.raises(Error, match="could not create unique index"):
        await migrate(empty_url)
    assert await rows(empty_url, "select max(version) from migrations") == [(2,)]
    await rows(empty_url, "delete from steps")
    assert await migrate(empty_url) == ["0003_third"]
    assert await rows(empty_url, "select indisvalid from pg_index where indexrelid = 'i'::regclass") == [(True,)]
