"""The tasks of exports: `export` writes the data of an account into the object store, `old_exports` deletes them."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Final
from uuid import UUID

import structlog
import trio

from jobs.engine.job import Job
from jobs.tasks.batches import in_batches
from store import exports
from store.exported import ExportSource, lines_of
from store.objects.deletions import Failures
from store.objects.interface import MAX_PAGE, Objects
from store.postgres.pool import Pool
from store.replicas import Replicas

log = structlog.get_logger(__name__)

PART_BYTES: Final = 1_000_000
"""The bytes of lines in one part. Packed, no part has more than 1 MiB, as no answer has: ciphertext does not shrink,
and gzip adds less than a thousandth."""

CONTENT_TYPE: Final = "application/gzip"

TIMEOUT_S: Final = 6 * 3600.0
"""The time of one attempt: a million messages take some minutes."""

OLD: Final = 20
"""Exports in one batch: one list and one deletion each."""


class Exports:
    """The handlers.

    :param replicas: of the pool's Postgres; the first attempt of an export reads from them.
    :param objects: the object store; None: nothing is exported.
    """

    def __init__(self, pool: Pool, replicas: Replicas, objects: Objects | None) -> None:
        self._pool = pool
        self._replicas = replicas
        self._objects = objects

    async def export(self, job: Job, export: UUID, user: UUID) -> None:
        """Write all parts, and have a mail sent. A repeat begins from the beginning, and writes over the parts.

        :raises Unavailable, ObjectStoreRefused: another attempt writes them.
        """
        objects = self._objects
        owner = await exports.user_of_open(self._pool, export.bytes)
        if objects is None or owner is None:
            log.info("export_not_needed", job=job.id)
            return
        parts = size_bytes = 0
        async with self._source(job) as source, aclosing(lines_of(source, owner)) as lines:
            async for raw in batched(lines):
                packed = await trio.to_thread.run_sync(pack, raw)
                parts, size_bytes = parts + 1, size_bytes + len(packed)
                await objects.put(exports.key_of(export.bytes, parts), packed, CONTENT_TYPE)
                await job.report(f"{parts} parts, {size_bytes} bytes")
        if not await exports.note_ready(self._pool, export.bytes, parts=parts, size_bytes=size_bytes):
            # The account was deleted meanwhile, or the time of the export is over.
            await delete_objects(objects, export.bytes)
        log.info("exported", export=str(export), parts=parts, bytes=size_bytes)

    def _source(self, job: Job) -> AbstractAsyncContextManager[ExportSource]:
        """After a failure the primary: it may have been that of a replica."""
        return self._replicas.caught_up() if job.attempt == 1 else nullcontext(self._pool)

    async def old_exports(self, job: Job) -> None:
        """Delete exports whose time is over, until none is left or the time of the run is over.

        :raises Unavailable, ObjectStoreRefused: after all others, if the objects of one cannot be deleted.
        """
        failures = Failures()
        await in_batches(job, lambda: self._delete_some(failures), "exports")
        failures.check()

    async def _delete_some(self, failures: Failures) -> int:
        if self._objects is None:
            return 0
        old = await exports.old_exports(self._pool, limit=OLD)
        removed = 0
        for export in old:
            prefix = exports.prefix_of(export)
            with failures.noted(prefix):
                await delete_objects(self._objects, export)
            if prefix not in failures.keys:
                await exports.remove(self._pool, export)
                removed += 1
        return removed


async def batched(lines: AsyncIterable[str]) -> AsyncIterable[bytes]:
    """Lines, with their ends, as the bytes of parts."""
    part = bytearray()
    async for line in lines:
        data = line.encode() + b"\n"
        if part and len(part) + len(data) > PART_BYTES:
            yield bytes(part)
            part.clear()
        part += data
    if part:
        yield bytes(part)


def pack(raw: bytes) -> bytes:
    """A gzip file, without a time: the same lines make the same bytes."""
    return gzip.compress(raw, 6, mtime=0)


async def delete_objects(objects: Objects, export: bytes) -> None:
    """Delete all parts, also those of an attempt that has written more of them."""
    while found := await objects.list(exports.prefix_of(export), "", MAX_PAGE):
        await objects.delete([each.key for each in found])
