"""Latencies of the messages that were meant to be sent within a stretch of time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence


class Recorder:
    """Collects the messages that were stamped between `open` and `close`; clears itself at each `open`.

    A latency counts from the stamp, the time at which the message should have been sent, and belongs to the stretch of
    the stamp, whenever the answer comes. So neither a late generator nor a stalled server can hide a wait.
    """

    __slots__ = ("_end", "_start", "acks", "deliveries", "lateness")

    def __init__(self) -> None:
        self._start = self._end = math.inf
        self.acks = array("d")
        self.deliveries = array("d")
        self.lateness = array("d")

    def open(self, now: float) -> None:
        """Begin a stretch."""
        self._start, self._end = now, math.inf
        self.acks, self.deliveries, self.lateness = array("d"), array("d"), array("d")

    def close(self, now: float) -> float:
        """End the stretch and return its length in seconds; later answers to messages that were stamped in it still
        count."""
        self._end = now
        return now - self._start

    def sent(self, stamp: float, now: float) -> None:
        """A message left at `now` that should have left at `stamp`."""
        if self._start <= stamp < self._end:
            self.lateness.append(now - stamp)

    def acked(self, stamp: float, now: float) -> None:
        if self._start <= stamp < self._end:
            self.acks.append(now - stamp)

    def delivered(self, stamp: float, now: float) -> None:
        if self._start <= stamp < self._end:
            self.deliveries.append(now - stamp)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value v such that at least `percent` % of the values are at most v (nearest rank); None of no
    values."""
    if not values:
        return None
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


def milliseconds(values: Sequence[float], percent: float) -> float | None:
    """A percentile of seconds, in ms with microseconds kept."""
    value = percentile(values, percent)
    return None if value is None else round(value * 1e3, 3)
