"""Messages whose time has come: floors that move, and what lies below them deleted.

Three steps, each its own transaction, each of which may be repeated: a floor moves, from when on nobody is shown what
lies below (`move_floors`); those who take part are told (`unannounced`); the rows go (`below` reads them for the
archive, `clear` deletes). What is between two steps stands in the table `expiries`; see
`docs/decisions/0023-floors-by-time.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from protocol.frames import Message, Settings, Tombstone
from store import sql
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.rows import message_of

_sql = sql.load("retention")

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of contents that `below` returns: 500 messages of the largest size would be 32 MiB."""


class Moves(Struct, frozen=True):
    """What a look at conversations whose time may have come has found.

    :ivar looked_at: how many; 0 if there are no more, or others look at them.
    :ivar moved: how many floors have moved.
    """

    looked_at: int
    moved: int


class Announcement(Struct, frozen=True):
    """A floor that has moved, and who is to be told."""

    settings: Settings
    users: list[bytes]


class Uncleared(Struct, frozen=True):
    """A conversation in which something is to be deleted.

    :ivar wants_archive: it is to be archived first.
    """

    conversation: bytes
    wants_archive: bool


async def move_floors(pool: Pool, *, days: float, archives: bool, limit: int) -> Moves:
    """Move the floors of conversations in which messages' time has come, by Postgres' clock.

    One transaction, which passes over conversations that are locked, and whose locks sends pass over in turn.

    :param days: for how long this deployment keeps messages; 0: for ever. Where a conversation has a lifetime, the
        shorter of the two counts.
    :param archives: whether it archives what it does not keep; never what a conversation lets disappear.
    :param limit: how many are looked at, about.
    """
    parameters = {"days": float(days) or None, "archives": archives, "limit": limit}
    [(looked_at, moved)] = await pool.fetch(_sql.move_floors, parameters)
    return Moves(looked_at, moved)


async def unannounced(pool: Pool, *, limit: int) -> list[Announcement]:
    """Floors that have moved, of which those who take part have not been told."""
    return [
        Announcement(Settings(conversation, name, floor + 1, version, sees_all or None, lifetime_s, actor), list(users))
        for conversation, name, floor, version, sees_all, lifetime_s, actor, users in await pool.fetch(
            _sql.unannounced, {"limit": limit}
        )
    ]


async def note_announced(pool: Pool, conversations: Sequence[bytes]) -> None:
    """They have been told of these conversations' floors."""
    await pool.fetch(_sql.note_announced, {"conversations": uuids(conversations)})


async def uncleared(pool: Pool, *, limit: int) -> list[Uncleared]:
    """Conversations in which something is to be deleted, and which have been told of it."""
    return [Uncleared(*row) for row in await pool.fetch(_sql.uncleared, {"limit": limit})]


async def below(pool: Pool, conversation: bytes, *, limit: int) -> list[Message | Tombstone]:
    """The oldest messages at or below the floor, oldest first, without gaps; the same again until they are deleted.

    :param limit: how many at most; fewer if they have more than `MAX_BATCH_BYTES`, but for the first.
    """
    parameters = {"conversation": uuid(conversation), "limit": limit, "bytes": MAX_BATCH_BYTES}
    return [message_of(conversation, *row) for row in await pool.fetch(_sql.below, parameters)]


async def clear(pool: Pool, conversation: bytes, *, limit: int, upto: int | None = None) -> int:
    """Delete messages at or below the floor, the oldest first; how many this call has deleted. With the last of them
    the floor may move again.

    :param upto: none above this seq.
    """
    parameters = {"conversation": uuid(conversation), "limit": limit, "upto": upto}
    rows = await pool.fetch(_sql.clear, parameters)
    return int(rows[0][0]) if rows else 0
