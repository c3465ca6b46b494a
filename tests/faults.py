"""Faults that tests cause from outside, through the services' own interfaces."""

from __future__ import annotations

import socket
from contextlib import suppress

import redis

from store.redis.url import parse_redis_urls
from tests.waiting import DEADLINE_S


def flush_redis(url: str) -> None:
    """FLUSHALL: Redis forgets everything, as after a restart without persistence; each server of several.

    Most tests begin with it, and to make a client of redis-py takes ten times the CPU of the command.
    """
    for address in masters_of(url):
        with socket.create_connection(address, timeout=DEADLINE_S) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            answer = connection.recv(64)
        assert answer == b"+OK\r\n", answer


def masters_of(urls: str) -> list[tuple[str, int]]:
    """The addresses of the servers that take writes."""
    named = [(each.host, each.port or 6379) for url in parse_redis_urls(urls) for each in url.addresses]
    if "+cluster://" not in urls:
        return named
    with redis.Redis(*_first_that_listens(named)) as client:
        ranges = client.execute_command("CLUSTER", "SLOTS")
    return sorted({(host.decode(), port) for _, _, (host, port, *_), *_ in ranges})


def _first_that_listens(addresses: list[tuple[str, int]]) -> tuple[str, int]:
    for address in addresses:
        with suppress(OSError), socket.create_connection(address, timeout=DEADLINE_S):
            return address
    raise AssertionError(f"none listens: {addresses}")


def set_redis(url: str, name: str, value: str) -> None:
    """CONFIG SET, on each server."""
    for host, port in masters_of(url):
        with redis.Redis(host, port) as client:
            client.config_set(name, value)


def redis_keys(url: str, pattern: str) -> list[bytes]:
    """The keys that Redis has now."""
    found = list[bytes]()
    for host, port in masters_of(url):
        with redis.Redis(host, port) as client:
            found += client.keys(pattern)
    return sorted(found)


def redis_memory(url: str) -> int:
    """The bytes that Redis takes now."""
    used = 0
    for host, port in masters_of(url):
        with redis.Redis(host, port) as client:
            used += int(client.info("memory")["used_memory"])
    return used
