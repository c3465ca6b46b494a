"""Removing files that nothing refers to any more: attachments without a message, and objects without an attachment."""

from __future__ import annotations

from typing import Final

import structlog

from jobs.engine.job import Job, Snooze
from jobs.tasks.batches import in_batches
from store import orphans
from store.errors import StoreError
from store.objects.interface import ATTACHMENTS, MAX_PAGE, Objects, is_key
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

BATCH: Final = 100
"""Attachments of one transaction, and of one deletion: 200 objects, of which eight are deleted at a time."""

CONVERSATIONS: Final = 1000
"""That one run looks at for what lies below floors: three probes of an index for each, some 10 ms. Mostly there is
nothing: what lies below a floor is deleted soon, and loses its attachments then."""

PAGE: Final = MAX_PAGE
"""Objects that one batch of the sweep looks at: one request, and one query of some 20 ms."""

REST_S: Final = 10.0
"""Between two runs of a sweep that has not come to its end."""

BELOW_FLOORS: Final = "attachments_below_floors"
OBJECTS: Final = "orphaned_objects"
"""The names of the two sweeps."""


class Orphans:
    """Tasks that any number of workers may run at once, though more than one do nothing sooner.

    :param objects: None: nothing is removed.
    """

    def __init__(self, pool: Pool, objects: Objects | None) -> None:
        self._pool = pool
        self._objects = objects

    async def orphaned_attachments(self, job: Job) -> None:
        """Attachments that no message took for a day, or whose message is gone: deleted for everyone, or below a floor.

        :raises Unavailable, ObjectStoreRefused: if objects cannot be deleted; their rows stay, for another attempt.
        """
        objects = self._objects
        if objects is None:
            return
        at = await orphans.position(self._pool, BELOW_FLOORS)
        to, _ = await orphans.orphan_below_floors(self._pool, at.after, limit=CONVERSATIONS)
        await orphans.move(self._pool, BELOW_FLOORS, at, to)
        await in_batches(job, lambda: self._remove(objects), "attachments removed")

    async def _remove(self, objects: Objects) -> int:
        orphaned = await orphans.orphaned(self._pool, limit=BATCH)
        if not orphaned:
            return 0
        # What is no key was never put under it: that must not keep the others.
        keys = [key for each in orphaned for key in each.keys if is_key(key)]
        # In this order: what has a row is found again.
        await objects.delete(keys)
        removed = await orphans.remove(self._pool, orphaned)
        if removed:
            log.info("attachments_removed", attachments=removed)
        return removed

    async def orphaned_objects(self, job: Job) -> None:
        """Objects of attachments that have no row: their upload crashed more than a day ago.

        :raises Snooze: if it has not come to the end of the objects; it goes on where it was.
        :raises Unavailable, ObjectStoreRefused: if the object store does not answer; likewise.
        """
        objects = self._objects
        if objects is not None and not await in_batches(job, lambda: self._sweep(objects), "objects looked at"):
            raise Snooze(REST_S)

    async def _sweep(self, objects: Objects) -> int:
        at = await orphans.position(self._pool, OBJECTS)
        page = await objects.list(ATTACHMENTS, at.after, PAGE)
        unknown = await orphans.unknown_objects(self._pool, page)
        is_last = len(page) < PAGE
        moved = await orphans.move(self._pool, OBJECTS, at, "" if is_last else page[-1].key)
        if moved is None:
            return 0  # Another run is at the same page, and goes on.
        # Only whoever has moved on deletes. Whoever crashes here leaves the page to the next sweep.
        try:
            await objects.delete(unknown)
        except StoreError:
            await orphans.move(self._pool, OBJECTS, moved, at.after)
            raise
        if unknown:
            log.info("objects_removed", objects=len(unknown))
        return 0 if is_last else len(page)
