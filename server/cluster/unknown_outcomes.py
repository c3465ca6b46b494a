"""Writes whose outcome is not known: whatever they were, what came of them is found and told on every node.

A write may be committed though its answer is lost. Whoever repeats it is told that all is well, and nobody is told of
the change, as that was the first one's business. So the pool notes every such write
(`store.postgres.pool.UnknownOutcome`), of whatever kind, and this process makes its outcome certain: it has Postgres
end the process that may still be at it. Then the nodes look for what they have not been told of
(`server.cluster.catch_up`), and by then it is there, or never will be.

While that cannot be done, because Postgres cannot be reached, they look all the same, now and then: for what is there
already, and because no cursor moves past a time in which something may be missing (`server.cluster.cursor_advance`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

from store.errors import StoreError
from store.postgres.backends import end_backends
from store.postgres.pool import UnknownOutcome

log = structlog.get_logger(__name__)

FIRST_LOOK_S: Final = 1.0
"""Where Postgres answers, a look takes milliseconds. Where it does not, the nodes are told after this: see
`server.cluster.cursor_advance.SETTLE_S`."""

LOOK_S: Final = 5.0
"""For each later look, a connection included; and so often the nodes are told while there is no certainty."""

PAUSE_S: Final = 0.2
"""Between looks: a process that was told to end takes a moment; and many outcomes at once are one look."""


class UnknownOutcomes:
    """The writes of this process whose outcome is not known. Run `run` in a nursery.

    :param url: of Postgres.
    :param tell: called with a time, by Trio's clock, since when something may have been committed that no node was told
        of.
    """

    def __init__(self, url: str, tell: Callable[[float], None]) -> None:
        self._url = url
        self._tell = tell
        self._open: set[UnknownOutcome] = set()
        self._noted = trio.Event()
        self._count = 0

    def note(self, outcome: UnknownOutcome) -> None:
        """A write's outcome is not known. Atomic (no checkpoint)."""
        self._open.add(outcome)
        self._count += 1
        self._noted.set()

    @property
    def are_open(self) -> bool:
        """Whether something may have been committed that no node was told of, or may be so yet."""
        return bool(self._open)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            told_at = await self._settle(FIRST_LOOK_S, min((each.began for each in self._open), default=0.0))
            while self._open:
                await trio.sleep(PAUSE_S)
                told_at = await self._settle(LOOK_S, told_at)
            await trio.sleep(PAUSE_S)

    async def _settle(self, timeout_s: float, told_at: float) -> float:
        """Look once, and tell the nodes if that has made something certain, or they were told too long ago.

        :param told_at: since when they have not been told.
        :returns: the same, after this.
        """
        outcomes, error = set(self._open), ""
        with trio.move_on_after(timeout_s) as scope:
            try:
                alive = await end_backends(self._url, {each.backend for each in outcomes if each.backend is not None})
            except StoreError as unavailable:
                alive, error = None, str(unavailable)
        if scope.cancelled_caught:
            alive, error = None, f"no answer within {timeout_s:g} s"
        certain = set() if alive is None else {each for each in outcomes if each.backend not in alive}
        now = trio.current_time()
        if certain:
            # Before they are taken from the list: from then on cursors move again, unless a catch-up was requested.
            self._tell(min(each.began for each in certain))
            self._open -= certain
            log.info("outcomes_certain", writes=len(certain), of=self._count)
        elif now - told_at >= timeout_s:
            log.warning("outcomes_unknown", writes=len(outcomes), error=error)
            self._tell(told_at)
            return now
        return told_at
