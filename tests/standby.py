"""A real standby of an embedded Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg

from embedded.ports import LOOPBACK
from embedded.postgres import PostgresServer
from embedded.programs import Programs
from tests.waiting import wait_until_blocking

NAME = "standby"
"""Its name at the primary."""


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

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        primary = f"host={LOOPBACK} port={self._primary.port} user=postgres application_name={NAME}"
        return [
            *(str(programs.path.with_name("pg_basebackup")), "--pgdata", data, "--dbname", primary),
            *("--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"),
        ]


def await_standby(primary: PostgresServer) -> None:
    """From now on the primary's commits wait for the standby; returns once it is in step."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute(f"alter system set synchronous_standby_names = '{NAME}'")
        connection.execute("select pg_reload_conf()")
        state = f"select sync_state from pg_stat_replication where application_name = '{NAME}'"
        wait_until_blocking(lambda: connection.execute(state).fetchone() == ("sync",), "the standby is in step")
