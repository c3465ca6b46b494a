"""Runs: repeated, interrupted at any statement, killed, refused, and beside a service that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from random import Random
from typing import Any

import psycopg
import pytest
import trio

from embedded.postgres import PostgresServer
from store.errors import Unavailable
from store.imports.source import NotTheOldService
from store.imports.target import ImportRefused
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import PostgresConnection
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.conftest import Supply, database_of
from tests.people import new_device
from tests.store.imports.old_population import populate
from tests.store.imports.old_world import OldWorld, at, imported, imported_from, named, reasons, state, versions

SEEDS = range(int(os.environ.get("EXAMPLES", "6")))


async def test_a_second_run_changes_nothing(old: OldWorld, database_url: str) -> None:
    old.relax()
    populate(old, 7)
    first = await imported(old, database_url)
    before = versions(database_url)
    assert (await imported(old, database_url)).notes == first.notes
    assert versions(database_url) == before


class Interrupted(Exception):
    """The process is gone."""


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Closes all connections of an import before its n-th statement, like the end of its process."""
    left = 0
    open_connections: list[PostgresConnection] = []

    def arm(number: int) -> None:
        nonlocal left
        left = number
        open_connections.clear()

    def counted(name: str) -> Any:
        real = getattr(PostgresConnection, name)

        async def call(self: PostgresConnection, *arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if self not in open_connections:
                open_connections.append(self)
            if left == 0:
                for connection in open_connections:
                    connection.close_now()
                raise Interrupted
            return await real(self, *arguments)

        return call

    for name in ("query", "script", "copy_in"):
        monkeypatch.setattr(PostgresConnection, name, counted(name))
    return arm


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_number_of_interrupted_runs_makes_what_one_run_makes(
    old: OldWorld,
    database_url: str,
    databases: Supply,
    postgres_with_template: PostgresServer,
    interrupt_at: Any,
    seed: int,
) -> None:
    old.relax()
    populate(old, seed)
    whole = database_of(postgres_with_template, databases.take())
    interrupt_at(0)
    await imported(old, whole)
    random, runs = Random(seed), 0
    at_most = 12
    while True:
        # Each run may go further than the one before, so the last one comes to the end.
        interrupt_at(random.randrange(1, at_most))
        at_most += 6
        runs += 1
        try:
            await imported(old, database_url)
        except Interrupted:
            continue
        break
    assert runs > 1
    assert state(database_url) == state(whole)
    databases.give_back(whole.rpartition("/")[2])


def test_a_process_that_is_killed_goes_on_where_it_was(
    old: OldWorld, database_url: str, databases: Supply, postgres_with_template: PostgresServer
) -> None:
    """SIGKILL, at several moments."""
    old.relax()
    populate(old, 3)
    for n in range(3):
        old.conversation(f"g{n}", "u0", "u1", type="group")
    old.run(
        "insert into messages (id, conversation_id, sender_id, encrypted_content, created_at)"
        " select md5('x' || n)::uuid, md5('g' || n %% 3)::uuid, md5('u' || n %% 2)::uuid, repeat('c', 500),"
        " %s + n * interval '1 second' from generate_series(1, 8000) n",
        at(100),
    )
    whole = database_of(postgres_with_template, databases.take())
    trio.run(imported, old, whole)
    command = [sys.executable, "-m", "store", "import", old.url, "--json"]
    environment = {**os.environ, "DATABASE_URL": database_url, "LOG_LEVEL": "error"}
    probe = psycopg.connect(database_url, autocommit=True)
    reached = set()
    for table in ("imported.old_users", "imported.arrivals", "imported.messages"):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as running:
            while running.poll() is None:
                with suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                    if probe.execute(f"select from {table} limit 1".encode()).rowcount:
                        reached.add(table)
                        running.kill()
                        running.wait()
    probe.close()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert "imported.messages" in reached
    assert state(database_url) == state(whole)
    databases.give_back(whole.rpartition("/")[2])


async def test_the_target_has_to_be_migrated(old: OldWorld, old_template: PostgresServer) -> None:
    """Nothing is written before."""
    with psycopg.connect(old_template.url, autocommit=True) as connection:
        connection.execute("create database unmigrated")
    url = database_of(old_template, "unmigrated")
    with pytest.raises(ImportRefused, match=r"python -m store migrate"):
        await imported(old, url)
    with psycopg.connect(url) as connection:
        assert connection.execute("select to_regnamespace('imported')").fetchone() == (None,)
    await migrate(url)
    await imported(old, url)


async def test_the_source_is_the_old_service(old: OldWorld, database_url: str) -> None:
    old.run("alter table messages drop column nonce")
    old.run("alter table auth.users drop column banned_until")
    with pytest.raises(NotTheOldService, match=r"auth\.users\.banned_until, public\.messages\.nonce"):
        await imported(old, database_url)


async def test_a_role_from_which_policies_hide_rows_is_refused(old: OldWorld, database_url: str) -> None:
    """Else the hidden rows would be missing without a word."""
    old.user("ann")
    old.run("alter table messages enable row level security")
    old.run("create role reader login")
    try:
        old.run("grant usage on schema auth to reader")
        old.run("grant select on all tables in schema public, auth to reader")
        url = f"{old.url}{'&' if '?' in old.url else '?'}options=-c%20role%3Dreader"
        with pytest.raises(NotTheOldService, match="row-level security"):
            await imported_from(url, database_url)
    finally:
        old.run("drop owned by reader")
        old.run("drop role reader")


async def test_the_source_is_only_read(old: OldWorld, database_url: str) -> None:
    """With a role that may do no more, and unchanged."""
    old.relax()
    populate(old, 5)
    before = versions(old.url)
    old.run(f"alter database {old.url.rpartition('/')[2]} set default_transaction_read_only = on")
    await imported(old, database_url)
    assert versions(old.url) == before


async def test_another_source_is_refused(old: OldWorld, database_url: str, old_template: PostgresServer) -> None:
    old.user("ann")
    await imported(old, database_url)
    with pytest.raises(ImportRefused, match="another source"):
        await imported_from(database_of(old_template, "old_template"), database_url)


async def test_an_import_that_is_forgotten_cannot_be_repeated(old: OldWorld, database_url: str, pool: Pool) -> None:
    """It would take each message a second time."""
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("direct", "ann", "ben")
    await imported(old, database_url)
    await pool.fetch("drop schema imported cascade")
    with pytest.raises(ImportRefused, match="just migrated"):
        await imported(old, database_url)


async def test_a_source_without_participants_is_refused(old: OldWorld, database_url: str) -> None:
    """All groups would lose theirs."""
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("group", "ann", "ben", type="group")
    await imported(old, database_url)
    old.run("delete from conversation_participants")
    with pytest.raises(ImportRefused, match="no participants"):
        await imported(old, database_url)


async def test_only_one_import_runs(old: OldWorld, database_url: str) -> None:
    outcomes: list[str] = []

    async def run() -> None:
        try:
            await imported(old, database_url)
        except ImportRefused as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)
    assert set(outcomes) == {"another import into this database is running"}
    assert len(outcomes) <= 2


