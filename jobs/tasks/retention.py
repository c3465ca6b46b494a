"""The task `retention` deletes messages whose lifetime is over: that of their conversation, or that of this deployment.

A run repeats small steps: it moves floors, tells the participants, archives the messages below if that is configured,
and deletes them. However a run ends, the next run goes on from there (`store.retention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio

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
    FloorAnnouncement,
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
"""From one run to the next: a message outlives its lifetime by this and a little more."""

TIMEOUT_S: Final = 90.0
"""Timeout of a run, which ends by itself before that."""

MAX_RUN_S: Final = 30.0
"""After this, the run ends with its present step; the next run does the rest."""

MAX_CONVERSATIONS: Final = 50
"""Floors that one transaction moves, which locks their conversations for some 5 ms; and that one step announces."""

MAX_MESSAGES: Final = 500
"""Messages in one deletion (some 10 ms) and in one archive."""

PAUSE_S: Final = 0.02
"""Between deletions, so that sends are not delayed."""


class NotAnnounced(Exception):
    """Redis refused the announcements for devices; another attempt sends them."""


class Retention:
    """
    :param redis: the Redis that nodes read (`Config.bus_url`).
    :param objects: where archives go; None if nothing is archived.
    :param days: how long this deployment keeps messages; 0: for ever.
    :ivar removed: the messages that this worker has deleted.
    """

    def __init__(self, pool: Pool, redis: Redis, objects: Objects | None, *, days: float) -> None:
        self._pool = pool
        self._redis = redis
        self._objects = objects
        self._days = days
        self.removed = 0

    async def retention(self, job: Job) -> None:
        """Run until no messages are left to delete, or `MAX_RUN_S` is over.

        :raises NotAnnounced, Unavailable: another attempt goes on.
        """
        ends_at = trio.current_time() + MAX_RUN_S
        moved, deleted, is_more = 0, 0, True
        while is_more and trio.current_time() < ends_at:
            found = await move_floors(
                self._pool, days=self._days, archives=self._objects is not None, limit=MAX_CONVERSATIONS
            )
            moved += found.moved
            await announce_floors(self._pool, self._redis, await unannounced(self._pool, limit=MAX_CONVERSATIONS))
            rest = await uncleared(self._pool, limit=MAX_CONVERSATIONS)
            for each in rest:
                cleared = await self._clear(each)
                self.removed += cleared
                deleted += cleared
                await trio.sleep(PAUSE_S)
            is_more = bool(found.looked_at or rest)
            if moved or deleted:
                await job.report(f"{moved} floors moved, {deleted} messages deleted")
        if moved or deleted:
            log.info("retention", floors=moved, messages=deleted)

    async def _clear(self, each: Uncleared) -> int:
        """Archive one batch, if that is configured, and delete it; returns the number of messages."""
        if not each.wants_archive or self._objects is None:
            return await clear(self._pool, each.conversation, limit=MAX_MESSAGES)
        messages = await below(self._pool, each.conversation, limit=MAX_MESSAGES)
        if not messages:
            return await clear(self._pool, each.conversation, limit=MAX_MESSAGES)
        await write_archive(self._objects, each.conversation, messages)
        return await clear(self._pool, each.conversation, limit=MAX_MESSAGES, upto=messages[-1].seq)


async def announce_floors(pool: Pool, redis: Redis, announcements: Sequence[FloorAnnouncement]) -> None:
    """Tell the nodes that hold participants of these conversations; other devices find the floor by their next `sync`.

    :raises NotAnnounced, Unavailable: another attempt tells them.
    """
    if not announcements:
        return
    pushes = [AddressedPush(each.settings.conversation, 0, encode(each.settings), each.users) for each in announcements]
    entries = await address_pushes(redis, pushes)
    if entries and await publish(redis, entries):
        raise NotAnnounced("Redis refused the announcements of floors: its memory is full")
    await note_announced(pool, [each.settings.conversation for each in announcements])
