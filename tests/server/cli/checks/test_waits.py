"""What `ops doctor` says of a Postgres that answers late: on servers where a session really holds the others up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio

from embedded.postgres import PostgresServer
from server.cli.checks import waits
from server.cli.checks.finding import Finding, Level
from server.cli.checks.waits import check_round_trip, check_waits
from store.database_checks import blockers
from store.postgres.pool import Pool
from tests.pg_proxy import open_proxy
from tests.waiting import wait_until

COMMITS_WAIT = "alter system set synchronous_standby_names = '{}'"


@asynccontextmanager
async def waiting(pool: Pool, statement: str, event: str) -> AsyncGenerator[None]:
    """A statement that waits during the block for what Postgres calls so."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.fetch, statement)
        sql = "select count(*) from pg_stat_activity where concat_ws(':', wait_event_type, wait_event) = %s"

        async def is_waiting() -> bool:
            return await pool.fetch(sql, (event,)) == [(1,)]

        await wait_until(is_waiting, f"a statement waits for {event}")
        yield
        nursery.cancel_scope.cancel()


async def found(pool: Pool, check: str) -> list[Finding]:
    return [each async for each in check_waits(pool) if each.check == check]


async def test_a_session_for_whose_lock_others_wait_is_named_with_the_command_that_ends_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [each.level for each in await found(pool, "locks")] == [Level.OK]
    monkeypatch.setattr(waits, "HELD_S", 0.0)
    with psycopg.connect(pool.url, application_name="a forgotten psql") as forgotten:
        forgotten.execute("lock table users in exclusive mode")
        pid = forgotten.info.backend_pid
        async with waiting(pool, "select from users for update", "Lock:relation"):
            [finding] = await found(pool, "locks")
    assert finding.level is Level.ERROR
    assert f"process {pid} (a forgotten psql, idle in transaction) holds a lock" in finding.found
    assert "sessions that wait for it: 1" in finding.found
    assert f"select pg_terminate_backend({pid})" in finding.advice


async def test_a_lock_that_is_younger_than_the_given_age_is_none_to_name(pool: Pool) -> None:
    with psycopg.connect(pool.url) as other:
        other.execute("lock table users in exclusive mode")
        async with waiting(pool, "select from users for update", "Lock:relation"):
            assert await blockers(pool, than_s=3600) == []
            assert [each.pid for each in await blockers(pool, than_s=0)] == [other.info.backend_pid]


async def test_commits_that_wait_for_a_standby_are_named(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "HELD_S", 0.0)
    pool = Pool(own_postgres.url, 3)
    with psycopg.connect(own_postgres.url, autocommit=True) as operator:
        operator.execute(COMMITS_WAIT.format("nobody"))
        operator.execute("alter role postgres set synchronous_commit = on")
        operator.execute("select pg_reload_conf()")
        async with waiting(pool, "create table late ()", "IPC:SyncRep"):
            [finding] = await found(pool, "waits in Postgres")
        operator.execute(COMMITS_WAIT.format(""))
        operator.execute("select pg_reload_conf()")
    assert finding.level is Level.WARNING
    assert finding.found.startswith("for IPC:SyncRep, the longest for ")
    assert "synchronous standby" in finding.advice
    pool.close()


async def test_a_slow_network_to_postgres_is_a_warning(pool: Pool) -> None:
    port = int(pool.url.rpartition("/")[0].rpartition(":")[2])
    async with open_proxy(port) as proxy:
        slow = Pool(proxy.url(pool.url), 2)
        assert [each.level for each in await found(slow, "way to Postgres")] == [Level.OK]
        proxy.delay_s = 0.1
        [finding] = await found(slow, "way to Postgres")
        slow.close()
    assert finding.level is Level.WARNING
    assert "network" in finding.advice


@pytest.mark.parametrize(("seconds", "level"), [(0.001, Level.OK), (0.04, Level.OK), (0.06, Level.WARNING)])
def test_a_way_of_more_than_50_ms_is_a_warning(seconds: float, level: Level) -> None:
    assert check_round_trip(seconds).level is level
