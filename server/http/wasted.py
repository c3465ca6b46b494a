"""Hashes to no good end: wrong passwords and registrations, by the address or device that caused them.

One process counts them, for the order of turns alone. Many people may share an address, so each right password is as if
it had never been asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import trio

KEPT_S: Final = 900.0
"""A source is forgotten so long after its last one. An attacker's crowd of addresses that waits for this does no harm
meanwhile."""

MAX_SOURCES: Final = 50_000
"""Sources that are remembered, in some 15 MB at most; those longest at rest are forgotten first."""


class Wasted:
    """The counts. All methods are synchronous, so each is atomic under Trio."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        """Source -> how many, and when it is forgotten; the first to be forgotten first."""

    def of(self, source: Hashable) -> int:
        count, forgotten_at = self._counts.get(source, (0, 0.0))
        return count if trio.current_time() < forgotten_at else 0

    def note(self, source: Hashable) -> None:
        now = trio.current_time()
        self._counts[source] = (self.of(source) + 1, now + KEPT_S)
        self._counts.move_to_end(source)
        while len(self._counts) > MAX_SOURCES or next(iter(self._counts.values()))[1] <= now:
            self._counts.popitem(last=False)
