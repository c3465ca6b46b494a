"""`python -m store restored`: after a data directory was restored from a copy, devices must fetch everything again."""

from __future__ import annotations

import sys

from runtime.config import Config
from store import sql
from store.errors import StoreError
from store.postgres.driver import connected
from store.postgres.migrate import is_migrated

_sql = sql.load("history")


class NotMigrated(StoreError):
    """The database lacks migrations of this release."""


async def begin_history(url: str) -> tuple[str, dict[str, int]]:
    """Begin another history: all cursors that were issued before become foreign.

    Safe to run again, and next to running processes: gateways notice within half a minute.

    :returns: the new history, and for each table how many rows had transaction numbers of another cluster.
    :raises Unavailable: if Postgres cannot be reached, or the outcome is unknown: run it again.
    :raises NotMigrated: if `python -m store migrate` has not been run.
    """
    async with connected(url) as connection:
        if not await is_migrated(connection):
            raise NotMigrated("the database is not that of this release: run `python -m store migrate` first")
        rows = await connection.query(_sql.begin)
        [(history,)] = await connection.query(_sql.current)
    return str(history), dict(rows)


async def restored(config: Config) -> None:
    """Begin another history, and print the changes."""
    history, rows = await begin_history(config.database_url)
    lines = [f"The history is {history} now: each device fetches everything again when it syncs next."]
    lines += [f"{table}: {count} rows had transaction numbers of another cluster." for table, count in rows.items()]
    sys.stdout.write("\n".join([*lines, ""]))
