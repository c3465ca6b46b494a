"""Faults that tests cause from outside, through the services' own interfaces."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis


def flush_redis(url: str) -> None:
    """FLUSHALL: Redis forgets everything, as after a restart without persistence."""
    with _client(url) as client:
        client.flushall()


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
