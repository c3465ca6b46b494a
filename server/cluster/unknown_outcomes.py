"""Writes with an unknown outcome: this process makes the outcome certain, and every node pushes the changes.

A write may be committed though its answer is lost. A client that repeats it gets a success, and no node pushes the
change: that was the task of the first attempt. So the pool notes every such write, of any kind
(`store.postgres.pool.UnknownOutcome`), and this process makes its outcome certain: it has Postgres end the backend that
may still run the write. Then the nodes catch up (`server.cluster.catch_up`); by then the change is committed or never
will be.

While Postgres cannot be reached, the nodes catch up now and then all the same: some changes are committed already, and
no cursor moves past a time in which changes may be missing (`server.cluster.cursor_advance`).
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
"""Timeout of the first look. It takes milliseconds if Postgres answers; else the nodes are told after this time: see
`server.cluster.cursor_advance.SETTLE_S`."""

LOOK_S: Final = 5.0
"""Timeout of each later look, with the time to connect; and the interval at which the nodes are told while outcomes
are unknown."""

PAUSE_S: Final = 0.2
"""Pause between looks: a backend that was told to end takes a moment; and one look serves many outcomes."""


class UnknownOutcomes:
    """The writes of this process with an unknown outcome. Run `run` in a nursery.

    :param url: of Postgres.
    :param tell: called with a time, by Trio's clock; changes may have been committed since then that no node was told
        of.
    """

    def __init__(self, url: str, tell: Callable[[float], None]) -> None:
        self._url = url
        self._tell = tell
        self._open: set[UnknownOutcome] = set()
        self._noted = trio.Event()
        self._count = 0

    def note(self, outcome: UnknownOutcome) -> None:
        """Note that a write's outcome is unknown. Atomic (no checkpoint)."""
        self._open.add(outcome)
        self._count += 1
        self._noted.set()

    @property
    def are_open(self) -> bool:
        """Whether changes may have been committed, or may still be, that no node was told of."""
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
        """Look once; tell the nodes if an outcome has become certain, or if they were told `timeout_s` ago or longer.

        :param told_at: when the nodes were told last.
        :returns: the same, after this look.
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
            # Tell before removing them: once they are removed, cursors move again unless a catch-up was requested.
            self._tell(min(each.began for each in certain))
            self._open -= certain
            log.info("outcomes_certain", writes=len(certain), of=self._count)
        elif now - told_at >= timeout_s:
            log.warning("outcomes_unknown", writes=len(outcomes), error=error)
            self._tell(told_at)
            return now
        return told_at
