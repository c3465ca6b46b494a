"""Who was here last, and when: noted as users come and go, and written in batches."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from store.batch import Batcher
from store.errors import Overloaded
from store.last_seen import touch
from store.pool import Pool

PATIENCE_S: Final = 1.0
"""Nobody waits for it, and whoever changes networks comes and goes in that time: one row instead of two."""


class LastSeen:
    """The users of this node whose time of being online last is to be written."""

    def __init__(self, pool: Pool) -> None:
        self._batcher: Batcher[bytes, bool] = Batcher(
            "the last-seen queue",
            lambda users: touch(pool, users),
            lambda _, __: None,
            lambda _: 16,
            patience_s=PATIENCE_S,
        )

    def note(self, user: bytes) -> None:
        """The user has come, or gone. Atomic (no checkpoint)."""
        # In a herd so large that the queue is full, the time of the last hello has to do.
        with suppress(Overloaded):
            self._batcher.submit_nowait(user)

    async def run(self) -> None:
        """Until cancelled."""
        await self._batcher.run()

    async def wait_idle(self) -> None:
        """Return once everything has been written."""
        await self._batcher.wait_idle()
