"""When sends are due."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.mixture import OperationKind

CLOSED: Final = "closed"
"""The load without a rate."""

IDLE: Final = "idle"
"""No load: the connections do nothing, and are measured as under a load."""


@dataclass(frozen=True)
class Load:
    """One kind of load.

    :ivar rate: sends a second, evenly spaced and spread over the chats in turn (an open loop); None for a closed loop,
        where every chat always has `window` sends in flight. Without a rate, a window of 0 is idle.
    :ivar without: kinds of operations that a mixed load leaves out; the others keep their rates.
    """

    rate: float | None = None
    window: int = 1
    without: frozenset[OperationKind] = frozenset()

    @property
    def is_idle(self) -> bool:
        return self.rate is None and self.window == 0

    @property
    def name(self) -> str:
        if self.is_idle:
            return IDLE
        return CLOSED if self.rate is None else "-".join([f"rate-{self.rate:g}", *sorted(self.without)])


def parse_loads(text: str, window: int) -> list[Load]:
    """Parse `closed,200,1000,idle` to loads; `200-mark-list` is a mixed load without marks and lists."""
    kinds = {CLOSED: Load(None, window), IDLE: Load(None, 0)}
    return [kinds.get(item) or _rate(*item.split("-"), window=window) for item in text.split(",")]


def _rate(rate: str, *without: str, window: int) -> Load:
    return Load(float(rate), window, frozenset(map(OperationKind, without)))


class OpenLoop:
    """The send times of an open loop: `start`, and then one every 1/rate seconds, independent of the answers.

    After a stall a server gets all sends of the meantime, each with the wait that it had. A loop that waits for answers
    would have left those sends out ("coordinated omission").
    """

    __slots__ = ("_count", "_interval", "_start", "next")

    def __init__(self, rate: float, start: float) -> None:
        self._interval = 1 / rate
        self._start = start
        self._count = 0
        self.next = start

    def due(self, now: float) -> Iterator[tuple[int, float]]:
        """The numbers and times of the sends that are due since the last call."""
        while self.next <= now:
            yield self._count, self.next
            self._count += 1
            self.next = self._start + self._count * self._interval

    def stop(self) -> None:
        """No further send is due."""
        self.next = math.inf
