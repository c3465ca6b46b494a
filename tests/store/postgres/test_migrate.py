"""Migrations: each file is applied once, even if several processes migrate at the same time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

import store
from embedded.postgres import PostgresServer
from embedded.services import RunningServices
from store.errors import DatabaseError, Locked, Unavailable
from store.postgres import migrate as migrate_module
from store.postgres.driver import connected
from store.postgres.migrate import ChangedMigration, Functions, Migration, migrate, migrations, wait_migrated
from store.postgres.pool import Pool
from tests.conftest import database_of
from tests.waiting import wait_until

FUNCTIONS = Path(store.__file__).parent / "sql" / "functions"
_numbers = count(1)


@pytest.fixture
def empty_url(shared_services: RunningServices) -> Iterator[str]:
    """A database with nothing in it."""
    postgres: PostgresServer = shared_services.postgres
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        yield database_of(postgres, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Migration]:
    """Migrations of a pretended product without functions; tests add to them."""
    files = [
        Migration(1, "0001_first", "create table steps (n int); insert into steps values (1);"),
        Migration(2, "0002_second", "insert into steps values (2)"),
    ]
    monkeypatch.setattr(migrate_module, "migrations", lambda: files)
    monkeypatch.setattr(migrate_module, "functions", lambda: Functions(""))
    return files


async def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    async with connected(url) as connection:
        return await connection.query(sql)


def locks_a_table(migration: Migration) -> bool:
    """Whether it makes or drops an index of an existing table so that writes of the table wait meanwhile."""
    text = re.sub(r"--[^\n]*", "", migration.text).lower()
    made = set(re.findall(r"create table (\w+)", text))
    indexed = re.findall(r"create (?:unique )?index (?!concurrently)(?:\w+ )?on (\w+)", text)
    return not made.issuperset(indexed) or bool(re.search(r"drop index (?!concurrently)", text))


def test_an_index_of_an_existing_table_is_made_while_others_write() -> None:
    """In a file of its own that begins with `-- outside a transaction`, since Postgres allows it only there."""
    assert [migration.name for migration in migrations() if locks_a_table(migration)] == []


@pytest.mark.parametrize(
    ("text", "locks"),
    [
        ("create index sends_old on sends (at)", True),
        ("create unique index on sends (at)", True),
        ("drop index sends_old", True),
        ("create table notes (id int); create index notes_id on notes (id)", False),
        ("-- outside a transaction\ncreate index concurrently sends_old on sends (at)", False),
    ],
)
def test_an_index_that_writes_wait_for_is_found(text: str, locks: bool) -> None:
    assert locks_a_table(Migration(2, "0002_index", text)) == locks


def test_files_are_numbered_without_gaps_from_1() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))
    assert all(migration.name.startswith(f"{migration.version:04}_") for migration in migrations())


async def test_from_nothing_to_the_newest_and_then_nothing_more(empty_url: str) -> None:
    assert await migrate(empty_url) == [*(migration.name for migration in migrations()), "functions"]
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
    assert applied == [*(migration.name for migration in migrations()), "functions"]


async def test_later_files_are_applied_later(empty_url: str, pretended: list[Migration]) -> None:
    second = pretended.pop()
    assert await migrate(empty_url) == ["0001_first", "functions"]
    pretended.append(second)
    assert await migrate(empty_url) == ["0002_second"]
    pretended.append(Migration(3, "0003_third", "insert into steps values (3)"))
    assert await migrate(empty_url) == ["0003_third"]
    assert await rows(empty_url, "select n from steps order by n") == [(1,), (2,), (3,)]


async def test_file_that_fails_leaves_nothing_of_itself_and_can_be_run_again(
    empty_url: str, pretended: list[Migration]
) -> None:
    """Each file and its record are one transaction; the files before it stay applied."""
    pretended.append(
        Migration(3, "0003_third", "insert into steps values (3); select 1/0; insert into steps values (4)")
    )
    with pytest.raises(DatabaseError, match="division"):
        await migrate(empty_url)
    assert await rows(empty_url, "select n from steps order by n") == [(1,), (2,)]
    pretended[2] = Migration(3, "0003_third", "insert into steps values (3)")
    assert await migrate(empty_url) == ["0003_third", "functions"]
    assert await rows(empty_url, "select max(version) from migrations") == [(3,)]


async def test_file_that_has_to_wait_for_a_table_gives_up(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all transactions that need the table would wait behind it."""
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


async def test_numbered_file_that_was_changed_after_it_was_applied_is_refused(
    empty_url: str, pretended: list[Migration]
) -> None:
    """Otherwise two databases of one version would differ."""
    await migrate(empty_url)
    pretended[0] = pretended[0]._replace(text="create table steps (n bigint)")
    with pytest.raises(ChangedMigration, match=r"0001_first\.sql was changed after it was applied"):
        await migrate(empty_url)


async def call(url: str) -> object:
    return (await rows(url, "select f()"))[0][0]


def make_f(result: int) -> Functions:
    return Functions(f"create or replace function f() returns int language sql as 'select {result} + g()';\n{G}")


G = "create or replace function g() returns int language sql as 'select 0'"


