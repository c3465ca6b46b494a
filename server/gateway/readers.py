"""Users who have read or written something here: notices that they were given may be pointless now.

A worker looks by itself at notices that are shown, the more seldom the older they are. Of users who are here again the
nodes say so, in one statement for all that have read within some seconds, so that their other devices stop showing a
notice soon. What is lost with a node, or while Postgres is away, is found by the worker.
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
"""Between two statements. Who reads one message after the other is told of in each once: a look-up in an index."""

AT_ONCE: Final = 1000
"""Users of one statement, some 5 ms; the others follow in the next ones."""


class Readers:
    """Notes who has read, and tells Postgres now and then."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._users: set[bytes] = set()

    def note(self, user: bytes) -> None:
        """The user is reading or writing. Atomic (no checkpoint)."""
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
