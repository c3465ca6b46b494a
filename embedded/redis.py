"""Redis, run as a child process."""

import signal
import socket
from pathlib import Path

from embedded import process
from embedded.account import account_for
from embedded.ports import LOOPBACK
from embedded.private import write_private
from embedded.programs import Programs, find_redis
from embedded.service import Service

_PING_TIMEOUT_S = 1.0
_SETTINGS = "redis.conf"


class RedisServer(Service):
    """A Redis in `folder/data`. It appends every write to a file there, or keeps nothing (`durable=False`)."""

    name = "Redis"
    program = "redis-server"
    pid_file = "redis.pid"
    stop_signals = (signal.SIGTERM,)

    def __init__(
        self, folder: Path, *, port: int | None = None, durable: bool = True, has_password: bool = False
    ) -> None:
        super().__init__(folder, port=port, has_password=has_password)
        self.durable = durable

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.has_password else ""
        return f"redis://{login}{LOOPBACK}:{self.port}/0"

    def _programs(self) -> Programs:
        return find_redis()

    def _prepare(self, programs: Programs) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._own_data()
        if self.password is not None:
            # In a file: all users of the machine see the arguments of a command.
            write_private(self.data / _SETTINGS, f"requirepass {self.password}\n", account_for(self.data))

    def _command(self, programs: Programs, port: int) -> list[str]:
        return [
            str(programs.path),
            *([f"{process.here(self.data)}/{_SETTINGS}"] if self.has_password else []),
            *("--bind", LOOPBACK, "--port", str(port)),
            *("--dir", ".", "--pidfile", self.pid_file),
            *("--daemonize", "no", "--save", ""),
            *("--appendonly", "yes" if self.durable else "no", "--appendfsync", "everysec"),
            # With full memory, Redis must refuse new data and keep the old.
            *("--maxmemory-policy", "noeviction"),
        ]

    def _is_ready(self, port: int, pid: int) -> bool:
        if self._noted_pid() != pid:  # otherwise another server may answer
            return False
        try:
            with socket.create_connection((LOOPBACK, port), _PING_TIMEOUT_S) as connection:
                login = f"AUTH {self.password}\r\n" if self.has_password else ""
                connection.sendall(f"{login}PING\r\nQUIT\r\n".encode())
                answers = b""
                while data := connection.recv(64):
                    answers += data
                return b"+PONG" in answers  # "-LOADING" while Redis reads its file
        except OSError:
            return False
