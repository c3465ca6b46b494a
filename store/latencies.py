"""Delivery times: a histogram with logarithmic buckets, summed in Postgres by day.

A bucket is 12.2 % wider than the one below it, so a percentile read from it is too high by that much at most, and never
too low (decision 24). A day of a whole cluster has at most `BUCKETS` rows; histograms of days, or of gateways, are
added bucket by bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from store import sql
from store.postgres.columns import BIGINTS
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("analytics")
_ADD: Final = Statement(_sql.add_latencies, {"days": BIGINTS, "buckets": BIGINTS, "counts": BIGINTS})

PER_DECADE: Final = 20
"""Buckets from 1 ms to 10 ms, and so on: each is 10 ** (1 / 20) = 1.122 times as wide as the one below it."""

SHORTEST_MS: Final = 1.0
"""Shorter times count as this: the clocks are not more exact (`store.clock`)."""

LONGEST_MS: Final = 3_600_000.0
"""One hour. Longer times count as this: a device that stays connected for an hour without a mark is broken."""

BUCKETS: Final = math.ceil(PER_DECADE * math.log10(LONGEST_MS / SHORTEST_MS)) + 1
"""133: bucket 0 is up to `SHORTEST_MS`, the last one up to `LONGEST_MS` and beyond."""

DAY_US: Final = 86_400_000_000


def bucket_of(latency_us: int) -> int:
    """The bucket of a latency. It may be wrong by the clocks' error, and so be below 0."""
    ms = latency_us / 1000
    if ms <= SHORTEST_MS:
        return 0
    return min(math.ceil(PER_DECADE * math.log10(ms / SHORTEST_MS)), BUCKETS - 1)


def upper_ms(bucket: int) -> float:
    """The upper bound of the bucket; the last bucket also has longer times."""
    bound_ms: float = min(SHORTEST_MS * 10.0 ** (bucket / PER_DECADE), LONGEST_MS)
    return math.ceil(bound_ms * 1000) / 1000


def percentile_ms(counts: Mapping[int, int], percent: float) -> float:
    """The time that the given percentage of the samples does not exceed, by nearest rank: 12.2 % too high at most,
    never too low.

    Below 1 ms and above 1 h it is that bound.

    :param counts: bucket -> samples; at least one sample in all.
    """
    rank = max(1, math.ceil(sum(counts.values()) * percent / 100))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return upper_ms(bucket)
    raise ValueError("no samples")


async def add_latencies(pool: Pool, counts: Mapping[tuple[int, int], int]) -> None:
    """Add samples to those of their days, in one statement.

    :param counts: (day, bucket) -> samples; days are numbered from 1970-01-01 in UTC.
    :raises Overloaded: if no connection became free; nothing was added.
    :raises Unavailable: if Postgres cannot be reached, or did not answer: the outcome is unknown.
    """
    keys = sorted(counts)
    await pool.run(
        _ADD,
        {
            "days": [day for day, _ in keys],
            "buckets": [bucket for _, bucket in keys],
            "counts": [counts[key] for key in keys],
        },
    )
