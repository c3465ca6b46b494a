"""Orphans: attachments to which no message refers, and objects and multipart uploads to which no attachment refers.

An attachment is orphaned when no message took it for `UNUSED_S`, when its uploader gives it up, or when it loses its
message: that was deleted for everyone, edited, or lies below its conversation's floor. Its objects are deleted first,
then its row: `orphaned`, then `clear`, then `remove`. After a crash between these steps the next run repeats them. Any
number of workers may run them at once. An object or a multipart upload that the object store does not delete stops none
of the others (`store.objects.deletions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from store import sql
from store.objects.deletions import Failures, delete
from store.objects.direct import FileStore, OpenMultipart
from store.objects.interface import StoredObject, is_key
from store.postgres.driver import bigints, texts, uuid, uuids
from store.postgres.pool import Pool

_sql = sql.load("orphans")

UNUSED_S: Final = 86400.0
"""The age when an upload that no message refers to is removed, and an object that should have had its row by
then."""

COMPLETE_S: Final = 3600.0
"""An object is expected in a list if its upload was complete for so long: far longer than a list takes."""

SHOWN: Final = 20
"""Missing objects that the log names."""

EACH: Final = 200
"""Attachments that one conversation loses in one transaction; the next sweep takes the rest, or they go with their
messages."""

_FIRST: Final = bytes(16)


class Orphan(Struct, frozen=True):
    """An orphaned attachment.

    :ivar multipart: the object store's name of its multipart upload, if that was not completed.
    """

    id: bytes
    key: str
    multipart: str | None


async def orphaned(pool: Pool, *, limit: int, but: Sequence[str] = ()) -> list[Orphan]:
    """Orphaned attachments, whose objects the caller deletes now; includes those of unfinished batches.

    :param but: keys that are left out.
    """
    rows = await pool.fetch(_sql.orphaned, {"unused_s": UNUSED_S, "limit": limit, "but": texts(but)})
    return [Orphan(*row) for row in rows]


async def clear(objects: FileStore, orphaned: Sequence[Orphan], failures: Failures) -> list[Orphan]:
    """Delete the objects of orphaned attachments, at most `MAX_PAGE`, and the parts of uploads that were not completed.

    :param failures: gets those that the object store does not delete.
    :returns: the others, whose rows can go.
    :raises Unavailable, ObjectStoreRefused: if the object store is away; any object may be gone.
    """
    # No object was ever stored under an invalid key; one such row must not stop the others.
    stored = [each for each in orphaned if is_key(each.key)]
    # The upload first: what is joined at the same moment is deleted after it.
    for each in stored:
        if each.multipart is not None:
            with failures.noted(each.key):
                await objects.abort_multipart(each.key, each.multipart)
    await delete(objects, [each.key for each in stored if each.key not in failures.keys], failures)
    return [each for each in orphaned if each.key not in failures.keys]


async def abort(objects: FileStore, uploads: Sequence[OpenMultipart], failures: Failures) -> None:
    """Abort multipart uploads.

    :param failures: gets those that the object store does not abort.
    :raises Unavailable, ObjectStoreRefused: if the object store is away.
    """
    for each in uploads:
        with failures.noted(each.key):
            await objects.abort_multipart(each.key, each.upload)


async def remove(pool: Pool, attachments: Sequence[Orphan]) -> int:
    """Remove the rows of attachments whose objects are deleted, and give their bytes back to their users; return how
    many. Other workers have removed the rest."""
    [(removed,)] = await pool.fetch(_sql.remove, {"ids": uuids([each.id for each in attachments])})
    return int(removed)


async def orphan_below_floors(pool: Pool, after: str, *, limit: int) -> tuple[str, int]:
    """Take attachments from messages below their conversations' floors. Returns where to continue, and how many
    conversations it looked at. At the end it starts again from the beginning.

    :param after: where to continue, as the last call returned it; empty for the beginning.
    :param limit: conversations with attachments to look at.
    """
    parameters = {"after": uuid(bytes.fromhex(after) or _FIRST), "limit": limit, "each": EACH}
    [(last, count)] = await pool.fetch(_sql.orphan_below_floors, parameters)
    return last.hex() if count == limit else "", count


async def unknown_objects(pool: Pool, entries: Sequence[StoredObject]) -> list[str]:
    """The keys of objects that no attachment refers to, and that are older than `UNUSED_S`."""
    parameters = {
        "keys": texts([entry.key for entry in entries]),
        "modified": bigints([entry.modified for entry in entries]),
        "unused_s": UNUSED_S,
    }
    return [key for (key,) in await pool.fetch(_sql.unknown_objects, parameters)]


async def unknown_multiparts(pool: Pool, entries: Sequence[OpenMultipart]) -> list[OpenMultipart]:
    """The multipart uploads that no upload will complete, and that are older than `UNUSED_S`."""
    parameters = {
        "keys": texts([entry.key for entry in entries]),
        "uploads": texts([entry.upload for entry in entries]),
        "begun": bigints([entry.begun for entry in entries]),
        "unused_s": UNUSED_S,
    }
    unknown = {(key, upload) for key, upload in await pool.fetch(_sql.unknown_multiparts, parameters)}
    return [entry for entry in entries if (entry.key, entry.upload) in unknown]


class MissingObjects(Struct, frozen=True):
    """Complete attachments whose objects are missing.

    :ivar first: the keys of the first `SHOWN`.
    """

    count: int
    first: list[str]


async def missing_objects(pool: Pool, page: Sequence[StoredObject], after: str, upto: str) -> MissingObjects:
    """The attachments whose objects a page of a list should have had: complete for `COMPLETE_S`, and not orphaned.

    :param page: all objects beyond the key `after`, up to the key `upto`; empty for the end.
    """
    parameters = {
        "keys": texts([entry.key for entry in page]),
        "after": after,
        "upto": upto,
        "complete_s": COMPLETE_S,
        "shown": SHOWN,
    }
    [(count, first)] = await pool.fetch(_sql.missing_objects, parameters)
    return MissingObjects(count, first)


class SweepPosition(Struct, frozen=True):
    """The position of a sweep.

    :ivar after: the sweep continues after this key; empty at the beginning.
    :ivar moves: how often it has moved.
    """

    after: str
    moves: int


async def position(pool: Pool, task: str) -> SweepPosition:
    """The position of this task's sweep."""
    rows = await pool.fetch(_sql.position, {"task": task})
    return SweepPosition(*rows[0]) if rows else SweepPosition("", 0)


async def move(pool: Pool, task: str, came_from: SweepPosition, to: str) -> SweepPosition | None:
    """Move the sweep of this task forward; None if another worker has moved it in the meantime.

    If two workers are at the same page, only one of them moves the sweep.
    """
    rows = await pool.fetch(_sql.move, {"task": task, "position": to, "moves": came_from.moves})
    return SweepPosition(to, rows[0][0]) if rows else None
