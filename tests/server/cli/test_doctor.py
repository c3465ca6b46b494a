"""`ops doctor`: each fault is found, and said with what to do; on services where the fault is real."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.redis import RedisServer
from runtime.config import Config
from server.cli.checks import database, machine
from server.cli.checks.configuration import check_configuration
from server.cli.checks.database import check_clock
from server.cli.checks.finding import Finding, Level
from server.cli.checks.machine import check_database_disk, check_disk, check_open_files
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from store.redis.checks import RedisState, describe
from tests.memory import in_memory
from tests.rows import each_row
from tests.server.cli.shell_world import OperatorDesk, Shell, open_desk

GOOD = {"TRUSTED_PROXIES": "127.0.0.1"}


async def found(desk: OperatorDesk) -> dict[str, list[dict[str, Any]]]:
    """Findings that are not in order, by level."""
    by_level: dict[str, list[dict[str, Any]]] = {"error": [], "warning": [], "ok": []}
    for row in await desk.rows("doctor"):
        by_level[row["level"]].append(row)
    return by_level


async def only(desk: OperatorDesk, level: str, check: str) -> dict[str, Any]:
    """The one finding of a check, which has this level and says what to do."""
    [row] = [row for row in await desk.rows("doctor") if row["check"] == check and row["level"] != "ok"]
    assert row["level"] == level, row
    assert row["advice"]
    return row


async def test_on_services_that_are_in_order_nothing_is_an_error_and_all_is_named(pool: Pool, redis_url: str) -> None:
    async with open_desk(pool, redis_url, trusted_proxies="127.0.0.1") as desk:
        by_level = await found(desk)
    # The services of tests do without durability, and their role is a superuser.
    assert {row["check"] for row in by_level["error"]} == {"Postgres durability"}
    assert {row["check"] for row in by_level["warning"]} <= {"Postgres rights", "open files", "disk of Postgres"}
    assert {row["check"] for row in by_level["ok"]} >= {
        *("variables", "proxies", "TLS to Redis", "port for operators"),
        *("Postgres version", "TLS to Postgres", "Postgres connections", "schema", "indexes", "clock of Postgres"),
        *("long transactions", "replication slots", "oldest snapshot", "transaction numbers"),
        *("REDIS_URL: version", "REDIS_URL: eviction", "REDIS_URL: memory", "clock of REDIS_URL", "object store"),
    }
    assert all(not row["advice"] for row in by_level["ok"])


async def test_the_exit_status_is_that_of_the_worst_finding_and_errors_come_first(
    pool: Pool, redis_url: str, own_redis: RedisServer
) -> None:
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL=redis_url, **GOOD)
    typed = await shell.types("doctor", "--json")
    assert typed.status == 2
    levels = [row["level"] for row in typed.rows]
    assert levels == sorted(levels, key=["error", "warning", "ok"].index)
    typed = await shell.types("doctor")
    assert typed.out.split()[:4] == ["level", "check", "found", "advice"]


async def test_services_that_are_away_are_errors_of_the_table() -> None:
    shell = Shell(DATABASE_URL="postgresql://alo:hunter2@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1")
    typed = await shell.types("doctor", "--json")
    assert typed.status == 2
    errors = {row["check"]: row for row in typed.rows if row["level"] == "error"}
    assert errors.keys() == {"Postgres", "REDIS_URL"}
    assert "start Postgres" in errors["Postgres"]["advice"]
    assert "start Redis" in errors["REDIS_URL"]["advice"]
    assert "hunter2" not in typed.out


async def test_a_database_that_is_not_migrated_is_an_error(own_postgres: PostgresServer, redis_url: str) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("create database empty")
    url = f"{own_postgres.url.rpartition('/')[0]}/empty"
    typed = await Shell(DATABASE_URL=url, REDIS_URL=redis_url).types("doctor", "--json")
    [row] = [row for row in typed.rows if row["check"] == "schema"]
    assert (row["level"], row["advice"]) == ("error", "run: python -m store migrate")


async def test_an_index_that_is_missing_and_one_that_is_not_valid_are_errors(pool: Pool, redis_url: str) -> None:
    await pool.fetch("drop index participants_user")
    await pool.fetch("update pg_index set indisvalid = false where indexrelid = 'sends_created'::regclass")
    async with open_desk(pool, redis_url) as desk:
        errors = [row for row in await desk.rows("doctor") if row["check"] == "indexes"]
    assert [(row["level"], row["found"]) for row in errors] == [
        ("error", "missing: participants_user"),
        ("error", "not valid, so not used: sends_created"),
    ]
    assert errors[1]["advice"] == "reindex index concurrently sends_created"


async def test_a_constraint_that_is_not_checked_is_a_warning(pool: Pool, redis_url: str) -> None:
    await pool.fetch("alter table users add constraint late check (length(username) > 0) not valid")
    async with open_desk(pool, redis_url) as desk:
        row = await only(desk, "warning", "constraints")
    assert row["found"] == "not checked for all rows: late of users"
    assert row["advice"] == "alter table users validate constraint late"


async def test_a_transaction_that_was_left_open_is_named_with_the_command_that_ends_it(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLD_S", 0.0)
    with psycopg.connect(pool.url, application_name="a forgotten psql") as forgotten:
        forgotten.execute("select 1")
        pid = forgotten.info.backend_pid
        async with open_desk(pool, redis_url) as desk:
            rows = [row for row in await desk.rows("doctor") if row["check"] == "long transactions"]
        [row] = [row for row in rows if f"process {pid} " in row["found"]]
        assert "a forgotten psql, idle in transaction" in row["found"]
        assert f"select pg_terminate_backend({pid})" in row["advice"]
        monkeypatch.setattr(database, "ERROR_S", 0.0)
        async with open_desk(pool, redis_url) as desk:
            assert (await found(desk))["error"]


async def test_prepared_transactions_slots_and_settings_of_a_server_are_judged(redis_url: str, tmp_path: Path) -> None:
    settings = {**NOT_DURABLE, "max_prepared_transactions": "1", "synchronous_commit": "off", "autovacuum": "off"}
    with in_memory(tmp_path) as folder, PostgresWith(folder / "postgres", settings) as postgres:
        await migrate(postgres.url)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("select pg_create_physical_replication_slot('standby', true)")
            connection.execute("begin")
            connection.execute("select 1")
            connection.execute("prepare transaction 'forgotten'")
        typed = await Shell(DATABASE_URL=postgres.url, REDIS_URL=redis_url).types("doctor", "--json")
        rows = {row["check"]: row for row in typed.rows if row["level"] != "ok"}
        assert "select pg_drop_replication_slot('standby')" in rows["replication slots"]["advice"]
        assert "rollback prepared 'forgotten'" in rows["prepared transactions"]["advice"]
        assert rows["Postgres durability"]["level"] == "error"
        assert rows["Postgres autovacuum"]["level"] == "error"


class PostgresWith:
    """A migrated Postgres with settings, for a test that runs in Trio."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._server = PostgresServer(folder, settings=settings)

    def __enter__(self) -> PostgresServer:
        self._server.start()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop()


