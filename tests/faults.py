"""Faults that tests cause from outside, through the services' own interfaces."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import redis

from tests.waiting import DEADLINE_S


def flush_redis(url: str) -> None:
    """FLUSHALL: Redis forgets everything, as after a restart without persistence.

    Most tests begin with it, and to make a client of redis-py takes ten times the CPU of the command.
    """
    parts = urlsplit(url)
    with socket.create_connection(
        (parts.hostname or "127.0.0.1", parts.port or 6379), timeout=DEADLINE_S
    ) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        answer = connection.recv(64)
    assert answer == b"+OK\r\n", answer


def set_redis(url: str, name: str, value: str) -> None:
    """CONFIG SET."""
    with _client(url) as client:
        client.config_set(name, value)


def redis_keys(url: str, pattern: str) -> list[bytes]:
    """The keys that Redis has now."""
    with _client(url) as client:
        return sorted(client.keys(pattern))


def redis_memory(url: str) -> int:
    """The bytes that Redis takes now."""
    with _client(url) as client:
        return int(client.info("memory")["used_memory"])


def _client(url: str) -> redis.Redis:
    parts = urlsplit(url)
    return redis.Redis(host=parts.hostname or "127.0.0.1", port=parts.port or 6379)