async def test_a_source_that_is_away_is_named(database_url: str) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await imported_from("postgresql://postgres@127.0.0.1:1/old", database_url)


async def test_an_import_runs_beside_users_who_write(old: OldWorld, database_url: str, pool: Pool) -> None:
    """Both number messages of one conversation: no number is missing or given twice, and no send fails."""
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("direct", "ann", "ben")
    old.message("m0", "direct", "ann", 0)
    await imported(old, database_url)
    ann = await new_device(pool, named("ann").bytes)
    cache, is_over, outcomes = ParticipantsCache(), False, []

    async def write() -> None:
        n = 0
        while not is_over:
            n += 1
            message = NewMessage(named("direct").bytes, ann.user, n.to_bytes(16, "big"), "text", b"new", None, None)
            outcomes.extend(await send(pool, cache, [message]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for run in range(1, 4):
            for n in range(20):
                old.message(f"m{run}.{n}", "direct", "ben", run + n / 100)
            made = await imported(old, database_url)
            assert not [table for table, _ in reasons(made) if table != "messages"]
        is_over = True
    assert [outcome for outcome in outcomes if not isinstance(outcome, Committed)] == []
    found = await pool.fetch("select seq, created, id from messages order by seq")
    assert [seq for seq, _, _ in found] == [*range(1, len(found) + 1)]
    assert len(found) == 61 + len(outcomes)
    assert [created for _, created, _ in found] == sorted(created for _, created, _ in found)
    old_ids = [named(f"m{run}.{n}").bytes for run in range(1, 4) for n in range(20)]
    assert [id_ for _, _, id_ in found if id_ in old_ids] == old_ids