async def test_a_role_without_rights_is_told_what_to_grant(pool: Pool, redis_url: str) -> None:
    name = f"limited_{pool.url.rpartition('_')[2]}"
    await pool.fetch(f"create role {name} login password 'x'")
    try:
        await pool.fetch(f"grant select on all tables in schema public to {name}")
        url = f"postgresql://{name}:x@{pool.url.rpartition('@')[2]}"
        typed = await Shell(DATABASE_URL=url, REDIS_URL=redis_url).types("doctor", "--json")
        rows = {row["check"]: row for row in typed.rows}
        assert rows["Postgres rights"]["level"] == "error"
        assert f"{name} cannot use" in rows["Postgres rights"]["found"]
        assert rows["Postgres monitoring"]["advice"].startswith(f"grant pg_monitor to {name}")
        assert rows["disk of Postgres"]["found"].startswith("not visible from here")
        await pool.fetch(f"grant all on all tables in schema public to {name}")
        await pool.fetch(f"grant all on all sequences in schema public to {name}")
        typed = await Shell(DATABASE_URL=url, REDIS_URL=redis_url).types("doctor", "--json")
        assert {row["check"]: row["level"] for row in typed.rows}["Postgres rights"] == "ok"
    finally:
        await pool.fetch(f"drop owned by {name}")
        await pool.fetch(f"drop role {name}")


@pytest.fixture
async def own_desk(pool: Pool, own_redis: RedisServer) -> Any:
    async with open_desk(pool, own_redis.url) as desk:
        yield desk


async def test_a_redis_that_may_evict_is_an_error(own_desk: OperatorDesk) -> None:
    await own_desk.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    row = await only(own_desk, "error", "REDIS_URL: eviction")
    assert "maxmemory-policy is allkeys-lru" in row["found"]
    assert "config set maxmemory-policy noeviction" in row["advice"]


