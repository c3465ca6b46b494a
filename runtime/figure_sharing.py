"""Shares figures of this process with operators who look at the operations page (`store.redis.figures`)."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog
import trio

from runtime.health import Health
from runtime.metrics.page import MetricsPage
from store.distribution import SECONDS, Buckets
from store.errors import Unavailable
from store.redis.client import Redis, RedisError
from store.redis.figures import SHARE_S, SharedFigures, share, watched_at

log = structlog.get_logger(__name__)

WINDOW_S: Final = 30.0
"""Rates and times are those of the last 30 s: long enough for a p99, and a trouble shows within seconds."""

GAUGES: Final = (
    "alo_connections",
    "alo_users",
    "alo_stream_entries",
    "alo_fanout_waiting",
    "alo_outbox_bytes",
    "alo_http_requests_in_flight",
    "alo_jobs_running",
    "alo_process_resident_memory_bytes",
)
COUNTERS: Final = ("alo_sends_total", "alo_cache_uses_total", "alo_process_cpu_seconds_total")
DISTRIBUTIONS: Final = (
    "alo_delivery_hop_seconds",
    "alo_http_request_seconds",
    "alo_postgres_query_seconds",
    "alo_event_loop_lag_seconds",
)
"""Metrics that are shared, with all of their labels."""

_WANTED: Final = frozenset((*GAUGES, *COUNTERS, *DISTRIBUTIONS))


class _Moment(NamedTuple):
    """The values of the shared metrics at one time of this process's clock, by metric and labels."""

    at: float
    values: Mapping[str, float | Buckets]


class FigureSharing:
    """The figures of this process, shared while an operator looks. Run `run` in a nursery.

    :param id: of the process, as its log lines have it.
    """

    def __init__(self, redis: Redis, id: str, process: str, page: MetricsPage, health: Health) -> None:
        self._redis = redis
        self._id = id
        self._process = process
        self._page = page
        self._health = health
        self._host = socket.gethostname()
        self._moments: deque[_Moment] = deque()

    async def run(self) -> None:
        """Until cancelled. Without Redis there is no page to look at, and the next look finds it again."""
        while True:
            try:
                await self._look()
            except (Unavailable, RedisError) as error:
                log.debug("figures_not_shared", error=str(error))
            await trio.sleep(SHARE_S)

    async def _look(self) -> None:
        at_ms = await watched_at(self._redis)
        if at_ms is None:
            self._moments.clear()
            return
        await share(self._redis, self.figures(at_ms, await self._health.readiness_fault() or ""))

    def figures(self, at_ms: int, fault: str) -> SharedFigures:
        """The figures now, and since the oldest moment within `WINDOW_S`. Atomic (no checkpoint)."""
        now = _Moment(trio.current_time(), self._page.values(_WANTED))
        while self._moments and self._moments[0].at < now.at - WINDOW_S - SHARE_S / 2:
            self._moments.popleft()
        before = self._moments[0] if self._moments else now
        self._moments.append(now)
        gauges: dict[str, float] = {}
        counts: dict[str, float] = {}
        buckets: dict[str, tuple[list[int], float]] = {}
        for name, value in now.values.items():
            metric = name.partition(" ")[0]
            if isinstance(value, Buckets):
                grown = _grown(value, before.values.get(name))
                if any(grown[0]):
                    buckets[name] = grown
            elif metric in GAUGES:
                gauges[name] = value
            else:
                earlier = before.values.get(name, 0.0)
                assert not isinstance(earlier, Buckets)
                counts[name] = value - earlier
        window_s = round(now.at - before.at, 3)
        return SharedFigures(
            self._id, self._process, self._host, os.getpid(), at_ms, window_s, fault, gauges, counts, buckets
        )


def _grown(now: Buckets, before: float | Buckets | None) -> tuple[list[int], float]:
    """The values that came since then; a distribution that was not there had none."""
    assert tuple(now.bounds) == SECONDS
    if not isinstance(before, Buckets):
        return list(now.counts), now.sum
    counts = [count - earlier for count, earlier in zip(now.counts, before.counts, strict=True)]
    return counts, now.sum - before.sum
