"""Checks of Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from server.cli.checks.database import check_clock
from server.cli.checks.finding import Finding, error, ok, warning
from store.redis.checks import OLDEST_VERSION, RedisState
from store.redis.eviction import KEEPS_ALL

FULL: Final = 0.8
"""The used share of the memory from which the check warns: streams and the directory grow with a rush of clients."""


def check_redis(name: str, server: RedisState | None, *, is_cluster_named: bool = False) -> Iterator[Finding]:
    """Findings about a Redis that has answered just now.

    :param name: the variable that names it.
    :param server: None: the login may not ask it.
    :param is_cluster_named: the URL is that of a Redis Cluster.
    """
    if server is None:
        advice = "add +info to its ACL, or look by hand: redis-cli info, and config get maxmemory-policy (noeviction)"
        yield warning(name, "the login may not ask for INFO, so version, eviction and memory are not known", advice)
        return
    oldest = ".".join(map(str, OLDEST_VERSION))
    is_old = tuple(int(each) for each in server.version.split(".")[:2] if each.isdecimal()) < OLDEST_VERSION
    if is_old:
        yield error(f"{name}: version", server.version, f"use Redis {oldest} or newer")
    else:
        yield ok(f"{name}: version", server.version)
    if server.is_cluster and not is_cluster_named:
        advice = "write redis+cluster://HOST:PORT,HOST:PORT (docs/deployment.md)"
        yield error(f"{name}: kind", "a server of a Redis Cluster, which the URL does not say", advice)
    if server.is_replica:
        yield error(f"{name}: kind", "a replica, which takes no writes", "name the master, or the sentinels")
    yield _eviction(name, server)
    yield _persistence(name, server)
    yield from _memory(name, server)
    if server.max_clients and server.clients > FULL * server.max_clients:
        advice = "raise maxclients: a process that finds no room does not serve"
        yield warning(f"{name}: clients", f"{server.clients} of {server.max_clients}", advice)
    yield check_clock(name, time.time() - server.now_us / 1e6)


def _eviction(name: str, server: RedisState) -> Finding:
    if server.policy != KEEPS_ALL:
        advice = "config set maxmemory-policy noeviction, and in redis.conf: an evicted key is a lost node or lost jobs"
        return error(f"{name}: eviction", f"maxmemory-policy is {server.policy}", advice)
    if server.evicted_keys:
        advice = "it has evicted since its start, before the policy was changed: watch the nodes' caught_up"
        return warning(f"{name}: eviction", f"{server.evicted_keys} keys were evicted", advice)
    return ok(f"{name}: eviction", KEEPS_ALL)


def _persistence(name: str, server: RedisState) -> Finding:
    if server.write_fault:
        advice = "look at its log and its disk: with stop-writes-on-bgsave-error it refuses all writes"
        return error(f"{name}: persistence", f"it could not write {server.write_fault}", advice)
    if not server.has_persistence:
        # Only volatile jobs and counters are lost (P9).
        return ok(f"{name}: persistence", "none; it is not needed, since Postgres has all that must survive")
    return ok(f"{name}: persistence", "on")


def _memory(name: str, server: RedisState) -> Iterator[Finding]:
    used = server.used_bytes // 1024**2
    if not server.max_bytes:
        yield ok(f"{name}: memory", f"{used} MiB, without a limit")
        return
    text = f"{used} of {server.max_bytes // 1024**2} MiB"
    if server.used_bytes > FULL * server.max_bytes:
        advice = "raise maxmemory: once it is full, nodes cannot tell each other, and jobs wait"
        yield warning(f"{name}: memory", text, advice)
    else:
        yield ok(f"{name}: memory", text)
