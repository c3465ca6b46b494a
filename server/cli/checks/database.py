"""Checks of Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from server.cli.checks.configuration import is_local
from server.cli.checks.finding import Finding, error, ok, warning
from server.cli.shown import shown_span
from store import database_checks as checks
from store.clock import Clock
from store.database_checks import DatabaseRole, DatabaseServer
from store.postgres.pool import Pool

OLD_S: Final = 300.0
"""A transaction of the processes takes 10 s at most. One that is this old keeps vacuum and cursors from going on."""

ERROR_S: Final = 3600.0
CLOCK_S: Final = 1.0
"""As far may this machine's clock be off: logs, certificates and the ids of messages have its time."""

KEPT_BYTES: Final = 1024**3
"""WAL that a slot keeps without need: Postgres' disk fills."""

BEHIND_S: Final = 30.0
SNAPSHOT_AGE: Final = 10_000_000
"""Transactions that vacuum cannot clean up after: some hours of a busy server."""


async def check_database(pool: Pool) -> AsyncIterator[Finding]:
    """Findings about Postgres, which answers.

    :raises StoreError: if it stops answering.
    """
    server = await checks.server(pool)
    for finding in _server(server):
        yield finding
    for finding in _settings(server):
        yield finding
    role = await checks.role(pool)
    for finding in _role(role):
        yield finding
    if role.tables:
        # The rest reads tables.
        return
    lacking = await checks.wanting_migrations(pool)
    if lacking:
        yield error("schema", f"the database lacks {', '.join(lacking)}", "run: python -m store migrate")
        return
    yield ok("schema", "all migrations and stored functions of this release are applied")
    for each in (_indexes, _clock, _transactions, _slots, _replicas, _horizon):
        async for finding in each(pool):
            yield finding


def _server(server: DatabaseServer) -> list[Finding]:
    found = []
    if server.number < checks.OLDEST_VERSION:
        found.append(error("Postgres version", server.version, "use Postgres 15 or newer"))
    else:
        found.append(ok("Postgres version", server.version))
    if server.encoding != "UTF8":
        advice = "make a database with encoding 'UTF8', and restore into it"
        found.append(error("Postgres encoding", server.encoding, advice))
    if server.is_standby:
        advice = "let DATABASE_URL name the server that takes writes, or all hosts of the cluster"
        found.append(error("Postgres role in replication", "a standby, which takes no writes", advice))
    if server.address is not None and not is_local(server.address) and not server.is_tls:
        advice = "add sslmode=verify-full to DATABASE_URL, unless that network is yours alone"
        found.append(warning("TLS to Postgres", f"{server.address} without TLS", advice))
    else:
        found.append(ok("TLS to Postgres", "with TLS" if server.is_tls else "on this machine"))
    room = server.max_connections - server.connections
    if room < server.max_connections // 10:
        advice = "raise max_connections, or lower DATABASE_POOL: a process that finds none waits"
        text = f"{server.connections} of {server.max_connections} are in use"
        found.append(warning("Postgres connections", text, advice))
    else:
        found.append(ok("Postgres connections", f"{server.connections} of {server.max_connections} are in use"))
    return found


def _settings(server: DatabaseServer) -> list[Finding]:
    found = []
    if not server.has_fsync or not server.has_full_page_writes:
        advice = "set fsync and full_page_writes to on: a crash would lose acknowledged messages, or the database"
        found.append(error("Postgres durability", "fsync or full_page_writes is off", advice))
    elif server.synchronous_commit == "off":
        advice = "set synchronous_commit to on: a crash would lose acknowledged messages (docs/guarantees.md, P1)"
        found.append(error("Postgres durability", "synchronous_commit is off", advice))
    else:
        found.append(ok("Postgres durability", f"fsync is on, synchronous_commit is {server.synchronous_commit}"))
    if not server.has_autovacuum:
        advice = "set autovacuum to on: tables grow, and plans go wrong"
        found.append(error("Postgres autovacuum", "off", advice))
    return found


def _role(role: DatabaseRole) -> Iterator[Finding]:
    lacking = [*role.tables, *role.sequences, *role.functions]
    if lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        advice = f"grant all on all tables, sequences and functions in schema public to {role.name}"
        yield error("Postgres rights", f"{role.name} cannot use {', '.join(lacking[:5])}{more}", advice)
    elif role.is_superuser:
        advice = "let the processes log in as a role that owns the database and is no superuser"
        yield warning("Postgres rights", f"{role.name} is a superuser", advice)
    else:
        yield ok("Postgres rights", f"{role.name} may do what the processes do")
    if not role.sees_all:
        advice = f"grant pg_monitor to {role.name}: it sees its own sessions alone, so the checks below may miss others"
        yield warning("Postgres monitoring", f"{role.name} lacks pg_monitor", advice)


