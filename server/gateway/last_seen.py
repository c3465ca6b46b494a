"""When users were online last, and on which days: noted as users come and go, and written in batches.

A user that stays connected over midnight (UTC) is noted on the new day as well. So the users of a day are known
exactly: those that had a live connection on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from server.delivery.hub import Hub
from store.batching.commits import Commits
from store.batching.group_commit import Batcher, BatchStatistics
from store.errors import Overloaded
from store.last_seen import touch
from store.latencies import DAY_US
from store.postgres.pool import Pool

PATIENCE_S: Final = 1.0
"""Time until a batch is written. No caller waits for it, and a client that changes networks reconnects within it: one
row instead of two."""

INSIST_S: Final = 600.0
"""A write that fails is repeated for this time, once in `PATIENCE_S`. A longer outage costs only times that the next
coming or going puts right."""

LOOK_S: Final = 10.0
"""Time between checks for a new day. A user that leaves in between is noted by leaving."""

AT_ONCE: Final = 512
"""Users that are noted at once on a new day; the next ones follow after `PATIENCE_S`."""


class _Seen(NamedTuple):
    user: bytes
    at: float


class LastSeen:
    """The users of this node with a last-seen time to be written.

    :param now_us: the time by Postgres' clock, in microseconds since 1970.
    """

    def __init__(self, pool: Pool, hub: Hub, now_us: Callable[[], int]) -> None:
        self._pool = pool
        self._hub = hub
        self._now_us = now_us
        self._batcher: Batcher[_Seen, bool] = Batcher(
            "the last-seen queue", self._write, self._settle, lambda _: 16, patience_s=PATIENCE_S
        )

    def note(self, user: bytes) -> None:
        """Note that the user has come, or gone. Atomic (no checkpoint)."""
        # If a herd fills the queue, the time of the last hello has to do.
        self._submit(_Seen(user, trio.current_time()))

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._batcher.run)
            nursery.start_soon(self._note_each_day)

    @property
    def commits(self) -> Commits:
        return self._batcher.commits

    def statistics(self) -> BatchStatistics:
        return self._batcher.statistics()

    async def wait_idle(self) -> None:
        """Return once everything has been written."""
        await self._batcher.wait_idle()

    def _submit(self, seen: _Seen) -> bool:
        try:
            self._batcher.submit_nowait(seen)
        except Overloaded:
            return False
        return True

    async def _write(self, batch: list[_Seen]) -> list[bool]:
        now = trio.current_time()
        return await touch(self._pool, [each.user for each in batch], [round((now - each.at) * 1e6) for each in batch])

    def _settle(self, batch: list[_Seen], outcomes: list[bool]) -> None:
        now = trio.current_time()
        for seen, is_stored in zip(batch, outcomes, strict=True):
            if not is_stored and now - seen.at < INSIST_S:
                self._submit(seen)

    async def _note_each_day(self) -> None:
        day = self._now_us() // DAY_US
        while True:
            await trio.sleep(LOOK_S)
            if self._now_us() // DAY_US > day:
                day = self._now_us() // DAY_US
                await self._note_all()

    async def _note_all(self) -> None:
        """Note all users of this node on the new day."""
        waiting = deque(self._hub.users())
        while waiting:
            for user in [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]:
                # A user that has left meanwhile was noted by leaving.
                if self._hub.holds(user) and not self._submit(_Seen(user, trio.current_time())):
                    waiting.append(user)
            await trio.sleep(PATIENCE_S)
