"""Faults that tests cause from outside, through the services' own interfaces."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis


def flush_redis(url: str) -> None:
    """FLUSHALL: Redis forgets everything, as after a restart without persistence."""
    parts = urlsplit(url)
    with redis.Redis(host=parts.hostname or "127.0.0.1", port=parts.port or 6379) as client:
        client.flushall()


def redis_keys(url: str, pattern: str) -> list[bytes]:
    """The keys that Redis has now."""
    parts = urlsplit(url)
    with redis.Redis(host=parts.hostname or "127.0.0.1", port=parts.port or 6379) as client:
        return sorted(client.keys(pattern))
