"""Bounds the lines of an event that may come thousands of times a second, and counts those that are left out.

The first lines of each second are written, so that a quiet process logs everything. Once in `REPORT_S` the line
`lines_left_out` says how many others there were, by their outcome: a flood of one kind does not hide that there were
others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
import trio

log = structlog.get_logger(__name__)

LINES_PER_S: Final = 100
"""Lines of one event a second, by default: some 4 ms of work, and at most 2 GB a day."""

REPORT_S: Final = 10.0


class LineSample:
    """The lines of one event. Run `run` in a nursery; everything else is synchronous.

    :param event: its name.
    :param per_s: the most lines of one second.
    :param now: a monotonic clock, in seconds.
    """

    __slots__ = ("_ends_at", "_event", "_left_out", "_now", "_per_s", "_room")

    def __init__(self, event: str, per_s: int, now: Callable[[], float] = trio.current_time) -> None:
        self._event = event
        self._per_s = per_s
        self._now = now
        self._ends_at = 0.0
        self._room = per_s
        self._left_out: Counter[str] = Counter()

    def has_room(self, outcome: str) -> bool:
        """Whether a line may be written now; if not, it is counted.

        :param outcome: of the event, one of a few.
        """
        now = self._now()
        if now >= self._ends_at:
            self._ends_at, self._room = now + 1.0, self._per_s
        if self._room:
            self._room -= 1
            return True
        self._left_out[outcome] += 1
        return False

    async def run(self) -> None:
        """Report until cancelled, and then a last time."""
        try:
            while True:
                await trio.sleep(REPORT_S)
                self.report()
        finally:
            self.report()

    def report(self) -> None:
        """Log how many lines were left out since the last report, if any."""
        if self._left_out:
            left_out, self._left_out = self._left_out, Counter()
            log.info("lines_left_out", of=self._event, lines=left_out.total(), outcomes=dict(left_out))
