"""A real standby of an embedded Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg

from embedded.ports import LOOPBACK
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.programs import Programs
from tests.waiting import wait_until_blocking

NAME = "standby"
"""Its name at the primary."""

NOT_FSYNCED = {**NOT_DURABLE, "synchronous_commit": "on"}
"""Settings of both: a commit waits for the standby, if there must be one, and for no disk."""


class Standby(PostgresServer):
    """Made from a primary that runs, by pg_basebackup; follows it until it is promoted."""

    ready_states = ("ready", "standby")

    def __init__(self, folder: Path, primary: PostgresServer, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, settings=settings)
        self._primary = primary

    def promote(self) -> None:
        """Make it a primary; return when it is one."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert connection.execute("select pg_promote()").fetchone() == (True,)

    def cut_off(self) -> None:
        """End replication: later commits of the primary do not reach this standby."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("alter system set primary_conninfo = ''")
            connection.execute("select pg_reload_conf()")
            ended = "select not exists (select from pg_stat_wal_receiver where status = 'streaming')"
            wait_until_blocking(lambda: connection.execute(ended).fetchone() == (True,), "replication has ended")

    def wait_replayed(self) -> None:
        """Return once this standby has everything that the primary has committed."""
        with psycopg.connect(self._primary.url, autocommit=True) as connection:
            lsn = connection.execute("select pg_current_wal_lsn()").fetchone()
        with psycopg.connect(self.url, autocommit=True) as connection:
            arrived = "select pg_last_wal_replay_lsn() >= %s"
            wait_until_blocking(lambda: connection.execute(arrived, lsn).fetchone() == (True,), "the standby has all")

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        primary = f"host={LOOPBACK} port={self._primary.port} user=postgres application_name={NAME}"
        return [
            *(str(programs.path.with_name("pg_basebackup")), "--pgdata", data, "--dbname", primary),
            *("--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"),
        ]


def either(*hosts: int) -> str:
    """A DSN of several hosts, which asks for the one that takes writes."""
    where = ",".join(f"{LOOPBACK}:{port}" for port in hosts)
    return f"postgresql://postgres@{where}/postgres?target_session_attrs=read-write"


def await_standby(primary: PostgresServer) -> None:
    """From now on the primary's commits wait for the standby; returns once it is in step."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute(f"alter system set synchronous_standby_names = '{NAME}'")
        connection.execute("select pg_reload_conf()")
        state = f"select sync_state from pg_stat_replication where application_name = '{NAME}'"
        wait_until_blocking(lambda: connection.execute(state).fetchone() == ("sync",), "the standby is in step")
