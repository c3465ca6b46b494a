"""Sums up the figures that the processes share with operators (`store.redis.figures`). No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from server.http.answers.live import CacheAnswer, NodeAnswer, ProcessAnswer, StatementAnswer, TimesAnswer
from store.distribution import SECONDS
from store.redis.figures import SharedFigures

HOPS: Final = (
    "received_committed",
    "committed_offered",
    "committed_streamed",
    "committed_offered_elsewhere",
    "offered_written",
)
"""In the order of a message's way (`server.gateway.delivery_hops`)."""

MAX_STATEMENTS: Final = 10

SERVES: Final = "serves"
SILENT: Final = "silent"

_HITS: Final = frozenset(("hit", "mended"))


class Spread(NamedTuple):
    """Values in the buckets of `SECONDS`, each divided by the seconds of its process's window.

    Rates can be added up over processes whose windows differ; counts cannot.

    :ivar sum: of the values, also a second.
    """

    rates: tuple[float, ...] = (0.0,) * (len(SECONDS) + 1)
    sum: float = 0.0

    def plus(self, other: Spread) -> Spread:
        return Spread(tuple(a + b for a, b in zip(self.rates, other.rates, strict=True)), self.sum + other.sum)

    @property
    def per_s(self) -> float:
        """How many values came in a second."""
        return sum(self.rates)

    def quantile_ms(self, share: float) -> float | None:
        """The value that this share of the values does not exceed, in milliseconds; None if there are no values.

        Within a bucket the values count as spread evenly, as Prometheus' `histogram_quantile` has it; a value above the
        last bound counts as the last bound.
        """
        left = share * self.per_s
        if not self.per_s:
            return None
        for (low, high), rate in zip(pairwise((0.0, *SECONDS)), self.rates, strict=False):
            if rate and left <= rate:
                return round((low + (high - low) * left / rate) * 1000, 2)
            left -= rate
        return SECONDS[-1] * 1000


class LiveFigures:
    """
    :param shared: of all processes.
    """

    def __init__(self, shared: Sequence[SharedFigures]) -> None:
        self._shared = shared
        self._timed = [each for each in shared if each.window_s > 0]

    def gauge(self, name: str) -> int:
        """The sum over all processes."""
        return round(sum(each.gauges.get(name, 0) for each in self._shared))

    def rate(self, name: str) -> float:
        """The growth of a counter in a second, of all processes."""
        return round(sum(each.counts.get(name, 0) / each.window_s for each in self._timed), 2)

    def times(self) -> list[TimesAnswer]:
        """The times of the hops of deliveries, and of HTTP."""
        hops = [(hop, f"alo_delivery_hop_seconds {hop}") for hop in HOPS]
        return [_times(name, self._spread(key)) for name, key in (*hops, ("http", "alo_http_request_seconds"))]

    def requests_per_s(self) -> float:
        """The requests by HTTP, with those of operators."""
        return round(self._spread("alo_http_request_seconds").per_s, 2)

    def caches(self) -> list[CacheAnswer]:
        """Those that exist, by name."""
        found: dict[str, tuple[float, float]] = {}
        for each in self._timed:
            for (cache, outcome), count in _labelled(each.counts, "alo_cache_uses_total"):
                uses, hits = found.get(cache, (0.0, 0.0))
                rate = count / each.window_s
                found[cache] = uses + rate, hits + rate * (outcome in _HITS)
        return [
            CacheAnswer(cache, round(uses, 2), round(hits / uses, 4) if uses else None)
            for cache, (uses, hits) in sorted(found.items())
        ]

    def statements(self) -> list[StatementAnswer]:
        """Those that took most time."""
        prefix = "alo_postgres_query_seconds "
        keys = {key for each in self._timed for key in each.buckets if key.startswith(prefix)}
        spreads = {key.removeprefix(prefix): self._spread(key) for key in keys}
        busiest = sorted(spreads.items(), key=lambda item: (-item[1].sum, item[0]))[:MAX_STATEMENTS]
        return [
            StatementAnswer(
                statement=name,
                per_s=round(spread.per_s, 2),
                busy=round(spread.sum, 4),
                mean_ms=round(spread.sum / spread.per_s * 1000, 2),
                p99_ms=spread.quantile_ms(0.99),
            )
            for name, spread in busiest
        ]

    def processes(self) -> list[ProcessAnswer]:
        """In the order of their kinds."""
        return [_process(each) for each in self._shared]

    def nodes(self, leased: Iterable[bytes]) -> list[NodeAnswer]:
        """
        :param leased: the nodes that have a lease.
        """
        found = {each.id: each for each in self._shared if each.process == "socket"}
        return [_node(node, found.get(node)) for node in sorted({*(each.hex() for each in leased), *found})]

    def _spread(self, key: str) -> Spread:
        """The times with these labels, or with these and more."""
        found = Spread()
        for each in self._timed:
            for name, (counts, total) in each.buckets.items():
                if name == key or name.startswith(f"{key} "):
                    rates = tuple(count / each.window_s for count in counts)
                    found = found.plus(Spread(rates, total / each.window_s))
        return found


def _labelled(values: dict[str, float], name: str) -> Iterator[tuple[list[str], float]]:
    for key, value in values.items():
        metric, *labels = key.split(" ")
        if metric == name:
            yield labels, value


def _times(name: str, spread: Spread) -> TimesAnswer:
    return TimesAnswer(name, round(spread.per_s, 2), *(spread.quantile_ms(share) for share in (0.5, 0.95, 0.99)))


def _process(each: SharedFigures) -> ProcessAnswer:
    used = sum(value for _, value in _labelled(each.counts, "alo_process_cpu_seconds_total"))
    return ProcessAnswer(
        id=each.id,
        process=each.process,
        host=each.host,
        pid=each.pid,
        fault=each.fault,
        cpu=round(used / each.window_s, 3) if each.window_s else 0.0,
        memory_bytes=round(each.gauges.get("alo_process_resident_memory_bytes", 0)),
        loop_lag_p99_ms=LiveFigures([each])._spread("alo_event_loop_lag_seconds").quantile_ms(0.99),
    )


def _node(node: str, figures: SharedFigures | None) -> NodeAnswer:
    if figures is None:
        return NodeAnswer(node, SILENT, None, None, None, None, None, None, None)

    def gauge(name: str) -> int:
        return round(figures.gauges.get(name, 0))

    return NodeAnswer(
        node=node,
        status=figures.fault or SERVES,
        host=figures.host,
        pid=figures.pid,
        connections=gauge("alo_connections"),
        users=gauge("alo_users"),
        stream_entries=gauge("alo_stream_entries"),
        fanout_waiting=gauge("alo_fanout_waiting"),
        outbox_bytes=gauge("alo_outbox_bytes"),
    )
