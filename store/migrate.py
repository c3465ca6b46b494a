"""Migrations: numbered SQL files, each applied once, under a lock, in a transaction with its own record.

A file whose first line is `-- outside a transaction` is for what Postgres allows only there, such as an index that is
made while the table is written to. Its statements are run one by one; run again after a failure, they begin anew.
"""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

import structlog
import trio

from store.errors import StoreError
from store.pool import Pool
from store.postgres import Connection, Error, connected

log = structlog.get_logger(__name__)

_LOCK: Final = 0x414C4F53  # "ALOS": the advisory lock of all migrations of this product

LOCK_TIMEOUT_S: Final = 5
"""A migration that waits for a table's lock makes everybody else wait behind it; better to fail and be run again."""


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
        await connection.query(f"set lock_timeout = '{LOCK_TIMEOUT_S}s'")
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
    # One simple query of several statements is one transaction.
    record = f"insert into migrations (version, name) values ({migration.version}, '{migration.name}')"  # noqa: S608
    if not migration.text.startswith(_OUTSIDE):
        await connection.script(f"{migration.text};\n{record}")
        return
    for statement in migration.text.split(";"):
        if statement.strip():
            await connection.script(statement)
    await connection.script(record)
