"""Redis, run as a child process."""

import signal
import socket
from pathlib import Path

from embedded.ports import LOOPBACK
from embedded.programs import Programs, find_redis
from embedded.service import Service

_PING_TIMEOUT_S = 1.0


class RedisServer(Service):
    """A Redis in `folder/data`. It appends every write to a file there, or keeps nothing (`durable=False`)."""

    name = "Redis"
    program = "redis-server"
    pid_file = "redis.pid"
    stop_signals = (signal.SIGTERM,)

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        super().__init__(folder, port=port)
        self.durable = durable

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _programs(self) -> Programs:
        return find_redis()

    def _prepare(self, programs: Programs) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._own_data()

    def _command(self, programs: Programs, port: int) -> list[str]:
        return [
            str(programs.path),
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
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")  # "-LOADING" while Redis reads its file
        except OSError:
            return False
