"""Migrations: numbered SQL files, each applied once, under a lock, in a transaction with its own record.

A file whose first line is `-- outside a transaction` is for what Postgres allows only there, such as an index that is
made while the table is written to. Its statements are run one by one; run again after a failure, they begin anew.
"""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

import structlog
import trio

from store.errors import Locked, StoreError
from store.pool import Pool
from store.postgres import Connection, Error, connected

log = structlog.get_logger(__name__)

_LOCK: Final = 0x414C4F53  # "ALOS": the advisory lock of all migrations of this product

LOCK_TIMEOUT_S: Final = 0.2
"""A migration that waits for a table's lock makes everybody else wait behind it, and one that has another table's lock
already may wait for somebody who waits for that one. So it gives up, and with it all locks, long before Postgres would
look for a deadlock (1 s) and choose somebody to fail; then it tries again."""

PATIENCE_S: Final = 30.0
"""How long one file is tried again; then the migration fails, and is to be run again at a quieter time."""

PAUSE_S: Final = 0.1
"""Between two attempts: for those who waited."""

OUTSIDE_LOCK_TIMEOUT_S: Final = 60.0
"""Outside a transaction nobody waits behind what waits: it waits for transactions that began before it."""


class Migration(NamedTuple):
    """One file; `version` is its number."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All there are, in order."""
    files = resources.files("store").joinpath("migrations").iterdir()
    return sorted(
        Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text())
        for file in files
        if file.name.endswith(".sql")
    )


async def wait_migrated(pool: Pool) -> None:
    """Return once Postgres answers and has every migration that this release knows; until then say what is missing."""
    await pool.wait_ready()
    newest = migrations()[-1]
    while True:
        try:
            rows = await pool.fetch("select 1 from migrations where version = %s", (newest.version,))
        except (StoreError, Error) as error:
            rows = []
            log.warning("waiting_for_migrations", missing=newest.name, error=" ".join(str(error).split()))
        else:
            if not rows:
                log.warning("waiting_for_migrations", missing=newest.name, hint="run: python -m store migrate")
        if rows:
            return
        await trio.sleep(1)


async def migrate(url: str, *, upto: int | None = None) -> list[str]:
    """Bring the database to the newest version; the names of what was applied.

    Safe to run twice at once: the second waits for the first and finds nothing left to do.

    :param upto: stop after this version, for tests of later ones.
    :raises Unavailable: if Postgres cannot be reached.
    :raises Error: if a file fails; what came before it stays applied.
    """
    applied = []
    async with connected(url) as connection:
        await _wait_lock(connection)
        current = await _current(connection)
        for migration in migrations():
            if migration.version > current and (upto is None or migration.version <= upto):
                await _apply(connection, migration)
                applied.append(migration.name)
                log.info("migrated", name=migration.name)
    return applied


async def _wait_lock(connection: Connection) -> None:
    # Asked again and again: who waits inside of a query has a snapshot, for whose end an index that is made
    # concurrently waits in turn.
    while True:
        [(is_ours,)] = await connection.query("select pg_try_advisory_lock(%s)", (_LOCK,))
        if is_ours:
            return
        await trio.sleep(0.05)


async def _current(connection: Connection) -> int:
    await connection.query(
        "create table if not exists migrations (version int primary key, name text not null,"
        " applied timestamptz not null default clock_timestamp())"
    )
    [(version,)] = await connection.query("select coalesce(max(version), 0) from migrations")
    return int(version)


_OUTSIDE: Final = "-- outside a transaction\n"


async def _apply(connection: Connection, migration: Migration) -> None:
    """
    :raises Locked: if a table stayed locked.
    """
    # One simple query of several statements is one transaction.
    record = f"insert into migrations (version, name) values ({migration.version}, '{migration.name}')"  # noqa: S608
    if not migration.text.startswith(_OUTSIDE):
        await _set_lock_timeout(connection, LOCK_TIMEOUT_S)
        await _insist(connection, f"{migration.text};\n{record}")
        return
    await _set_lock_timeout(connection, OUTSIDE_LOCK_TIMEOUT_S)
    for statement in migration.text.split(";"):
        if statement.strip():
            await connection.script(statement)
    await connection.script(record)


async def _set_lock_timeout(connection: Connection, seconds: float) -> None:
    await connection.query(f"set lock_timeout = '{round(seconds * 1000)}ms'")


async def _insist(connection: Connection, text: str) -> None:
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
