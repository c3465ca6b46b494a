"""Forgetting what is no longer needed: keys of sends whose retries are refused by now, and changes that are so old that
a cursor from before them is refused."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from store.errors import StoreError
from store.messages import forget_temp_ids
from store.pool import Pool
from store.postgres import Error
from store.revisions import forget_revisions

log = structlog.get_logger(__name__)

POLL_S: Final = 60.0
BATCH: Final = 2000
"""Keys of one transaction: some 20 ms."""

PAUSE_S: Final = 0.1
"""Between transactions: sends come first."""


async def forget_forever(pool: Pool) -> None:
    """Until cancelled. Any number of workers may do this at once."""
    while True:
        try:
            looked_at = await forget_temp_ids(pool, limit=BATCH) + await forget_revisions(pool, limit=BATCH)
        except (StoreError, Error) as error:
            log.warning("not_forgotten", error=str(error))
            looked_at = 0
        await trio.sleep(PAUSE_S if looked_at else POLL_S)
