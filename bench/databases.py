"""The Postgres and the Redis that all servers of a comparison share, one after the other."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Shared:
    """The addresses of both.

    :ivar postgres_url: URL of any database in the cluster, as a user who may create databases.
    :ivar postgres_log: log file of Postgres.
    """

    postgres_url: str
    postgres_pid: int
    postgres_log: Path
    redis_url: str
    redis_pid: int

    def database_url(self, name: str) -> str:
        """The URL of another database of the cluster."""
        return urlunsplit(urlsplit(self.postgres_url)._replace(path=f"/{name}"))

    def create_database(self, name: str) -> str:
        """Drop the database and create it, empty; returns its URL."""
        self.drop_database(name)
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop the database, even if clients are connected to it."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def even_out(self, database_url: str) -> dict[str, str]:
        """Bring Postgres and Redis to the same state before every run; returns `durability`.

        Statistics are fresh, no checkpoint is due soon, Redis is empty.
        """
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
        self._flush_redis()
        return self.durability(database_url)

    def durability(self, database_url: str) -> dict[str, str]:
        """The durability settings that Postgres reports to a new session of this database; the database's own settings
        count."""
        with psycopg.connect(database_url) as connection:
            reported = connection.execute(
                "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
            ).fetchone()
        return dict(zip(("fsync", "synchronous_commit"), reported or (), strict=True))

    def _flush_redis(self) -> None:
        address = urlsplit(self.redis_url)
        with socket.create_connection((address.hostname or "localhost", address.port or 6379), 10) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            answer = connection.recv(64)
        if answer != b"+OK\r\n":
            raise ConnectionError(f"Redis refused FLUSHALL: {answer!r}")