async def test_a_redis_that_is_almost_full_is_a_warning(own_desk: OperatorDesk) -> None:
    [server] = (await describe(own_desk.redis)).values()
    assert isinstance(server, RedisState)
    await own_desk.redis.call("CONFIG", "SET", "maxmemory", server.used_bytes * 11 // 10)
    assert "raise maxmemory" in (await only(own_desk, "warning", "REDIS_URL: memory"))["advice"]


async def test_a_redis_that_refuses_info_is_a_warning_with_the_right_that_lacks(
    pool: Pool, own_redis: RedisServer
) -> None:
    async with open_desk(pool, own_redis.url) as desk:
        rights = ("on", ">x", "~alo:*", "+@all", "-@dangerous", "-@admin", "+role")
        await desk.redis.call("ACL", "SETUSER", "limited", *rights)
    url = f"redis://limited:x@{own_redis.url.partition('://')[2].rpartition('@')[2]}"
    async with open_desk(pool, url) as desk:
        assert "+info" in (await only(desk, "warning", "REDIS_URL"))["advice"]


async def test_two_redis_are_checked_by_their_own_names(pool: Pool, redis_url: str, own_redis: RedisServer) -> None:
    async with open_desk(pool, redis_url, redis_jobs_url=own_redis.url) as desk:
        checks = {row["check"] for row in await desk.rows("doctor")}
    assert {"REDIS_URL: eviction", "REDIS_JOBS_URL: eviction"} <= checks


async def test_an_object_store_that_is_away_is_an_error_and_a_folder_shows_its_disk(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_desk(pool, redis_url, object_store_url="s3://key:secret@127.0.0.1:1/bucket?tls=false") as desk:
        row = await only(desk, "error", "object store")
        assert "secret" not in str(row)
    async with open_desk(pool, redis_url, object_store_url=tmp_path.as_uri()) as desk:
        rows = {row["check"]: row for row in await desk.rows("doctor")}
        assert rows["object store"]["level"] == "ok"
        assert str(tmp_path) in rows["disk of files"]["found"]


@pytest.mark.parametrize(
    ("free", "level"), [(2, Level.ERROR), (5, Level.WARNING), (50, Level.OK)], ids=["full", "low", "room"]
)
def test_a_disk_is_judged_by_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: Level
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 100 - free, free))
    assert check_disk("disk", tmp_path, "make room").level is level


@pytest.mark.parametrize("directory", [None, "/nowhere/data", "/proc/self/cwd"])
def test_the_disk_of_postgres_is_not_judged_by_a_folder_that_only_postgres_sees(directory: str | None) -> None:
    assert check_database_disk(directory).found.startswith("not visible from here")


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    assert check_disk("disk", tmp_path / "gone", "make room").level is Level.ERROR


@pytest.mark.parametrize(("hard", "level"), [(1024, Level.WARNING), (65536, Level.OK), (-1, Level.OK)])
def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch, hard: int, level: Level) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (256, hard))
    [finding] = check_open_files()
    assert finding.level is level


@pytest.mark.parametrize(("ahead_s", "level"), [(0.2, Level.OK), (-0.9, Level.OK), (3.0, Level.WARNING)])
def test_a_clock_that_is_off_by_more_than_a_second_is_a_warning(ahead_s: float, level: Level) -> None:
    assert check_clock("Redis", ahead_s).level is level
    assert "behind" in check_clock("Redis", -2.0).found


def findings(environment: dict[str, str]) -> dict[str, Finding]:
    return {each.check: each for each in check_configuration(Config.from_environment(environment), environment)}


@each_row(
    ("environment", "check"),
    [
        ({}, "proxies"),
        ({"HOST": "0.0.0.0"}, "proxies"),
        ({"OPS_TOKN": "x"}, "variables"),
        ({"METRICS_HOST": "0.0.0.0"}, "port for operators"),
        ({"PUBLIC_URL": "http://chat.example"}, "TLS of links"),
        ({"REDIS_URL": "redis://redis.internal"}, "TLS to Redis"),
    ],
)
def test_each_doubtful_part_of_the_configuration_is_a_warning(environment: dict[str, str], check: str) -> None:
    found = findings(environment)[check]
    assert (found.level, bool(found.advice)) == (Level.WARNING, True)


def test_a_configuration_behind_a_proxy_is_in_order() -> None:
    environment = {**GOOD, "PUBLIC_URL": "https://chat.example", "REDIS_URL": "rediss://redis.internal"}
    assert {each.level for each in findings(environment).values()} == {Level.OK}
