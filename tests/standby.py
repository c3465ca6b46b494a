"""A real standby of an embedded Postgres."""

from __future__ import annotations

import psycopg

from embedded.ports import LOOPBACK
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.standby import STANDBY_NAME, StandbyServer
from tests.waiting import wait_until_blocking

NOT_FSYNCED = {**NOT_DURABLE, "synchronous_commit": "on"}
"""Settings of both: a commit waits for the standby, if there must be one, and for no disk."""


class Standby(StandbyServer):
    """A standby, with what tests do to it."""

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


def either(*hosts: int) -> str:
    """A DSN of several hosts, which asks for the one that takes writes."""
    where = ",".join(f"{LOOPBACK}:{port}" for port in hosts)
    return f"postgresql://postgres@{where}/postgres?target_session_attrs=read-write"


def await_standby(primary: PostgresServer) -> None:
    """From now on the primary's commits wait for the standby; returns once it is in step."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute(f"alter system set synchronous_standby_names = '{STANDBY_NAME}'")
        connection.execute("select pg_reload_conf()")
        state = f"select sync_state from pg_stat_replication where application_name = '{STANDBY_NAME}'"
        wait_until_blocking(lambda: connection.execute(state).fetchone() == ("sync",), "the standby is in step")
