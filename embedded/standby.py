"""A hot standby of an embedded Postgres, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedded.ports import LOOPBACK
from embedded.postgres import PostgresServer
from embedded.programs import Programs

STANDBY_NAME: Final = "standby"
"""Its name at the primary."""


class StandbyServer(PostgresServer):
    """Made from a primary that runs, by pg_basebackup; follows it until it is promoted."""

    ready_states = ("ready", "standby")

    def __init__(self, folder: Path, primary: PostgresServer, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, settings=settings)
        self._primary = primary

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        primary = f"host={LOOPBACK} port={self._primary.port} user=postgres application_name={STANDBY_NAME}"
        return [
            *(str(programs.path.with_name("pg_basebackup")), "--pgdata", data, "--dbname", primary),
            *("--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"),
        ]
