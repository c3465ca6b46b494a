"""A real Redis with a replica, and a real sentinel that watches over the two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import redis

from embedded.account import account_for
from embedded.ports import LOOPBACK
from embedded.programs import Programs
from embedded.redis import RedisServer
from tests.waiting import wait_until_blocking

SERVICE: Final = "chat"

READY_S: Final = 20.0
"""A replica may have to ask for its first copy twice, with a second in between."""

CONFIGURATION: Final = """
bind {loopback}
port {port}
pidfile redis.pid
sentinel monitor {service} {loopback} {master} 1
sentinel down-after-milliseconds {service} 2000
sentinel failover-timeout {service} 5000
"""


class Replica(RedisServer):
    """Follows the master, until a sentinel says otherwise."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder, durable=False)
        self._master = master

    def _command(self, programs: Programs, port: int) -> list[str]:
        return [*super()._command(programs, port), "--replicaof", LOOPBACK, str(self._master.port)]


class Sentinel(RedisServer):
    """A single sentinel is its own majority: when it finds the master gone, it promotes the replica."""

    name = "Sentinel"

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder, durable=False)
        self._master = master

    def _command(self, programs: Programs, port: int) -> list[str]:
        # A sentinel writes to its own configuration, and refuses a relative name for it.
        file = self.data / "sentinel.conf"
        file.write_text(CONFIGURATION.format(loopback=LOOPBACK, port=port, service=SERVICE, master=self._master.port))
        if account := account_for(self.data):
            os.chown(file, account.uid, account.gid)
            file = Path("/proc/self/cwd", file.name)
        return [str(programs.path), str(file), "--sentinel"]


class Watched:
    """Master, replica and sentinel. After a fail-over the sentinel tells which server is the master."""

    def __init__(self, master: RedisServer, replica: Replica, sentinel: Sentinel) -> None:
        self.first = master
        self.second = replica
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://{LOOPBACK}:{self.sentinel.port}/{SERVICE}"

    def master_port(self) -> int:
        """The port of the present master, by the sentinel."""
        with redis.Redis(LOOPBACK, self.sentinel.port) as client:
            return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])

    def is_whole(self) -> bool:
        """Whether the sentinel knows a replica that is in step, so that a fail-over can begin."""
        with redis.Redis(LOOPBACK, self.sentinel.port) as client:
            return any(
                not each["is_disconnected"] and not each["is_sdown"] and each["master-link-status"] == "ok"
                for each in client.sentinel_slaves(SERVICE)
            )

    def fail_over(self) -> None:
        """Ask the sentinel to swap master and replica, both of them alive."""
        with redis.Redis(LOOPBACK, self.sentinel.port) as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)


@contextmanager
def watched_redis(folder: Path) -> Iterator[Watched]:
    """It blocks: a fixture enters it."""
    with ExitStack() as running:
        master = RedisServer(folder / "first", durable=False)
        master.start()
        running.callback(master.stop)
        replica = Replica(folder / "second", master)
        replica.start()
        running.callback(replica.stop)
        sentinel = Sentinel(folder / "sentinel", master)
        sentinel.start()
        running.callback(sentinel.stop)
        watched = Watched(master, replica, sentinel)
        wait_until_blocking(watched.is_whole, "the sentinel knows of a replica in step", timeout_s=READY_S)
        yield watched
