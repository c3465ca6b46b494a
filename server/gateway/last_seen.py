"""Who was here last, and when, and on which days: noted as users come and go, and written in batches.

Whoever stays connected over midnight (UTC) is noted on the new day as well, so it is exactly known who was active on a
day: who had a live connection in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from server.delivery.hub import Hub
from store.batching.group_commit import Batcher
from store.errors import Overloaded
from store.last_seen import touch
from store.latencies import DAY_US
from store.postgres.pool import Pool

PATIENCE_S: Final = 1.0
"""Nobody waits for it, and whoever changes networks comes and goes in that time: one row instead of two."""

INSIST_S: Final = 600.0
"""What cannot be written is tried again for so long, once in `PATIENCE_S`; an outage that lasts longer is seen to by
others, and costs no more than the next coming or going puts right."""

LOOK_S: Final = 10.0
"""Between looks at whether it is another day. Who goes in between is noted by going."""

AT_ONCE: Final = 512
"""Users of one batch, of those who are here on a new day; the next of them follow after `PATIENCE_S`."""


class _Seen(NamedTuple):
    user: bytes
    at: float


class LastSeen:
    """The users of this node whose time of being online last is to be written.

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
        """The user has come, or gone. Atomic (no checkpoint)."""
        # In a herd so large that the queue is full, the time of the last hello has to do.
        self._submit(_Seen(user, trio.current_time()))

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._batcher.run)
            nursery.start_soon(self._note_each_day)

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
        """All who are here are so on a new day."""
        waiting = deque(self._hub.users())
        while waiting:
            for user in [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]:
                # Who has gone meanwhile was noted by going.
                if self._hub.holds(user) and not self._submit(_Seen(user, trio.current_time())):
                    waiting.append(user)
            await trio.sleep(PATIENCE_S)