async def _indexes(pool: Pool) -> AsyncIterator[Finding]:
    found = await checks.indexes(pool)
    if found.missing:
        advice = "make them again as store/schema.sql has them, with create index concurrently"
        yield error("indexes", f"missing: {', '.join(found.missing)}", advice)
    if found.invalid:
        advice = "; ".join(f"reindex index concurrently {name}" for name in found.invalid)
        yield error("indexes", f"not valid, so not used: {', '.join(found.invalid)}", advice)
    if not found.missing and not found.invalid:
        yield ok("indexes", f"all {found.count} are there and valid")
    unchecked = await checks.unchecked_constraints(pool)
    if unchecked:
        names = ", ".join(f"{name} of {table}" for name, table in unchecked)
        advice = "; ".join(f"alter table {table} validate constraint {name}" for name, table in unchecked)
        yield warning("constraints", f"not checked for all rows: {names}", advice)


async def _clock(pool: Pool) -> AsyncIterator[Finding]:
    clock = Clock(pool)
    await clock.measure()
    yield check_clock("Postgres", clock.wall_offset_us() / 1e6)


def check_clock(service: str, ahead_s: float, allowed_s: float = CLOCK_S) -> Finding:
    """
    :param ahead_s: of this machine.
    """
    which = "ahead of" if ahead_s >= 0 else "behind"
    text = f"this machine is {abs(ahead_s):.3f} s {which} {service}"
    if abs(ahead_s) <= allowed_s:
        return ok(f"clock of {service}", text)
    return warning(f"clock of {service}", text, "let both machines take the time by NTP (chrony, systemd-timesyncd)")


async def _transactions(pool: Pool) -> AsyncIterator[Finding]:
    old = await checks.old_transactions(pool, than_s=OLD_S)
    for each in old:
        who = f"{each.program or 'unnamed'}, {each.state or 'unknown'}"
        text = f"process {each.pid} ({who}) since {shown_span(each.seconds)}"
        advice = f"end it: select pg_terminate_backend({each.pid}); vacuum and the cursors of devices wait for it"
        make = error if each.seconds > ERROR_S else warning
        yield make("long transactions", text, advice)
    prepared = await checks.prepared_transactions(pool)
    for one in prepared:
        text = f"'{one.name}' in database {one.database}, since {shown_span(one.seconds)}"
        advice = f"there: rollback prepared '{one.name}', or commit it; this product prepares none"
        yield (error if one.seconds > OLD_S else warning)("prepared transactions", text, advice)
    if not old and not prepared:
        yield ok("long transactions", f"none is older than {shown_span(OLD_S)}, and none is prepared")


async def _slots(pool: Pool) -> AsyncIterator[Finding]:
    slots = await checks.replication_slots(pool)
    for each in slots:
        text = f"{each.name} keeps {each.kept_bytes // 1024**2} MiB of WAL"
        drop = f"select pg_drop_replication_slot('{each.name}')"
        if each.wal_status == "lost":
            yield error("replication slots", f"{each.name} has lost its WAL", f"make its standby anew, and {drop}")
        elif not each.is_active:
            make = error if each.kept_bytes > KEPT_BYTES else warning
            advice = f"start its standby, or {drop}: Postgres' disk fills, and vacuum waits"
            yield make("replication slots", f"{text}, and nothing reads it", advice)
        elif each.kept_bytes > KEPT_BYTES:
            advice = "look at the standby that reads it: it is behind, and Postgres' disk fills"
            yield warning("replication slots", text, advice)
        else:
            yield ok("replication slots", text)
    if not slots:
        yield ok("replication slots", "there are none")


async def _replicas(pool: Pool) -> AsyncIterator[Finding]:
    for each in await checks.replicas(pool):
        text = f"{each.name} ({each.sync_state}) is {each.behind_bytes // 1024} KiB and {each.behind_s:.1f} s behind"
        if each.state != "streaming" or each.behind_s > BEHIND_S:
            advice = "look at its log, its network and its disk: a fail-over to it would lose, or wait for, that much"
            yield warning("replication", f"{text}, {each.state}", advice)
        else:
            yield ok("replication", text)


async def _horizon(pool: Pool) -> AsyncIterator[Finding]:
    found = await checks.horizon(pool)
    if found.oldest_snapshot > SNAPSHOT_AGE:
        advice = "end the session with the oldest backend_xmin in pg_stat_activity: vacuum cannot clean up"
        yield warning("oldest snapshot", f"{found.oldest_snapshot} transactions old", advice)
    else:
        yield ok("oldest snapshot", f"{found.oldest_snapshot} transactions old")
    if found.oldest_row > 2 * found.freeze_at:
        advice = "find what holds vacuum up (slots, prepared and long transactions), then: vacuum (freeze)"
        yield error("transaction numbers", f"rows are {found.oldest_row} transactions old", advice)
    else:
        yield ok("transaction numbers", f"the oldest rows are {found.oldest_row} transactions old")
