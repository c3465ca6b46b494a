"""Tells Postgres which users have read or written here: the notices on their other devices may be pointless now.

A worker checks shown notices by itself, more seldom the older they are. The nodes report users that are active again,
in one statement for all that have read within some seconds, so that their other devices stop showing a notice soon. If
a report is lost with a node, or while Postgres is away, the worker finds the notice later.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from store.errors import StoreError
from store.notifiers import check_notices_soon
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 3.0
"""Time between two statements. A user that keeps reading is in each of them once: a look-up in an index."""

AT_ONCE: Final = 1000
"""Users in one statement, which takes some 5 ms; the next statements hold the rest."""


class Readers:
    """Notes active users, and tells Postgres every `PATIENCE_S`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._users: set[bytes] = set()

    def note(self, user: bytes) -> None:
        """Note that the user is reading or writing. Atomic (no checkpoint)."""
        self._users.add(user)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(PATIENCE_S)
            users, self._users = sorted(self._users), set()
            for first in range(0, len(users), AT_ONCE):
                try:
                    await check_notices_soon(self._pool, users[first : first + AT_ONCE])
                except StoreError as error:
                    log.warning("notices_stay_for_now", users=len(users) - first, error=str(error))
                    break
