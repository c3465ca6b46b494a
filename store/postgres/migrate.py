"""Migrations: numbered SQL files, each applied once; then the stored functions, whenever one of them has changed.

All of it happens under one lock. A numbered file is applied in one transaction with its record, which holds its
checksum: a file that changes after it was applied is refused. The functions (`store/sql/functions/`, one file each) are
applied together in one transaction, whenever the checksum over all of them differs (like Flyway's repeatable
migrations).

A numbered file whose first line is `-- outside a transaction` is for statements that Postgres allows only there, such
as `create index concurrently`. Its statements are run one by one. After a failure the next run starts with the first
statement again.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Final, NamedTuple

import structlog
import trio

from store.errors import Locked, StoreError
from store.postgres.driver import PostgresConnection, connected
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

_LOCK: Final = 0x414C4F53  # "ALOS": the advisory lock of all migrations of this product

LOCK_TIMEOUT_S: Final = 0.2
"""All other transactions queue behind a migration that waits for a table's lock; and a migration that already holds
another table's lock may deadlock with one of them. So it gives up, and releases all its locks, long before Postgres
would look for a deadlock (1 s) and choose a transaction to fail. Then it tries again."""

PATIENCE_S: Final = 30.0
"""How long one file is retried. Then the migration fails, and an operator runs it again at a quieter time."""

PAUSE_S: Final = 0.1
"""Between two attempts, for the transactions that waited."""

OUTSIDE_LOCK_TIMEOUT_S: Final = 60.0
"""A statement outside a transaction blocks no others while it waits for transactions that began before it."""


class ChangedMigration(StoreError):
    """A numbered file differs from the one that was applied to this database."""


class Migration(NamedTuple):
    """One numbered file; `version` is its number."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()


