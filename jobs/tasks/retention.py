"""Messages that have lived long enough go: what a conversation lets disappear, and what this deployment does not keep.

A run takes small steps in turn: floors move, those who take part are told, what lies below is archived if it is to be,
and deleted. Whatever ends a run, the next one goes on where it was (`store.retention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio
from prometheus_client import Counter

from jobs.engine.job import Job
from protocol.codec import encode
from store.objects.archive import write_archive
from store.objects.interface import Objects
from store.postgres.pool import Pool
from store.redis.addressing import address_pushes
from store.redis.bus import publish
from store.redis.client import Redis
from store.redis.entries import AddressedPush
from store.retention import (
    Announcement,
    Uncleared,
    below,
    clear,
    move_floors,
    note_announced,
    unannounced,
    uncleared,
)

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 10.0
"""From one run to the next: so long may a message outlive its time, and a little more."""

TIMEOUT_S: Final = 90.0
"""For a run; it ends by itself before that."""

MAX_RUN_S: Final = 30.0
"""After this the run ends with the next step; what is left is the next one's."""

MAX_CONVERSATIONS: Final = 50
"""Floors of one transaction, which has their conversations locked for some 5 ms; and those told of together."""

MAX_MESSAGES: Final = 500
"""Of one deletion (some 10 ms) and of one archive."""

PAUSE_S: Final = 0.02
"""Between deletions: sends come first."""


class NotAnnounced(Exception):
    """Redis did not take what devices are to be told; another attempt tells them."""


class Retention:
    """
    :param redis: of what nodes tell each other (`Config.bus_url`).
    :param objects: where archives go; None if nothing is archived.
    :param days: for how long this deployment keeps messages; 0: for ever.
    :ivar removed: counts the messages that this worker has deleted.
    """

    def __init__(self, pool: Pool, redis: Redis, objects: Objects | None, *, days: float) -> None:
        self._pool = pool
        self._redis = redis
        self._objects = objects
        self._days = days
        self.removed = Counter("alo_retention_messages_removed", "Messages removed by retention", registry=None)

    async def retention(self, job: Job) -> None:
        """Until there is nothing more to do, or it has taken long enough.

        :raises NotAnnounced, Unavailable: another attempt goes on.
        """
        ends_at = trio.current_time() + MAX_RUN_S
        moved, deleted, is_more = 0, 0, True
        while is_more and trio.current_time() < ends_at:
            found = await move_floors(
                self._pool, days=self._days, archives=self._objects is not None, limit=MAX_CONVERSATIONS
            )
            moved += found.moved
            await self._announce(await unannounced(self._pool, limit=MAX_CONVERSATIONS))
            rest = await uncleared(self._pool, limit=MAX_CONVERSATIONS)
            for each in rest:
                cleared = await self._clear(each)
                self.removed.inc(cleared)
                deleted += cleared
                await trio.sleep(PAUSE_S)
            is_more = bool(found.looked_at or rest)
            if moved or deleted:
                await job.report(f"{moved} floors moved, {deleted} messages deleted")
        if moved or deleted:
            log.info("retention", floors=moved, messages=deleted)

    async def _announce(self, announcements: Sequence[Announcement]) -> None:
        """Tell the nodes that hold somebody who is concerned. Who is not connected finds it with the next `sync`."""
        if not announcements:
            return
        pushes = [
            AddressedPush(each.settings.conversation, 0, encode(each.settings), each.users) for each in announcements
        ]
        entries = await address_pushes(self._redis, pushes)
        if entries and await publish(self._redis, entries):
            raise NotAnnounced("Redis refused what nodes are to be told of floors: its memory is full")
        await note_announced(self._pool, [each.settings.conversation for each in announcements])

    async def _clear(self, each: Uncleared) -> int:
        """Delete one batch, once it is archived if that is to be; how many messages."""
        if not each.wants_archive or self._objects is None:
            return await clear(self._pool, each.conversation, limit=MAX_MESSAGES)
        messages = await below(self._pool, each.conversation, limit=MAX_MESSAGES)
        if not messages:
            return await clear(self._pool, each.conversation, limit=MAX_MESSAGES)
        await write_archive(self._objects, each.conversation, messages)
        return await clear(self._pool, each.conversation, limit=MAX_MESSAGES, upto=messages[-1].seq)
