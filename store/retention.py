"""Messages whose lifetime has ended: floors that move up, and the messages below them, which are deleted.

There are three steps, each its own transaction, and each may be repeated. A floor moves; from then on users cannot see
messages below it (`move_floors`). The participants are told (`unannounced`). The rows are deleted (`below` reads them
for the archive, `clear` deletes). The table `expiries` holds conversations between two steps; see
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
from store.rows import message_of, settings_of

_sql = sql.load("retention")

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of messages that `below` returns: 500 messages of the largest size would be 40 MiB."""


class FloorMoves(Struct, frozen=True):
    """The outcome of `move_floors`.

    :ivar looked_at: conversations; 0 if there are no more, or other workers look at them.
    :ivar moved: floors that have moved.
    """

    looked_at: int
    moved: int


class FloorAnnouncement(Struct, frozen=True):
    """A floor that has moved, and the users to tell."""

    settings: Settings
    users: list[bytes]


class Uncleared(Struct, frozen=True):
    """A conversation with messages to delete.

    :ivar wants_archive: the messages are archived first.
    """

    conversation: bytes
    wants_archive: bool


async def move_floors(pool: Pool, *, days: float, archives: bool, limit: int) -> FloorMoves:
    """Move the floors of conversations with messages whose lifetime has ended, by Postgres' clock.

    One transaction. It skips locked conversations, and sends skip conversations that it has locked.

    :param days: how long this deployment keeps messages; 0: for ever. If a conversation has a lifetime, the shorter one
        counts.
    :param archives: whether the deployment archives messages that it does not keep. Messages that a conversation lets
        disappear are never archived.
    :param limit: how many conversations to look at, about.
    """
    parameters = {"days": float(days) or None, "archives": archives, "limit": limit}
    [(looked_at, moved)] = await pool.fetch(_sql.move_floors, parameters)
    return FloorMoves(looked_at, moved)


async def unannounced(pool: Pool, *, limit: int) -> list[FloorAnnouncement]:
    """Floors that have moved, and that the participants have not been told of."""
    rows = await pool.fetch(_sql.unannounced, {"limit": limit})
    return [
        FloorAnnouncement(
            settings_of(*columns),
            list(users),
        )
        for *columns, users in rows
    ]


async def note_announced(pool: Pool, conversations: Sequence[bytes]) -> None:
    """Note that the participants of these conversations know the floors."""
    await pool.fetch(_sql.note_announced, {"conversations": uuids(conversations)})


async def uncleared(pool: Pool, *, limit: int) -> list[Uncleared]:
    """Conversations with messages to delete, whose participants know the floor."""
    return [Uncleared(*row) for row in await pool.fetch(_sql.uncleared, {"limit": limit})]


async def below(pool: Pool, conversation: bytes, *, limit: int) -> list[Message | Tombstone]:
    """The oldest messages at or below the floor, oldest first, without gaps; the same again until they are deleted.

    :param limit: the most messages; fewer if they have more than `MAX_BATCH_BYTES`, but at least one.
    """
    parameters = {"conversation": uuid(conversation), "limit": limit, "bytes": MAX_BATCH_BYTES}
    return [message_of(conversation, *row) for row in await pool.fetch(_sql.below, parameters)]


async def clear(pool: Pool, conversation: bytes, *, limit: int, upto: int | None = None) -> int:
    """Delete messages at or below the floor, the oldest first; return how many. After the last one the floor may move
    again.

    :param upto: only messages up to this seq.
    """
    parameters = {"conversation": uuid(conversation), "limit": limit, "upto": upto}
    rows = await pool.fetch(_sql.clear, parameters)
    return int(rows[0][0]) if rows else 0