class Functions(NamedTuple):
    """All stored functions of this release as one text; `checksum` identifies the release's set."""

    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All numbered files, in order. Read once: they are those of this release."""
    files = resources.files("store.sql").joinpath("migrations").iterdir()
    found = [
        Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text())
        for file in files
        if file.name.endswith(".sql")
    ]
    return tuple(sorted(found))


@cache
def functions() -> Functions:
    """All files of `store/sql/functions/`, in order of their names. Read once: they are those of this release."""
    files = resources.files("store.sql").joinpath("functions").iterdir()
    texts = sorted((file.name, file.read_text()) for file in files if file.name.endswith(".sql"))
    return Functions("\n".join(text for _, text in texts))


async def wait_migrated(pool: Pool) -> None:
    """Return once Postgres answers and has everything that this release needs; until then log what is missing.

    A later release may have applied its own migrations already.
    """
    await pool.wait_ready()
    newest, parameters = migrations()[-1], (migrations()[-1].version, functions().checksum)
    while True:
        try:
            rows = await pool.fetch(_IS_MIGRATED, parameters)
        except StoreError as error:
            rows = []
            log.warning("waiting_for_migrations", missing=newest.name, error=" ".join(str(error).split()))
        if rows == [(True, True)]:
            return
        if rows:
            missing = "stored functions" if rows[0][0] else newest.name
            log.warning("waiting_for_migrations", missing=missing, hint="run: python -m store migrate")
        await trio.sleep(1)


async def wanting(pool: Pool) -> list[str]:
    """What this release needs and the database lacks, by name; the table `migrations` must exist."""
    known = {int(version) for version, _ in await pool.fetch(_KNOWN)}
    lacking = [each.name for each in migrations() if each.version not in known]
    [(_, has_functions)] = await pool.fetch(_IS_MIGRATED, (0, functions().checksum))
    return lacking if has_functions else [*lacking, "stored functions"]


async def is_migrated(connection: PostgresConnection) -> bool:
    """Whether the database has everything that this release needs."""
    [(has_tables,)] = await connection.query("select to_regclass('migrations') is not null")
    if not has_tables:
        return False
    parameters = (migrations()[-1].version, functions().checksum)
    return await connection.query(_IS_MIGRATED, parameters) == [(True, True)]


_IS_MIGRATED: Final = (
    "select exists (select from migrations where version = %s), exists (select from function_sets where checksum = %s)"
)


async def migrate(url: str) -> list[str]:
    """Bring the database to the newest version; return the names of the applied files.

    Safe to run twice at once: the second run waits for the first and finds nothing left to do.

    :raises Unavailable: if Postgres cannot be reached.
    :raises ChangedMigration: if a numbered file was changed after it was applied here.
    :raises DatabaseError: if a file fails; the files before it stay applied.
    """
    applied = []
    async with connected(url) as connection:
        await _wait_lock(connection)
        known = await _known(connection)
        for migration in migrations():
            if migration.version in known:
                _check(migration, known[migration.version])
            else:
                await _apply(connection, migration)
                applied.append(migration.name)
                log.info("migrated", name=migration.name)
        if await _apply_functions(connection):
            applied.append("functions")
            log.info("migrated", name="functions")
    return applied


async def _wait_lock(connection: PostgresConnection) -> None:
    # Polls, because a session that waits inside a query holds a snapshot, and `create index concurrently` waits for
    # the end of all older snapshots.
    while True:
        [(is_ours,)] = await connection.query("select pg_try_advisory_lock(%s)", (_LOCK,))
        if is_ours:
            return
        await trio.sleep(0.05)


async def _known(connection: PostgresConnection) -> dict[int, str]:
    """The numbered files that were applied, and their checksums."""
    await connection.query(
        "create table if not exists migrations (version int primary key, name text not null, checksum text not null,"
        " applied timestamptz not null default clock_timestamp())"
    )
    await connection.query(
        "create table if not exists function_sets (checksum text primary key,"
        " applied timestamptz not null default clock_timestamp())"
    )
    return {int(version): str(checksum) for version, checksum in await connection.query(_KNOWN)}


_KNOWN: Final = "select version, checksum from migrations"


def _check(migration: Migration, checksum: str) -> None:
    if migration.checksum != checksum:
        raise ChangedMigration(
            f"{migration.name}.sql was changed after it was applied to this database:"
            " put the change into a file with a new number (or, in development, remove the database: make clean)"
        )


_OUTSIDE: Final = "-- outside a transaction\n"


async def _apply(connection: PostgresConnection, migration: Migration) -> None:
    """
    :raises Locked: if a table stayed locked.
    """
    # One simple query of several statements is one transaction.
    values = f"{migration.version}, '{migration.name}', '{migration.checksum}'"
    record = f"insert into migrations (version, name, checksum) values ({values})"  # noqa: S608
    if not migration.text.startswith(_OUTSIDE):
        await _set_lock_timeout(connection, LOCK_TIMEOUT_S)
        await _insist(connection, f"{migration.text};\n{record}")
        return
    await _set_lock_timeout(connection, OUTSIDE_LOCK_TIMEOUT_S)
    for statement in migration.text.split(";"):
        if statement.strip():
            await connection.script(statement)
    await connection.script(record)


async def _apply_functions(connection: PostgresConnection) -> bool:
    """Apply the functions if they have changed; return whether they had.

    :raises Locked: if a table with a trigger stayed locked.
    """
    wanted = functions()
    latest = await connection.query("select checksum from function_sets order by applied desc limit 1")
    if latest == [(wanted.checksum,)]:
        return False
    record = (
        f"insert into function_sets (checksum) values ('{wanted.checksum}')"  # noqa: S608
        " on conflict (checksum) do update set applied = excluded.applied"
    )
    await _set_lock_timeout(connection, LOCK_TIMEOUT_S)
    # Functions call each other in an order other than that of their file names.
    await _insist(connection, f"set local check_function_bodies = off;\n{wanted.text};\n{record}")
    return True


async def _set_lock_timeout(connection: PostgresConnection, seconds: float) -> None:
    await connection.query(f"set lock_timeout = '{round(seconds * 1000)}ms'")


async def _insist(connection: PostgresConnection, text: str) -> None:
    deadline = trio.current_time() + PATIENCE_S
    while True:
        try:
            await connection.script(text)
        except Locked:
            if trio.current_time() > deadline:
                raise
            await trio.sleep(PAUSE_S)
        else:
            return
