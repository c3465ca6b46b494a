"""Sizes and times of the commits of one queue, and which of them is stuck."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from store.distribution import ITEMS, Distribution

log = structlog.get_logger(__name__)

STUCK_S: Final = 60.0
"""A commit that is under way for longer is stuck. Waiting for a connection and for Postgres has deadlines, and so has
each of the few attempts: together less than this."""


class Commits:
    """The commits of one queue. Everything is synchronous.

    :param name: of the queue, for messages to operators.
    :ivar items: of each commit.
    :ivar seconds: of each commit, with its retries.
    """

    __slots__ = ("_began", "_name", "items", "seconds")

    def __init__(self, name: str) -> None:
        self._name = name
        self._began: list[float] = []
        self.items = Distribution(ITEMS)
        self.seconds = Distribution()

    def begin(self, items: int) -> float:
        """A commit of so many items begins; give the returned time to `end`."""
        began = trio.current_time()
        self._began.append(began)
        self.items.observe(items)
        return began

    def end(self, began: float) -> None:
        """The commit has ended, whatever its outcome, or was cancelled."""
        self._began.remove(began)
        seconds = trio.current_time() - began
        self.seconds.observe(seconds)
        log.debug("batch_committed", queue=self._name, ms=round(1000 * seconds, 1))

    def overdue(self) -> str:
        """A sentence about the commit that is stuck; "" if none is."""
        age_s = trio.current_time() - min(self._began, default=trio.current_time())
        return f"a commit of {self._name} is under way for {age_s:.0f} s" if age_s > STUCK_S else ""
