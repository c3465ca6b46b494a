"""A restore to a moment by pgBackRest, with the settings and commands of docs/backup.md, and Debian's Postgres."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import trio

from embedded.account import account_for
from embedded.postgres import PostgresServer
from embedded.programs import Programs
from protocol.frames import Conversation
from store.errors import ForeignCursor
from store.postgres.migrate import migrate
from tests.haproxy_server import environment
from tests.store.cursor_keeper import CursorKeeper
from tests.waiting import wait_until_blocking

pytestmark = pytest.mark.ops

ROOT: Final = Path(__file__).parents[2]
INSTALLED: Final = ROOT / ".venv" / "ops"
PAGE: Final = (ROOT / "docs" / "backup.md").read_text()
TIME: Final = "2026-12-01 03:15:00+00"
"""Of the page's example."""


class DebianPostgres(PostgresServer):
    """The Postgres that `make ops` installs: pgBackRest of one release of Debian knows that release's Postgres."""

    def _programs(self) -> Programs:
        [program] = INSTALLED.glob("usr/lib/postgresql/*/bin/postgres")
        parts = [Path("usr/lib/postgresql"), Path("usr/share/postgresql")]
        return Programs(INSTALLED, program.relative_to(INSTALLED), parts)

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        initdb = str(programs.path.with_name("initdb"))
        login = ("--username", "postgres", "--auth", "trust")
        return [initdb, "--pgdata", data, *login, "--encoding", "UTF8", "--no-locale"]

    def _command(self, programs: Programs, port: int) -> list[str]:
        """With the folder's name, which pgBackRest compares with its own settings."""
        [program, option, _, *settings] = super()._command(programs, port)
        return [program, option, str(self.data), *settings]


class PgBackRest:
    """A cluster that pgBackRest backs up, in a folder that its account can reach.

    :param folder: short, since it is also that of the Unix socket by which pgBackRest reaches Postgres.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = folder / "pgbackrest.conf"
        self._program = folder / "pgbackrest"
        shutil.copy(INSTALLED / "usr" / "bin" / "pgbackrest", self._program)
        archive = self._command(_one(r"archive_command = '(pgbackrest [^']+)'"))
        self._postgres = DebianPostgres(folder / "postgres", settings={
            "unix_socket_directories": str(folder),
            "wal_level": "replica",
            "archive_mode": "on",
            "archive_command": shlex.join(archive),
        })  # fmt: skip
        self._account = account_for(self._postgres.data)

    @property
    def url(self) -> str:
        return self._postgres.url

    def begin(self) -> None:
        """Start Postgres with the product's tables, and take the first back-up."""
        for name in ("repository", "log", "lock", "spool"):
            (self._folder / name).mkdir()
        if self._account is not None:
            self._account.own(self._folder)
        self._postgres.start()
        trio.run(migrate, self.url)
        self._settings.write_text(self._configuration())
        self._settings.chmod(0o644)
        self._run("stanza-create")
        self._run("backup")
        [(self._saved_at,)] = self.fetch("select clock_timestamp()::text")

    def moment(self) -> str:
        """The present time, after the second in which the back-up ended: pgBackRest counts in seconds, and goes back to
        no moment of that one."""
        is_over = f"select clock_timestamp() > timestamptz '{self._saved_at}' + interval '1 second'"
        wait_until_blocking(lambda: self.fetch(is_over) == [(True,)], "the second of the back-up is over")
        [(now,)] = self.fetch("select clock_timestamp()::text")
        return str(now)

    def restore(self, moment: str) -> None:
        """To this time, from the back-up and the archive alone."""
        [(last,)] = self.fetch("select pg_walfile_name(pg_current_wal_lsn())")
        self.fetch("select pg_switch_wal()")
        archived = "select coalesce(last_archived_wal, '') from pg_stat_archiver"
        wait_until_blocking(lambda: self.fetch(archived) >= [(last,)], "the last WAL is archived")
        self._postgres.stop()
        for each in self._postgres.data.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        self._run("restore", moment)
        self._postgres.start()
        is_over = "select not pg_is_in_recovery()"
        wait_until_blocking(lambda: self.fetch(is_over) == [(True,)], "the recovery is over")

    def fetch(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def close(self) -> None:
        self._postgres.stop()

    def _configuration(self) -> str:
        """The page's, for the places of this test, and without a socket and log of the system."""
        text = _one(r"```ini\n(\[global\].*?)```")
        for name, value in {"repo1-path": self._folder / "repository", "pg1-path": self._postgres.data}.items():
            assert f"{name}=" in text
            text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        places = "".join(f"{name}-path={self._folder / name}\n" for name in ("log", "lock", "spool"))
        text = text.replace("[global]\n", f"[global]\n{places}")
        return f"{text}pg1-port={self._postgres.port}\npg1-socket-path={self._folder}\npg1-user=postgres\n"

    def _run(self, command: str, moment: str = "") -> None:
        """A command of the page."""
        arguments = self._command(_one(rf"`(pgbackrest --stanza=[^`]*\b{command})`").replace(TIME, moment))
        account = self._account
        user: Mapping[str, Any] = {} if account is None else {
            "user": account.uid, "group": account.gid, "extra_groups": []
        }  # fmt: skip
        done = subprocess.run(arguments, cwd=self._folder, capture_output=True, text=True, timeout=120, **user)
        assert done.returncode == 0, done.stdout + done.stderr

    def _command(self, line: str) -> list[str]:
        [program, *arguments] = shlex.split(line)
        assert program == "pgbackrest"
        return [str(self._program), f"--config={self._settings}", *arguments]


def _one(pattern: str) -> str:
    """What the page has once."""
    [found] = re.findall(pattern, PAGE.replace("\n", " ") if "ini" not in pattern else PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[PgBackRest]:
    monkeypatch.setenv("LD_LIBRARY_PATH", environment()["LD_LIBRARY_PATH"])
    folder = Path(tempfile.mkdtemp(prefix="alo-"))
    folder.chmod(0o755)
    cluster = PgBackRest(folder)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder)


def test_pgbackrest_takes_the_database_back_to_a_moment(cluster: PgBackRest) -> None:
    """Messages from before the moment are there, later ones are not, and devices that hold these begin anew."""
    cluster.begin()
    keeper = CursorKeeper(cluster)
    trio.run(keeper.begin)
    trio.run(keeper.say, 2)
    moment = cluster.moment()
    trio.run(keeper.say, 3)
    trio.run(keeper.sync)
    cluster.restore(moment)
    assert cluster.fetch("select max(seq) from messages") == [(2,)]
    trio.run(keeper.say, 1)
    with pytest.raises(ForeignCursor):
        trio.run(keeper.sync)
    [_, told] = trio.run(lambda: keeper.sync(anew=True)).pushes
    assert isinstance(told, Conversation)
    assert told.last_seq == 3
