"""What `python -m server ops doctor` asks Postgres about itself. Nothing is changed.

Some of it is shown to superusers and to roles with `pg_monitor` alone: others get None, or see their own sessions.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from store import sql
from store.postgres.migrate import migrations, wanting
from store.postgres.pool import Pool

_sql = sql.load("database_checks")

OLDEST_VERSION: Final = 150_000
"""The version as Postgres numbers it: 15.0. It has `unique nulls not distinct`."""

_INDEX: Final = re.compile(
    r"\b(create|drop)\s+(?:unique\s+)?index\s+(?:concurrently\s+)?(?:if\s+(?:not\s+)?exists\s+)?(\w+)", re.IGNORECASE
)


class DatabaseServer(Struct, frozen=True):
    """
    :ivar data_directory: None: this role may not know it.
    :ivar address: of the server; None: it is connected to by a Unix socket.
    :ivar is_tls: whether this connection is encrypted.
    """

    number: int
    version: str
    encoding: str
    is_standby: bool
    has_fsync: bool
    has_full_page_writes: bool
    synchronous_commit: str
    has_autovacuum: bool
    max_connections: int
    connections: int
    data_directory: str | None
    address: str | None
    is_tls: bool


class DatabaseRole(Struct, frozen=True):
    """
    :ivar sees_all: sessions of other roles, too.
    :ivar tables, sequences, functions: those that it cannot use as the processes do.
    """

    name: str
    is_superuser: bool
    sees_all: bool
    tables: list[str]
    sequences: list[str]
    functions: list[str]


class DatabaseIndexes(Struct, frozen=True):
    """
    :ivar missing: indexes that the migrations have made and that are gone.
    :ivar invalid: those that Postgres does not use: their making was interrupted.
    """

    missing: list[str]
    invalid: list[str]
    count: int


class OldTransaction(Struct, frozen=True):
    pid: int
    program: str
    state: str
    seconds: float


class Blocker(Struct, frozen=True):
    """A session that holds a lock for which others wait.

    :ivar pid: 0: a prepared transaction.
    :ivar seconds: since its transaction began; None: this role may not know it.
    :ivar waiting: sessions that wait for it.
    """

    pid: int
    program: str
    state: str
    seconds: float | None
    waiting: int


class LongWait(Struct, frozen=True):
    """Statements that wait for the same thing.

    :ivar event: kind and name, as in `pg_stat_activity`.
    :ivar seconds: of the longest.
    """

    event: str
    sessions: int
    seconds: float


class PreparedTransaction(Struct, frozen=True):
    name: str
    database: str
    seconds: float


class ReplicationSlot(Struct, frozen=True):
    """
    :ivar kept_bytes: of WAL.
    :ivar age: in transactions, of the rows that it keeps.
    """

    name: str
    is_active: bool
    kept_bytes: int
    age: int
    wal_status: str


class Replica(Struct, frozen=True):
    name: str
    state: str
    sync_state: str
    behind_bytes: int
    behind_s: float


class Horizon(Struct, frozen=True):
    """Ages in transactions."""

    oldest_row: int
    oldest_snapshot: int
    freeze_at: int


async def server(pool: Pool) -> DatabaseServer:
    """
    :raises StoreError: if Postgres does not answer; like all functions here.
    """
    [row] = await pool.fetch(_sql.server)
    return DatabaseServer(*row)


async def wanting_migrations(pool: Pool) -> list[str]:
    """What `python -m store migrate` has yet to apply, by name."""
    [(has_tables,)] = await pool.fetch(_sql.schema)
    return await wanting(pool) if has_tables else [each.name for each in migrations()]


async def role(pool: Pool) -> DatabaseRole:
    """The role of this process."""
    [row] = await pool.fetch(_sql.role)
    return DatabaseRole(*row)


async def indexes(pool: Pool) -> DatabaseIndexes:
    """The indexes that there are, beside those that the migrations make."""
    found = {name: bool(is_valid) for name, is_valid in await pool.fetch(_sql.indexes)}
    return DatabaseIndexes(
        sorted(expected_indexes() - found.keys()),
        sorted(name for name, is_valid in found.items() if not is_valid),
        len(found),
    )


def expected_indexes() -> set[str]:
    """The indexes that the migrations lead to, besides those of constraints, without which the tables would not be."""
    expected: set[str] = set()
    for migration in migrations():
        for verb, name in _INDEX.findall(re.sub(r"--[^\n]*", "", migration.text)):
            if verb.lower() == "create":
                expected.add(name)
            else:
                expected.discard(name)
    return expected


async def unchecked_constraints(pool: Pool) -> list[tuple[str, str]]:
    """(constraint, table) of those that Postgres has not checked for all rows."""
    return [(name, table) for name, table in await pool.fetch(_sql.constraints)]


async def old_transactions(pool: Pool, *, than_s: float) -> list[OldTransaction]:
    """At most 5, the oldest first."""
    return [OldTransaction(*row) for row in await pool.fetch(_sql.transactions, {"than_s": than_s})]


async def answer(pool: Pool) -> None:
    """Return when Postgres has answered a question that costs it nothing."""
    await pool.fetch(_sql.answer)


async def blockers(pool: Pool, *, than_s: float) -> list[Blocker]:
    """At most 5, by the number of sessions that wait; those that wait for a lock themselves are left out.

    :param than_s: the least age of a transaction; one whose age this role may not know counts as old.
    """
    return [Blocker(*row) for row in await pool.fetch(_sql.blockers, {"than_s": than_s})]


async def long_waits(pool: Pool, *, than_s: float) -> list[LongWait]:
    """What statements have waited for, for longer than that; not locks, and not their clients. At most 5."""
    return [LongWait(*row) for row in await pool.fetch(_sql.long_waits, {"than_s": than_s})]


async def prepared_transactions(pool: Pool) -> list[PreparedTransaction]:
    """At most 5, the oldest first."""
    return [PreparedTransaction(*row) for row in await pool.fetch(_sql.prepared)]


async def replication_slots(pool: Pool) -> list[ReplicationSlot]:
    """All slots."""
    return [ReplicationSlot(*row) for row in await pool.fetch(_sql.slots)]


async def replicas(pool: Pool) -> list[Replica]:
    """The standbys that are connected to this server."""
    return [Replica(*row) for row in await pool.fetch(_sql.replicas)]


async def horizon(pool: Pool) -> Horizon:
    """How old the oldest things are that Postgres must keep."""
    [row] = await pool.fetch(_sql.horizon)
    return Horizon(*row)
