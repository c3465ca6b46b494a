"""This service's database during an import, and what an import remembers there between its runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from store import sql
from store.errors import StoreError
from store.imports.source import SESSION
from store.postgres.driver import PostgresConnection, connected
from store.postgres.migrate import is_migrated

_sql = sql.load("imports/schema")

_LOCK: Final = 0x414C4F49  # "ALOI"

_SETTINGS: Final = """
set lock_timeout = '60s';
set statement_timeout = 0;
set plan_cache_mode = force_custom_plan;
set synchronous_commit = off
"""
"""A batch waits for sends, and longer than those wait for it. After a crash of Postgres the next run takes again what
the last moments had taken."""


class ImportRefused(StoreError):
    """The import cannot begin. The text says what is to be done."""


class NewDatabase:
    """The connection of the only import."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return await self._connection.query(statement, parameters or ())

    async def script(self, statements: str) -> None:
        """Run several statements in one transaction."""
        await self._connection.script(statements)

    async def replace(self, table: str, pieces: AsyncGenerator[bytes, None], columns: str = "") -> None:
        """Put rows in place of all rows of a table, in one transaction."""
        await self._connection.script(f"begin; truncate imported.{table}")
        async with aclosing(pieces):
            async for piece in pieces:
                await self._connection.copy_in(f"imported.{table}{columns}", piece)
        await self._connection.script("commit")

    async def add(self, table: str, rows: bytes) -> None:
        """Add rows to a table."""
        await self._connection.copy_in(f"imported.{table}", rows)


@asynccontextmanager
async def open_target(url: str, functions: Sequence[str]) -> AsyncGenerator[NewDatabase, None]:
    """The target, while the block runs.

    :param functions: statements that make the functions of the import.
    :raises Unavailable: if it cannot be reached.
    :raises ImportRefused: if it is not migrated, or another import runs.
    """
    async with connected(url) as connection:
        if not await is_migrated(connection):
            raise ImportRefused("the database is not that of this release: run `python -m store migrate` first")
        [(is_ours,)] = await connection.query(_sql.try_lock, {"key": _LOCK})
        if not is_ours:
            raise ImportRefused("another import into this database is running")
        await connection.script(SESSION)
        await connection.script(_SETTINGS)
        await connection.script("\n".join([_sql.create, *functions]))
        yield NewDatabase(connection)


async def check_source(target: NewDatabase, identity: str) -> None:
    """Remember the source.

    :raises ImportRefused: if the rows here came from another one.
    """
    await target.fetch(_sql.note_identity, {"identity": identity})
    if await target.fetch(_sql.identity) != [(identity,)]:
        raise ImportRefused(
            "rows of another source are here: import from that one, or into a database that was just migrated"
        )


async def check_rows(target: NewDatabase) -> None:
    """
    :raises ImportRefused: if the copies cannot be those of the source that earlier runs have read.
    """
    if await target.fetch(_sql.is_known) != [(True,)]:
        raise ImportRefused(
            "conversations of the source are here that no import remembers (the schema `imported` was dropped): import"
            " into a database that was just migrated"
        )
    if await target.fetch(_sql.has_lost_participants) == [(True,)]:
        raise ImportRefused("the source has no participants any longer: an earlier run has found some")


async def finish(target: NewDatabase) -> None:
    """Drop the copies."""
    await target.script(_sql.finish)
