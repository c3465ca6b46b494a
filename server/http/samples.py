"""The metrics of `web` at a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.metrics.samples import Sample, by_label
from runtime.metrics.store_samples import cache_uses, object_samples, pool_samples, redis_samples
from server.http.services import Services


def web_samples(services: Services) -> Iterator[Sample]:
    """All of one process. Atomic (no checkpoint)."""
    counts = services.counts
    for labels, seconds in counts.seconds.items():
        yield Sample("alo_http_request_seconds", seconds, labels)
    yield Sample("alo_http_requests_in_flight", counts.in_flight)
    yield from by_label("alo_http_unrouted_total", counts.unrouted)
    yield from by_label("alo_http_limited_total", counts.limited)
    yield from by_label("alo_http_answers_total", counts.answers)
    yield from by_label("alo_http_body_bytes_total", counts.body_bytes)
    yield from by_label("alo_password_hashes_waiting", services.passwords.waiting())
    yield Sample("alo_password_hash_seconds", services.passwords.seconds)
    for cache in services.first_pages.statistics():
        yield from cache_uses(cache.name, hits=cache.hits, misses=cache.misses, mended=cache.mended)
        yield Sample("alo_cache_values", cache.values, (cache.name,))
        yield Sample("alo_cache_bytes", cache.bytes, (cache.name,))
    yield from object_samples(services.objects)
    yield from pool_samples(services.pool)
    yield from redis_samples(services.redis)
