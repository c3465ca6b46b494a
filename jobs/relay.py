"""From the outbox to the queue: ends debounce windows, and hands over what is due."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from jobs.queue import Queue
from store import outbox
from store.errors import StoreError
from store.pool import Pool
from store.postgres import Error

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""How often to look; so a notice may come this much after the end of its window."""


async def relay_forever(pool: Pool, queue: Queue, *, window_s: float) -> None:
    """Until cancelled. Any number of workers may do this at once."""
    poll_s = min(POLL_S, window_s)
    while True:
        try:
            is_busy = await _relay_once(pool, queue, window_s=window_s)
        except (StoreError, Error) as error:
            log.warning("relay_waits", error=str(error))
            is_busy = False
        if not is_busy:
            await trio.sleep(poll_s)


async def _relay_once(pool: Pool, queue: Queue, *, window_s: float) -> bool:
    """One look; true if there may be more at once."""
    decided, noticed = await outbox.decide(pool, window_s=window_s)
    if noticed:
        log.info("window_ended", messages=decided, users=noticed)
    # What is relayed is leased: without Redis it would be for nothing, and late once Redis is back.
    due = await outbox.relay(pool) if queue.is_connected else []
    if due:
        await queue.hand_in(due)
    return decided == outbox.BATCH or len(due) == outbox.BATCH
