"""What `python -m server ops doctor` asks Redis about itself. Nothing is changed."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from store.errors import StoreError, Unavailable
from store.redis.client import Redis, RedisError
from store.redis.directory import NODES

OLDEST_VERSION: Final = (6, 2)


class RedisState(Struct, frozen=True):
    """
    :ivar max_bytes: 0: as much as the machine has.
    :ivar has_persistence: an append-only file, or snapshots that were made since the start.
    :ivar write_fault: why the last write to disk failed; empty: it did not.
    :ivar is_cluster: a server of a Redis Cluster.
    :ivar now_us: by its clock.
    """

    version: str
    policy: str
    used_bytes: int
    max_bytes: int
    evicted_keys: int
    has_persistence: bool
    write_fault: str
    is_replica: bool
    is_cluster: bool
    clients: int
    max_clients: int
    now_us: int


async def describe(redis: Redis) -> dict[str, RedisState | StoreError | None]:
    """The state of each server, by its name; None: the login may not ask (`INFO` is among the commands that operators
    take away).

    :raises Unavailable: if the masters of a cluster cannot be found.
    """
    infos, times = await redis.ask_each("INFO"), await redis.ask_each("TIME")
    if not infos:
        raise Unavailable("Redis", redis.where, "the masters are not known")
    return {where: _state(info, times[where]) for where, info in infos.items()}


async def misplaced(redis: Redis) -> list[str]:
    """The servers that hold nodes on a bus which belongs to another server, or to none: other processes were given
    other URLs, or the same in another order. In a cluster that cannot be.

    :raises Unavailable: if no server can be reached.
    """
    found = set[str]()
    for bus, key in enumerate(NODES):
        right = redis.where_of(bus) if bus < redis.buses else ""
        for where, reply in (await redis.ask_each("EXISTS", key)).items():
            if reply == 1 and where != right:
                found.add(where)
    return sorted(found)


def _state(info: Any, time: Any) -> RedisState | StoreError | None:
    if isinstance(info, RedisError) and info.code == "NOPERM":
        return None
    for each in (info, time):
        if isinstance(each, StoreError):
            return each
    said = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    faults = {
        "the append-only file": said.get("aof_last_write_status", "ok"),
        "the last snapshot": said.get("rdb_last_bgsave_status", "ok"),
    }
    return RedisState(
        version=said.get("redis_version", "unknown"),
        policy=said.get("maxmemory_policy", "unknown"),
        used_bytes=int(said.get("used_memory", 0)),
        max_bytes=int(said.get("maxmemory", 0)),
        evicted_keys=int(said.get("evicted_keys", 0)),
        has_persistence=said.get("aof_enabled") == "1" or int(said.get("rdb_saves", 0)) > 0,
        write_fault=", ".join(name for name, state in faults.items() if state != "ok"),
        is_replica=said.get("role") == "slave",
        is_cluster=said.get("cluster_enabled") == "1",
        clients=int(said.get("connected_clients", 0)),
        max_clients=int(said.get("maxclients", 0)),
        now_us=int(time[0]) * 1_000_000 + int(time[1]),
    )
