"""Postgres 18 from a Python package, run as a child process."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from embedded import process
from embedded.account import account_for
from embedded.errors import EmbeddedError
from embedded.ports import LOOPBACK
from embedded.private import write_private
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

    Without a password any user of this machine may connect as the superuser `postgres`, so it listens on the loopback
    address only, and never runs as root. It has no Unix socket.
    """

    name = "Postgres"
    program = "postgres"
    pid_file = "postmaster.pid"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate shutdown
    ready_states: tuple[str, ...] = ("ready",)

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        has_password: bool = False,
    ) -> None:
        super().__init__(folder, port=port, has_password=has_password)
        self.settings = dict(settings or {})

    @property
    def url(self) -> str:
        login = f"postgres:{self.password}" if self.has_password else "postgres"
        return f"postgresql://{login}@{LOOPBACK}:{self.port}/postgres"

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
        data = unfinished / "data"
        for each in (unfinished, data):
            each.mkdir(mode=0o700)
        account = account_for(unfinished)
        if account is not None:
            account.own(unfinished)
        if self.password is not None:
            write_private(unfinished / "password", self.password, account)
        command = self._create_command(programs, process.here(data))
        with self.log.open("ab") as log:
            status = process.run(command, folder=data, log=log, account=account)
        if status != 0:
            raise EmbeddedError(f"Postgres could not create its data ({self._last_line()}): see {self.log}.")
        data.rename(self.data)
        shutil.rmtree(unfinished)

    def _create_command(self, programs: Programs, data: str) -> list[str]:
        """The command that fills the empty data folder, in which it runs; the password is in a file beside that."""
        authentication = ["trust"] if self.password is None else ["scram-sha-256", "--pwfile", "../password"]
        return [
            str(programs.path.with_name("initdb")),
            *("--pgdata", data),
            *("--username", "postgres", "--auth", *authentication),
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
        return [str(programs.path), "-D", process.here(self.data), *options]

    def _is_ready(self, port: int, pid: int) -> bool:
        # pg_ctl, too, waits for the eighth line of the file: Postgres accepts connections, and recovery is over.
        try:
            lines = (self.data / self.pid_file).read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() in self.ready_states
