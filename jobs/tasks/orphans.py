"""The tasks that delete orphaned files: attachments without a message, and objects without an attachment."""

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
"""Attachments in one transaction, and in one deletion; the store deletes eight objects at a time."""

CONVERSATIONS: Final = 1000
"""Conversations in which one run looks for attachments below the floor: three probes of an index each, some 10 ms in
total. Most have none: retention soon deletes messages below a floor, and orphans their attachments."""

PAGE: Final = MAX_PAGE
"""Objects in one batch of the sweep: one request, and one query of some 20 ms."""

REST_S: Final = 10.0
"""Between two runs of a sweep that has not ended."""

BELOW_FLOORS: Final = "attachments_below_floors"
OBJECTS: Final = "orphaned_objects"
"""The names of the two sweeps."""


class Orphans:
    """The handlers. Any number of workers may run them at the same time, but more than one are not faster.

    :param objects: the object store; None: nothing is removed.
    """

    def __init__(self, pool: Pool, objects: Objects | None) -> None:
        self._pool = pool
        self._objects = objects

    async def orphaned_attachments(self, job: Job) -> None:
        """Remove attachments that no message took for a day, or whose message is deleted for everyone or below a floor.

        :raises Unavailable, ObjectStoreRefused: if objects cannot be deleted; their rows stay for the next attempt.
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
        # No object was ever stored under an invalid key; one such row must not stop the others.
        keys = [each.key for each in orphaned if is_key(each.key)]
        # Objects first: after a crash, the row leads the next run to them.
        await objects.delete(keys)
        removed = await orphans.remove(self._pool, orphaned)
        if removed:
            log.info("attachments_removed", attachments=removed)
        return removed

    async def orphaned_objects(self, job: Job) -> None:
        """Remove objects of attachments without a row, whose upload crashed more than a day ago.

        :raises Snooze: if the sweep has not reached the last object; the next run goes on from there.
        :raises Unavailable, ObjectStoreRefused: if the object store does not answer; the next attempt goes on from
            there.
        """
        objects = self._objects
        if objects is not None and not await in_batches(job, lambda: self._sweep(objects), "objects checked"):
            raise Snooze(REST_S)

    async def _sweep(self, objects: Objects) -> int:
        at = await orphans.position(self._pool, OBJECTS)
        page = await objects.list(ATTACHMENTS, at.after, PAGE)
        unknown = await orphans.unknown_objects(self._pool, page)
        is_last = len(page) < PAGE
        moved = await orphans.move(self._pool, OBJECTS, at, "" if is_last else page[-1].key)
        if moved is None:
            return 0  # Another run handles the same page, and goes on.
        # Only the run that moved the sweep deletes. If it crashes here, the next sweep finds the objects.
        try:
            await objects.delete(unknown)
        except StoreError:
            await orphans.move(self._pool, OBJECTS, moved, at.after)
            raise
        if unknown:
            log.info("objects_removed", objects=len(unknown))
        return 0 if is_last else len(page)
