"""Debounce of notices: messages wait in the outbox for their windows; when a window ends, a job for each notice begins.

The first window is for delivery, the second for reading (docs/decisions/0027). A message that a device takes, that its
recipient reads or that its sender deletes before the window ends causes no notice.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from store import notifiers, outbox
from store.errors import StoreError
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5
"""How often to look for ended windows; more often if the window itself is shorter."""

LOOK_S: Final = 2.0
"""How often to look for notices that have become pointless."""

LOOK_BATCH: Final = 200
"""Notices in one query, which reads the marks of their users: some 20 ms in total."""


class Debounce:
    """Run `run` in a nursery. Any number of workers may run this loop at the same time.

    :param window_s: how long a message may stay undelivered before its recipients are notified.
    :param read_window_s: how long a delivered message may stay unread before other devices are notified.
    """

    def __init__(self, pool: Pool, *, window_s: float, read_window_s: float) -> None:
        self._pool = pool
        self._window_s = window_s
        self._read_window_s = read_window_s

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_windows_forever)
            nursery.start_soon(self._withdraw_forever)

    async def _end_windows_forever(self) -> None:
        while True:
            decided = ended = 0
            try:
                decided, noticed = await outbox.decide(self._pool, window_s=self._window_s)
                if noticed:
                    log.info("window_ended", messages=decided, users=noticed)
                ended, noticed = await outbox.end_read_windows(self._pool, window_s=self._read_window_s)
                if noticed:
                    log.info("read_window_ended", messages=ended, users=noticed)
            except StoreError as error:
                log.warning("debounce_waits", error=str(error))
            if max(decided, ended) < outbox.BATCH:
                await trio.sleep(min(POLL_S, self._window_s))

    async def _withdraw_forever(self) -> None:
        """Begin a job for each notice that has become pointless: it withdraws the notice where the service can."""
        while True:
            looked_at = 0
            try:
                looked_at, pointless = await notifiers.enqueue_withdrawals(self._pool, limit=LOOK_BATCH)
                if pointless:
                    log.info("notices_pointless", looked_at=looked_at, notices=pointless)
            except StoreError as error:
                log.warning("debounce_waits", error=str(error))
            if looked_at < LOOK_BATCH:
                await trio.sleep(LOOK_S)
