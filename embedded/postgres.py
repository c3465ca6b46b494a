"""Postgres 18 from a Python package, run as a child process."""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from embedded import process
from embedded.account import account_for
from embedded.errors import EmbeddedError
from embedded.ports import LOOPBACK
from embedded.programs import Programs, find_postgres
from embedded.service import Service

# Without protection against a crash of the machine, for disposable data.
NOT_DURABLE: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class PostgresServer(Service):
    """A Postgres cluster in `folder/data`; `settings` are server settings (the command line's `-c`).

    Any user of this machine may connect as the superuser `postgres` without a password, so it listens on the loopback
    address only, and never runs as root.
    """

    name = "Postgres"
    program = "postgres"
    pid_file = "postmaster.pid"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate shutdown
    ready_states: tuple[str, ...] = ("ready",)

    def __init__(self, folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings or {})

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    def _programs(self) -> Programs:
        return find_postgres()

    def _prepare(self, programs: Programs) -> None:
        if not self.data.exists():
            self._create(programs)
        self._own_data()

    def _create(self, programs: Programs) -> None:
        # Created in another folder and moved: a run that is killed halfway leaves no incomplete data folder.
        unfinished = self.folder / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        account = account_for(unfinished)
        if account is not None:
            account.own(unfinished)
        command = self._create_command(programs, _here(unfinished))
        with self.log.open("ab") as log:
            status = process.run(command, folder=unfinished, log=log, account=account)
        if status != 0:
            raise EmbeddedError(f"Postgres could not create its data ({self._last_line()}): see {self.log}.")
        unfinished.rename(self.data)

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        """The command that fills the empty data folder, in which it runs."""
        return [
            str(programs.path.with_name("initdb")),
            *("--pgdata", data),
            *("--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            "--no-instructions",
            *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
        ]

    def _command(self, programs: Programs, port: int) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            # No Unix socket: its path may have only some 100 bytes, and TCP is enough.
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        return [str(programs.path), "-D", _here(self.data), *options]

    def _is_ready(self, port: int, pid: int) -> bool:
        # pg_ctl, too, waits for the eighth line of the file: Postgres accepts connections, and recovery is over.
        try:
            lines = (self.data / self.pid_file).read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() in self.ready_states


def _here(data: Path) -> str:
    """A path of the data folder for a process whose working directory it is.

    That process's user may not be able to enter the folders above (a checkout below /root). On Linux, /proc/self/cwd
    works all the same. A plain "." does not, since Postgres makes it absolute.
    """
    return "/proc/self/cwd" if process.LINUX and os.geteuid() == 0 else str(data)