async def test_functions_are_applied_again_when_one_has_changed_and_only_then(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if they call each other in another order, and back to an earlier text."""
    monkeypatch.setattr(migrate_module, "functions", lambda: make_f(1))
    assert await migrate(empty_url) == ["0001_first", "0002_second", "functions"]
    assert (await call(empty_url), await migrate(empty_url)) == (1, [])
    monkeypatch.setattr(migrate_module, "functions", lambda: make_f(2))
    assert (await migrate(empty_url), await call(empty_url)) == (["functions"], 2)
    monkeypatch.setattr(migrate_module, "functions", lambda: make_f(1))
    assert (await migrate(empty_url), await call(empty_url)) == (["functions"], 1)


OLD = "create or replace function f(n int) returns int language sql as 'select n'"
NEW = "create or replace function f(n int, m int) returns int language sql as 'select n + m'"


async def test_a_call_of_the_previous_release_works_until_a_numbered_file_drops_its_signature(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/stored-functions.md describes: an overload beside the old function, which goes one release later."""

    async def release(*texts: str) -> list[str]:
        monkeypatch.setattr(migrate_module, "functions", lambda: Functions(";\n".join(texts)))
        return await migrate(empty_url)

    await release(OLD)
    async with connected(empty_url) as previous:
        assert await previous.query("select f(1)") == [(1,)]
        await release(OLD.replace("'select n'", "'select f(n, 0)'"), NEW)
        assert await previous.query("select f(1)") == [(1,)]
        assert await rows(empty_url, "select f(1, 2)") == [(3,)]
        await release(NEW)
        assert await previous.query("select f(1)") == [(1,)], "no file names it, and it stays"
        pretended.append(Migration(3, "0003_third", "drop function if exists f(int)"))
        assert await release(NEW) == ["0003_third"]
        with pytest.raises(DatabaseError, match="does not exist"):
            await previous.query("select f(1)")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        (OLD.replace("returns int", "returns bigint"), "cannot change return type"),
        (OLD.replace("(n int) returns int", "(n int, out a int, out b int)").replace("n'", "n, n'"), "return type"),
        (OLD.replace("n int", "other int"), "cannot change name of input parameter"),
    ],
)
async def test_a_signature_that_is_changed_in_place_is_refused_and_the_function_stays(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch, changed: str, error: str
) -> None:
    monkeypatch.setattr(migrate_module, "functions", lambda: Functions(OLD))
    await migrate(empty_url)
    monkeypatch.setattr(migrate_module, "functions", lambda: Functions(changed))
    with pytest.raises(DatabaseError, match=error):
        await migrate(empty_url)
    assert await rows(empty_url, "select f(1)") == [(1,)]


async def test_an_overload_with_a_default_makes_the_old_call_ambiguous(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a new parameter of a function that stays has none."""
    text = f"{OLD};\n{NEW.replace('m int', 'm int default 0')}"
    monkeypatch.setattr(migrate_module, "functions", lambda: Functions(text))
    await migrate(empty_url)
    with pytest.raises(DatabaseError, match="is not unique"):
        await rows(empty_url, "select f(1)")


async def test_functions_of_which_one_fails_stay_as_they_were(
    empty_url: str, pretended: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "functions", lambda: make_f(1))
    await migrate(empty_url)
    broken = Functions(make_f(2).text + ";\ncreate function broken() returns nothing language sql as 'select 1'")
    monkeypatch.setattr(migrate_module, "functions", lambda: broken)
    with pytest.raises(DatabaseError, match="nothing"):
        await migrate(empty_url)
    assert await call(empty_url) == 1


async def test_process_waits_for_the_functions_of_its_release(
    empty_url: str,
    pretended: list[Migration],
    monkeypatch: pytest.MonkeyPatch,
    log_output: list[dict[str, Any]],
) -> None:
    """But not for those, if a later release has applied its own since."""
    monkeypatch.setattr(migrate_module, "functions", lambda: make_f(1))
    await migrate(empty_url)
    with closing(Pool(empty_url, 1)) as pool, trio.fail_after(10):
        await wait_migrated(pool)
        monkeypatch.setattr(migrate_module, "functions", lambda: make_f(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_migrated, pool)
            await wait_until(lambda: any("stored functions" in each.values() for each in log_output), "a warning")
            await migrate(empty_url)
        monkeypatch.setattr(migrate_module, "functions", lambda: make_f(1))
        await wait_migrated(pool)


def test_each_function_has_a_file_of_its_name_and_says_its_purpose() -> None:
    for file in FUNCTIONS.glob("*.sql"):
        text = file.read_text()
        assert text.startswith("-- "), f"{file.name} begins without a comment"
        assert re.findall(r"^create or replace function (\w+)\(", text, re.MULTILINE) == [file.stem]


async def test_file_outside_a_transaction_starts_again_after_a_failure(
    empty_url: str, pretended: list[Migration]
) -> None:
    index = "drop index concurrently if exists i;\ncreate unique index concurrently i on steps (n);"
    text = f"-- outside a transaction\n{index}"
    await migrate(empty_url)
    await rows(empty_url, "insert into steps values (1)")
    pretended.append(Migration(3, "0003_third", text))
    with pytest.raises(DatabaseError, match="could not create unique index"):
        await migrate(empty_url)
    assert await rows(empty_url, "select max(version) from migrations") == [(2,)]
    await rows(empty_url, "delete from steps")
    assert await migrate(empty_url) == ["0003_third"]
    assert await rows(empty_url, "select indisvalid from pg_index where indexrelid = 'i'::regclass") == [(True,)]
