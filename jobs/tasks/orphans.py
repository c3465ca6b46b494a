"""The tasks that delete orphaned files: attachments without a message, objects and multipart uploads without an
attachment. They also look for attachments without an object, which should not exist.

What the object store does not delete stops nothing else: a run goes on to its end, and fails then, so that it is
repeated. It stops earlier if the object store seems to be away (`store.objects.deletions`).
"""

from __future__ import annotations

from typing import Final

import structlog

from jobs.engine.job import Job, Snooze
from jobs.tasks.batches import in_batches
from store import analytics, orphans
from store.errors import StoreError
from store.objects.deletions import Failures, delete
from store.objects.direct import FileStore
from store.objects.interface import ATTACHMENTS, MAX_PAGE
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

BATCH: Final = 100
"""Attachments in one transaction, and in one deletion: 200 objects with their thumbnails; the store deletes eight at a
time."""

CONVERSATIONS: Final = 1000
"""Conversations where one run looks for attachments below the floor: three probes of an index each, some 10 ms in
total. Most have none: retention soon deletes messages below a floor, and orphans their attachments."""

PAGE: Final = MAX_PAGE
"""Objects in one batch of the sweep: one request, and one query of some 20 ms."""

REST_S: Final = 10.0
"""Between two runs of a sweep that has not ended."""

BELOW_FLOORS: Final = "attachments_below_floors"
OBJECTS: Final = "orphaned_objects"
MULTIPARTS: Final = "abandoned_multiparts"
"""The names of the three sweeps."""


class Orphans:
    """The handlers. Any number of workers may run them at the same time, but more than one are not faster.

    :param objects: the object store; None: nothing is removed.
    """

    def __init__(self, pool: Pool, objects: FileStore | None) -> None:
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
        failures = Failures()
        await in_batches(job, lambda: self._remove(objects, failures), "attachments removed")
        failures.check()

    async def _remove(self, objects: FileStore, failures: Failures) -> int:
        orphaned = await orphans.orphaned(self._pool, limit=BATCH, but=sorted(failures.keys))
        if not orphaned:
            return 0
        # Objects first: after a crash, the row leads the next run to them.
        cleared = await orphans.clear(objects, orphaned, failures)
        removed = await orphans.remove(self._pool, cleared)
        if removed:
            log.info("attachments_removed", attachments=removed)
        return len(orphaned)

    async def orphaned_objects(self, job: Job) -> None:
        """Remove objects of attachments without a row that are older than a day; count attachments without an object.

        :raises Snooze: if the sweep has not reached the last object; the next run goes on from there.
        :raises Unavailable, ObjectStoreRefused: if the object store does not answer; the next attempt goes on from
            there.
        """
        objects = self._objects
        if objects is None:
            return
        failures = Failures()
        if not await in_batches(job, lambda: self._sweep(objects, failures), "objects checked"):
            raise Snooze(REST_S)
        failures.check()

    async def _sweep(self, objects: FileStore, failures: Failures) -> int:
        at = await orphans.position(self._pool, OBJECTS)
        page = await objects.list(ATTACHMENTS, at.after, PAGE)
        to = page[-1].key if len(page) == PAGE else ""
        unknown = await orphans.unknown_objects(self._pool, page)
        missing = await orphans.missing_objects(self._pool, page, at.after, to)
        moved = await orphans.move(self._pool, OBJECTS, at, to)
        if moved is None:
            return 0  # Another run handles the same page, and goes on.
        # Only the run that moved the sweep deletes. If it crashes here, the next sweep finds the objects.
        try:
            await delete(objects, unknown, failures)
        except StoreError:
            await orphans.move(self._pool, OBJECTS, moved, at.after)
            raise
        if removed := [key for key in unknown if key not in failures.keys]:
            log.info("objects_removed", objects=len(removed))
        if missing.count:
            await analytics.add_missing(self._pool, missing.count)
            log.error("objects_missing", objects=missing.count, first=missing.first)
        return len(page) if to else 0

    async def abandoned_multiparts(self, job: Job) -> None:
        """Abort multipart uploads older than a day that no upload will complete: a process crashed before it noted
        them, or could not abort them. Remove what is left of writes that a crash broke off.

        :raises Snooze, Unavailable, ObjectStoreRefused: as `orphaned_objects`.
        """
        objects = self._objects
        if objects is None:
            return
        await objects.remove_unfinished()
        failures = Failures()
        if not await in_batches(job, lambda: self._abort(objects, failures), "uploads checked"):
            raise Snooze(REST_S)
        failures.check()

    async def _abort(self, objects: FileStore, failures: Failures) -> int:
        at = await orphans.position(self._pool, MULTIPARTS)
        page = await objects.list_multiparts(ATTACHMENTS, at.after, PAGE)
        unknown = await orphans.unknown_multiparts(self._pool, page)
        # Before the sweep moves: to abort one twice does no harm.
        await orphans.abort(objects, unknown, failures)
        if aborted := [each for each in unknown if each.key not in failures.keys]:
            log.info("multiparts_aborted", uploads=len(aborted))
        to = page[-1].key if len(page) >= PAGE else ""
        await orphans.move(self._pool, MULTIPARTS, at, to)
        return len(page) if to else 0
