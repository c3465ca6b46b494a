"""Orphans: attachments to which no message refers, and objects to which no attachment refers.

An attachment is orphaned when no message took it for `UNUSED_S`, or when it loses its message: that was deleted for
everyone, or lies below its conversation's floor. Its objects are deleted first, then its row: `orphaned`, then
`objects.delete`, then `remove`. After a crash between these steps the next run repeats them. Any number of workers may
run them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from store import sql
from store.objects.interface import StoredObject
from store.postgres.driver import bigints, texts, uuid, uuids
from store.postgres.pool import Pool

_sql = sql.load("orphans")

UNUSED_S: Final = 86400.0
"""So old is an upload that no message has taken when it is removed; and an object when it should have had its row."""

EACH: Final = 200
"""Attachments that one conversation loses in one transaction; the rest is for the next sweep, or goes with its messages
when these are deleted."""

_FIRST: Final = bytes(16)


class Orphan(Struct, frozen=True):
    """An orphaned attachment.

    :ivar keys: of its objects.
    """

    id: bytes
    keys: tuple[str, ...]


async def orphaned(pool: Pool, *, limit: int) -> list[Orphan]:
    """Orphaned attachments, whose objects are to be deleted now; those of unfinished batches are among them."""
    rows = await pool.fetch(_sql.orphaned, {"unused_s": UNUSED_S, "limit": limit})
    return [Orphan(id_, tuple(key for key in keys if key is not None)) for id_, *keys in rows]


async def remove(pool: Pool, attachments: Sequence[Orphan]) -> int:
    """Their objects are gone: so are they. How many this call has removed; the others are somebody else's."""
    [(removed,)] = await pool.fetch(_sql.remove, {"ids": uuids([each.id for each in attachments])})
    return int(removed)


async def orphan_below_floors(pool: Pool, after: str, *, limit: int) -> tuple[str, int]:
    """Take attachments from messages below their conversations' floors: where to go on, and how many conversations were
    looked at. At the end it begins anew.

    :param after: where the last call said to go on; empty for the beginning.
    :param limit: conversations with attachments to look at.
    """
    parameters = {"after": uuid(bytes.fromhex(after) or _FIRST), "limit": limit, "each": EACH}
    [(last, count)] = await pool.fetch(_sql.orphan_below_floors, parameters)
    return last.hex() if count == limit else "", count


async def unknown_objects(pool: Pool, entries: Sequence[StoredObject]) -> list[str]:
    """The keys of those that no attachment knows of, and that are older than `UNUSED_S`."""
    parameters = {
        "keys": texts([entry.key for entry in entries]),
        "modified": bigints([entry.modified for entry in entries]),
        "unused_s": UNUSED_S,
    }
    return [key for (key,) in await pool.fetch(_sql.unknown_objects, parameters)]


class SweepPosition(Struct, frozen=True):
    """Where a sweep is.

    :ivar after: it goes on after this; empty at the beginning.
    :ivar moves: how often it has moved.
    """

    after: str
    moves: int


async def position(pool: Pool, task: str) -> SweepPosition:
    """Where the sweep of this task is."""
    rows = await pool.fetch(_sql.position, {"task": task})
    return SweepPosition(*rows[0]) if rows else SweepPosition("", 0)


async def move(pool: Pool, task: str, came_from: SweepPosition, to: str) -> SweepPosition | None:
    """Let the sweep of this task go on from there to here; None if somebody else has moved it meanwhile.

    Of two workers at once both look at the same, and only one of them moves on.
    """
    rows = await pool.fetch(_sql.move, {"task": task, "position": to, "moves": came_from.moves})
    return SweepPosition(to, rows[0][0]) if rows else None
