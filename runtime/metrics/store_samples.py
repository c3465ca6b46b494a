"""Samples of Postgres, Redis and batches, which several processes have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from runtime.metrics.samples import Sample
from store.batching.commits import Commits
from store.objects.interface import Objects
from store.postgres.pool import Pool
from store.redis.client import Redis


def pool_samples(pool: Pool) -> Iterator[Sample]:
    """Figures of the pool of a process."""
    found, reads = pool.statistics(), pool.reads.statistics()
    for statement, seconds in pool.query_seconds.items():
        yield Sample("alo_postgres_query_seconds", seconds, (statement,))
    yield Sample("alo_postgres_pool_wait_seconds", pool.wait_seconds)
    yield Sample("alo_postgres_pool_waiting", found.waiting)
    yield Sample("alo_postgres_connections", found.in_use, ("in_use",))
    yield Sample("alo_postgres_connections", found.idle, ("idle",))
    yield Sample("alo_postgres_connections", max(0, found.size - found.in_use - found.idle), ("unopened",))
    yield Sample("alo_postgres_connects_total", found.connects)
    yield Sample("alo_postgres_discarded_total", found.discarded)
    yield Sample("alo_postgres_unknown_outcomes_total", found.unknown_outcomes)
    yield Sample("alo_postgres_reads_total", reads.items)
    yield Sample("alo_postgres_read_round_trips_total", reads.round_trips)
    yield Sample("alo_postgres_reads_waiting", reads.waiting)


def redis_samples(redis: Redis, use: Literal["bus", "jobs"]) -> Iterator[Sample]:
    """Figures of one connection.

    :param use: what the process uses it for.
    """
    yield Sample("alo_redis_commands_total", redis.commands, (use,))
    yield Sample("alo_redis_failures_total", redis.failures, (use,))
    yield Sample("alo_redis_reply_seconds", redis.reply_seconds, (use,))
    yield Sample("alo_redis_in_flight", redis.in_flight, (use,))
    yield Sample("alo_redis_connects_total", redis.connects, (use,))
    yield Sample("alo_redis_moves_total", redis.moves, (use,))
    yield Sample("alo_redis_connected", int(redis.is_connected), (use,))


def object_samples(objects: Objects | None) -> Iterator[Sample]:
    """Figures of the object store, if the deployment has one."""
    if objects is not None:
        for labels, seconds in objects.calls.seconds.items():
            yield Sample("alo_object_store_call_seconds", seconds, labels)


def batch_samples(queue: str, commits: Commits, queued: int) -> Iterator[Sample]:
    """Figures of one queue."""
    yield Sample("alo_batch_items", commits.items, (queue,))
    yield Sample("alo_batch_commit_seconds", commits.seconds, (queue,))
    yield Sample("alo_batch_queued", queued, (queue,))


def cache_uses(cache: str, *, hits: int, misses: int, mended: int = 0) -> Iterator[Sample]:
    """Figures of one cache."""
    yield Sample("alo_cache_uses_total", hits, (cache, "hit"))
    yield Sample("alo_cache_uses_total", mended, (cache, "mended"))
    yield Sample("alo_cache_uses_total", misses, (cache, "miss"))
