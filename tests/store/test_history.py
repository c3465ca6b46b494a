"""A restored backup is another history: devices that hold more than it fetch everything again (P1, P4)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from client.http import Credentials
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.programs import find_postgres
from protocol.frames import Conversation
from store.cli.restored import NotMigrated, begin_history
from store.errors import ForeignCursor
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from store.sync import sync
from tests.conftest import database_of
from tests.memory import in_memory
from tests.store.cursor_keeper import CursorKeeper
from tests.store.key_world import KeyOwner
from tests.waiting import wait_until_blocking

DATABASE = "chat"
ARCHIVE = "archive"
"""Of the WAL: in the folder of the data, since Postgres reaches no other folder of the test."""

BACKUP = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()


class BackedUpCluster:
    """A cluster with the product's database, a backup of it, and a second cluster with another system identifier.

    :param data: of the first cluster: `migrated_data`.
    :ivar url: of the database that devices reach, from now on.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._dump = folder / "dump"
        self._other = PostgresServer(folder / "other", settings=NOT_DURABLE)
        own = PostgresServer(folder / "own", settings=NOT_DURABLE)
        shutil.copytree(data, own.data)
        self._postgres = self._start(own)
        self._in_cluster(f"create database {DATABASE}")
        trio.run(migrate, self.url)

    @property
    def url(self) -> str:
        return database_of(self._postgres, DATABASE)

    def _start(self, postgres: PostgresServer) -> PostgresServer:
        postgres.start()
        self._stack.callback(postgres.stop)
        return postgres

    def close(self) -> None:
        self._stack.close()

    def save_dump(self) -> None:
        self._run("pg_dump", "--format", "custom", "--file", str(self._dump), self.url)

    def save_folder(self) -> None:
        self._postgres.stop()
        shutil.copytree(self._postgres.data, self._other.data, symlinks=True)
        self._postgres.start()

    def save_database(self) -> None:
        self._in_cluster(f"create database saved template {DATABASE}")

    def save_base(self) -> None:
        """A base back-up, and from now on an archive of the WAL, by the settings of docs/backup.md."""
        archive, owner = self._postgres.data / ARCHIVE, self._postgres.data.stat()
        archive.mkdir()
        os.chown(archive, owner.st_uid, owner.st_gid)
        self._in_cluster(*(f"alter system set {name} = {value}" for name, value in _settings("archive_mode").items()))
        self._postgres.stop()
        self._postgres.start()
        [command] = re.findall(r"^(pg_basebackup .*)$", BACKUP, re.MULTILINE)
        [program, *arguments] = shlex.split(command.replace("FOLDER", str(self._other.data)).replace("URL", self.url))
        self._run(program, *arguments)
        [(self._saved_at,)] = self._in_cluster("select clock_timestamp()::text")

    def restore_to_time(self) -> None:
        """To the moment after the base back-up, from that and the archive alone."""
        [(last,)] = self._in_cluster("select pg_walfile_name(pg_current_wal_lsn())")
        self._in_cluster("select pg_switch_wal()")
        archived = "select coalesce(last_archived_wal, '') from pg_stat_archiver"
        wait_until_blocking(lambda: self._in_cluster(archived) >= [(last,)], "the last WAL is archived")
        self._postgres.stop()
        shutil.copytree(self._postgres.data / ARCHIVE, self._other.data / ARCHIVE, dirs_exist_ok=True)
        settings = {**_settings("restore_command"), "recovery_target_time": f"'{self._saved_at}'"}
        with (self._other.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        (self._other.data / "recovery.signal").touch()
        self._postgres = self._start(self._other)
        is_over = "select not pg_is_in_recovery()"
        wait_until_blocking(lambda: self._in_cluster(is_over) == [(True,)], "the recovery is over")

    def restore_dump(self) -> None:
        self._in_cluster(f"drop database {DATABASE} with (force)", f"create database {DATABASE}")
        self._run("pg_restore", "--dbname", self.url, str(self._dump))

    def restore_dump_in_place(self) -> None:
        self._run("pg_restore", "--clean", "--if-exists", "--dbname", self.url, str(self._dump))

    def restore_dump_elsewhere(self) -> None:
        self._postgres = self._start(self._other)
        self._in_cluster(f"create database {DATABASE}")
        self._run("pg_restore", "--dbname", self.url, str(self._dump))

    def restore_database(self) -> None:
        self._in_cluster(f"drop database {DATABASE} with (force)", f"alter database saved rename to {DATABASE}")

    def restore_folder(self) -> None:
        self._postgres = self._start(self._other)

    def tell(self) -> str:
        """The output of the operator's command."""
        command = [sys.executable, "-m", "store", "restored"]
        told = subprocess.run(command, env={"DATABASE_URL": self.url}, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stderr
        return told.stdout

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([find_postgres().path.with_name(program), *arguments], check=True, timeout=60)

    def _in_cluster(self, *statements: str) -> list[Any]:
        """The rows of the last statement; each is a transaction of its own."""
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def _settings(one: str) -> dict[str, str]:
    """The block of settings in docs/backup.md that has this one, with the archive in the folder of the data."""
    [block] = [
        each for each in re.findall(r"^```ini\n(.*?)^```", BACKUP, re.MULTILINE | re.DOTALL) if f"{one} =" in each
    ]
    return dict(re.findall(r"^(\w+) = (.*)$", block.replace("/backup/wal", ARCHIVE), re.MULTILINE))


@pytest.fixture
def cluster(tmp_path: Path, migrated_data: Path) -> Iterator[BackedUpCluster]:
    with in_memory(tmp_path) as folder:
        cluster = BackedUpCluster(folder, migrated_data)
        yield cluster
        cluster.close()


Way = tuple[Callable[[BackedUpCluster], None], Callable[[BackedUpCluster], None]]
ASKED: dict[str, Way] = {
    "a dump, into a database of the same name": (BackedUpCluster.save_dump, BackedUpCluster.restore_dump),
    "a dump, into the same database": (BackedUpCluster.save_dump, BackedUpCluster.restore_dump_in_place),
    "a dump, into another cluster": (BackedUpCluster.save_dump, BackedUpCluster.restore_dump_elsewhere),
    "a copy of the database": (BackedUpCluster.save_database, BackedUpCluster.restore_database),
    "a base back-up and WAL, to a time": (BackedUpCluster.save_base, BackedUpCluster.restore_to_time),
    "a copy of the data directory": (BackedUpCluster.save_folder, BackedUpCluster.restore_folder),
}
NEEDS_COMMAND = {"a copy of the data directory"}


@pytest.mark.parametrize("way", ASKED)
def test_a_device_that_holds_more_than_the_back_up_begins_anew_and_no_claimed_key_is_handed_out_again(
    cluster: BackedUpCluster, way: str
) -> None:
    save, restore = ASKED[way]
    keeper, owner = CursorKeeper(cluster), KeyOwner(lambda: cluster.url)
    trio.run(keeper.begin)
    owner.run(owner.begin)
    trio.run(keeper.say, 2)
    save(cluster)
    trio.run(keeper.say, 3)
    trio.run(keeper.sync)
    assert owner.run(owner.claim) == [1, 2, 3]
    restore(cluster)
    trio.run(keeper.say, 1)
    if way in NEEDS_COMMAND:
        # The copy itself has no difference: it is the same to the last byte.
        trio.run(keeper.sync)
        assert "fetches everything again" in cluster.tell()
    with pytest.raises(ForeignCursor):
        trio.run(keeper.sync)
    [_, told] = trio.run(lambda: keeper.sync(anew=True)).pushes
    assert isinstance(told, Conversation)
    assert told.last_seq == 3
    trio.run(keeper.say, 1)
    assert [getattr(push, "seq", None) for push in trio.run(keeper.sync).pushes][-1] == 4
    owner.check()


def test_after_the_command_nothing_from_another_cluster_is_told_with_each_sync(cluster: BackedUpCluster) -> None:
    """Its transactions had numbers that the new cluster issues later."""
    keeper = CursorKeeper(cluster)
    trio.run(keeper.begin)
    trio.run(lambda: keeper.say(1, times=900))
    cluster.save_dump()
    cluster.restore_dump_elsewhere()
    trio.run(lambda: keeper.sync(anew=True))
    assert trio.run(keeper.sync).pushes != [], "each sync sends the change again"
    told = cluster.tell()
    assert re.search(r"^messages: \d+ rows had", told, re.MULTILINE)
    trio.run(lambda: keeper.sync(anew=True))
    assert trio.run(keeper.sync).pushes == []
    assert "rows" not in cluster.tell(), "the second time there is nothing left to do"


async def test_the_command_may_be_run_twice_and_each_time_devices_begin_anew(pool: Pool, alice: Credentials) -> None:
    seen = set()
    for _ in range(2):
        cursor = (await sync(pool, alice.user, None)).cursor
        history, rows = await begin_history(pool.url)
        assert rows == {}
        seen.add(history)
        with pytest.raises(ForeignCursor):
            await sync(pool, alice.user, cursor)
    assert len(seen) == 2


async def test_a_database_that_is_not_migrated_is_refused_with_a_sentence(pool: Pool) -> None:
    for change in ("delete from function_sets", "drop table migrations"):
        await pool.fetch(change)
        with pytest.raises(NotMigrated, match="store migrate"):
            await begin_history(pool.url)


async def test_a_role_that_may_not_read_the_system_identifier_syncs_all_the_same(
    pool: Pool, alice: Credentials
) -> None:
    before = (await sync(pool, alice.user, None)).cursor
    await pool.fetch("revoke execute on function pg_control_system() from public")
    name = "r" + alice.user.hex()
    await pool.fetch(f"create role {name} login")
    await pool.fetch(f"grant select, insert, update, delete on all tables in schema public to {name}")
    other = Pool(pool.url.replace("postgres@", f"{name}@"), 1)
    try:
        page = await sync(other, alice.user, None)
        await sync(other, alice.user, page.cursor)
        with pytest.raises(ForeignCursor):
            await sync(other, alice.user, before)
    finally:
        other.close()
        await pool.fetch(f"drop owned by {name}")
        await pool.fetch(f"drop role {name}")
        await pool.fetch("grant execute on function pg_control_system() to public")
