"""A device that keeps its cursor while the database below it is restored."""

from __future__ import annotations

from typing import Protocol

from store import messages
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.sync import SyncPage, sync
from tests.people import new_direct, new_user
from tests.store.store_world import a_message


class RestoredDatabase(Protocol):
    """A database that is restored.

    :ivar url: of the one that devices reach, from now on.
    """

    @property
    def url(self) -> str: ...


class CursorKeeper:
    """Two people; a device of one of them keeps its cursor."""

    def __init__(self, database: RestoredDatabase) -> None:
        self._database = database
        self.cursor: bytes | None = None

    async def begin(self) -> None:
        pool = Pool(self._database.url, 2)
        self.alice, self.bob = await new_user(pool, "alice"), await new_user(pool, "bob")
        self.direct = await new_direct(pool, self.alice, self.bob)
        pool.close()

    async def say(self, count: int, *, times: int = 1) -> None:
        """Send `count` messages in one transaction, `times` times."""
        pool = Pool(self._database.url, 2)
        for _ in range(times):
            batch = [a_message(self.direct, self.bob.user, b"%d" % n) for n in range(count)]
            outcomes = await messages.send(pool, ParticipantsCache(), batch)
            assert [each for each in outcomes if not isinstance(each, messages.Committed)] == []
        pool.close()

    async def sync(self, *, anew: bool = False) -> SyncPage:
        pool = Pool(self._database.url, 2)
        try:
            page = await sync(pool, self.alice.user, None if anew else self.cursor)
        finally:
            pool.close()
        self.cursor = page.cursor
        return page
