"""Redis as one server, as three, or as a cluster of three masters with a replica each: real processes.

REDIS_TOPOLOGY (`one`, `three`, `cluster`) chooses the one that `redis_url` names, for the whole run (`make buses`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from embedded.ports import LOOPBACK, free_port, is_free
from embedded.programs import Programs
from embedded.redis import RedisServer
from store.redis.buses import slot_of
from tests.waiting import wait_until_blocking

TOPOLOGY: Final = os.environ.get("REDIS_TOPOLOGY", "one")

MASTERS: Final = 3
SLOTS: Final = 16_384

READY_S: Final = 60.0

NODE_TIMEOUT_MS: Final = 1000
"""A replica takes the place of a master that the others have not heard for so long, a second or so later."""


class RedisServers:
    """Several servers that share the buses.

    :ivar url: for REDIS_URL.
    """

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self.servers = list(servers)
        self.url = " ".join(each.url for each in servers)

    def masters(self) -> list[RedisServer]:
        """The servers that hold keys."""
        return self.servers


class ClusterServer(RedisServer):
    """A server of a cluster, once others have met it."""

    def _command(self, programs: Programs, port: int) -> list[str]:
        return [
            *super()._command(programs, port),
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no"),
            *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"),
        ]

    def call(self, *command: Any) -> Any:
        """Run one command on this server, whatever the cluster says."""
        with redis.Redis(LOOPBACK, self.port) as client:
            return client.execute_command(*command)

    @property
    def name(self) -> str:  # type: ignore[override]
        return "Redis"

    @property
    def id(self) -> str:
        found = self.call("CLUSTER", "MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    @property
    def is_master(self) -> bool:
        return bool(self.is_running and self.call("ROLE")[0] == b"master")


class RedisCluster(RedisServers):
    """Three masters, which share the slots evenly, and a replica of each."""

    def __init__(self, servers: Sequence[ClusterServer]) -> None:
        super().__init__(servers)
        self.everyone = list(servers)
        at = ",".join(f"{LOOPBACK}:{each.port}" for each in servers[:MASTERS])
        self.url = f"redis+cluster://{at}"

    def masters(self) -> list[RedisServer]:
        return [each for each in self.everyone if each.is_master]

    def meet(self) -> None:
        """Make a cluster of the servers."""
        first, *others = self.everyone
        masters, replicas = self.everyone[:MASTERS], self.everyone[MASTERS:]
        for number, each in enumerate(masters):
            slots = range(number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS)
            each.call("CLUSTER", "ADDSLOTS", *slots)
        for other in others:
            first.call("CLUSTER", "MEET", LOOPBACK, other.port)
        for each in self.everyone:
            wait_until_blocking(lambda each=each: self._knows_all(each), "all have met", timeout_s=READY_S)
        for master, replica in zip(masters, replicas, strict=True):
            replica.call("CLUSTER", "REPLICATE", master.id)
        for each in self.everyone:
            wait_until_blocking(lambda each=each: self._is_ready(each), "the cluster is ready", timeout_s=READY_S)

    def _knows_all(self, server: ClusterServer) -> bool:
        info = server.call("CLUSTER INFO")
        return int(info["cluster_known_nodes"]) == len(self.everyone)

    def _is_ready(self, server: ClusterServer) -> bool:
        info = server.call("CLUSTER INFO")
        if info["cluster_state"] != "ok" or int(info["cluster_slots_ok"]) != SLOTS:
            return False
        role = server.call("ROLE")
        return role[0] == b"master" or role[3] == b"connected"


@contextmanager
def redis_servers(topology: str, folder: Path) -> Iterator[RedisServers]:
    """The servers of a topology; they keep nothing on disk."""
    made: list[RedisServer]
    if topology == "cluster":
        made = [ClusterServer(folder / str(n), port=_cluster_port(), durable=False) for n in range(2 * MASTERS)]
    else:
        made = [RedisServer(folder / str(n), durable=False) for n in range({"one": 1, "three": 3}[topology])]
    try:
        with ThreadPoolExecutor(len(made)) as threads:
            list(threads.map(RedisServer.start, made))
        if topology == "cluster":
            cluster = RedisCluster([each for each in made if isinstance(each, ClusterServer)])
            cluster.meet()
            yield cluster
        else:
            yield RedisServers(made)
    finally:
        for each in made:
            each.stop()


def _cluster_port() -> int:
    """A free port; the servers of a cluster listen to one another 10,000 above."""
    while not is_free((port := free_port()) + 10_000):
        pass
    return port


class MovingSlot:
    """A slot on its way from one master to another, as `redis-cli --cluster reshard` moves it, step by step."""

    def __init__(self, cluster: RedisCluster, tag: str) -> None:
        self.slot = slot_of(tag)
        self._masters = [each for each in cluster.everyone if each.is_master]
        self.source = next(each for each in self._masters if self._has(each))
        self.target = next(each for each in self._masters if each is not self.source)

    def begin(self) -> None:
        """From now on, keys that have moved are asked for at the target."""
        self.target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.source.id)
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.target.id)

    def move_key(self) -> bool:
        """Move one key; false if none is left."""
        keys = self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 1)
        if keys:
            self.source.call("MIGRATE", LOOPBACK, self.target.port, "", 0, 5000, "KEYS", *keys)
        return bool(keys)

    def end(self) -> None:
        """Give the slot to the target."""
        for each in (self.target, self.source, *self._masters):
            each.call("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.id)

    def _has(self, server: ClusterServer) -> bool:
        ranges = server.call("CLUSTER", "SLOTS")
        return any(first <= self.slot <= last and port == server.port for first, last, (_, port, *_), *_ in ranges)
