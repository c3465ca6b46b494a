"""The metrics of `web` at a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.metrics.key_samples import key_samples
from runtime.metrics.replica_samples import replica_samples
from runtime.metrics.samples import Sample, by_label
from runtime.metrics.store_samples import cache_uses, object_samples, pool_samples, redis_samples
from server.http.open_connections import OpenConnections
from server.http.services import Services


def web_samples(services: Services, connections: OpenConnections) -> Iterator[Sample]:
    """All of one process. Atomic (no checkpoint)."""
    yield from _connection_samples(connections)
    counts = services.counts
    for labels, seconds in counts.seconds.items():
        yield Sample("alo_http_request_seconds", seconds, labels)
    yield Sample("alo_http_requests_in_flight", counts.in_flight)
    yield from by_label("alo_http_unrouted_total", counts.unrouted)
    yield from by_label("alo_http_limited_total", counts.limited)
    yield Sample("alo_http_request_bytes", counts.request_bytes)
    yield from by_label("alo_http_answer_bytes", counts.answer_bytes)
    sources = {**services.request_turns.by_source(), "large_bodies": services.large_bodies}
    for source, turns in sources.items():
        yield Sample("alo_http_requests_waiting", turns.statistics().waiting, (source,))
        yield Sample("alo_http_turn_wait_seconds", turns.wait_seconds, (source,))
    for source, turns in services.passwords.by_source().items():
        yield Sample("alo_password_hashes_waiting", turns.statistics().waiting, (source,))
        yield Sample("alo_password_hash_wait_seconds", turns.wait_seconds, (source,))
    yield Sample("alo_password_hash_seconds", services.passwords.seconds)
    for cache in services.first_pages.statistics():
        yield from cache_uses(cache.name, hits=cache.hits, misses=cache.misses, mended=cache.mended)
        yield Sample("alo_cache_values", cache.values, (cache.name,))
        yield Sample("alo_cache_bytes", cache.bytes, (cache.name,))
    yield from key_samples(services.key_claims)
    yield from object_samples(services.objects)
    yield from pool_samples(services.pool)
    yield from replica_samples(services.replicas)
    yield from redis_samples(services.redis, "bus")


def _connection_samples(connections: OpenConnections) -> Iterator[Sample]:
    waiting = connections.waiting
    yield Sample("alo_http_connections", waiting, ("waiting",))
    yield Sample("alo_http_connections", len(connections) - waiting, ("in_use",))
    yield Sample("alo_http_connections_accepted_total", connections.accepted)
    yield Sample("alo_http_connections_refused_total", connections.refused)
    yield Sample("alo_http_connections_expired_total", connections.expired)
