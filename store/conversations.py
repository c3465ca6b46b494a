"""Conversations: making them, and the list that a user sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from protocol.frames import Message
from store import sql
from store.errors import NotAParticipant, UnknownUser
from store.pool import Pool
from store.postgres import ForeignKeyViolation, uuid, uuids

_sql = sql.load("conversations")


class Participant(Struct, frozen=True):
    """A user in a conversation, with their up-to marks."""

    user: bytes
    username: str
    joined_seq: int
    delivered_seq: int
    read_seq: int


class Conversation(Struct, frozen=True):
    """A conversation as one of its participants sees it.

    :ivar first_seq: the first seq that this user may read.
    :ivar active_at: microseconds since 1970: the last message, or the beginning.
    """

    conversation: bytes
    kind: str
    name: str | None
    created: int
    first_seq: int
    last_seq: int
    unread_count: int
    active_at: int
    participants: list[Participant]
    last_message: Message | None


async def add_direct(pool: Pool, user: bytes, other: bytes) -> tuple[bytes, bool]:
    """The direct conversation of two users, and whether it was made just now.

    :raises UnknownUser: if the other does not exist.
    """
    parameters = {"conversation": uuid(os.urandom(16)), "user": uuid(user), "other": uuid(other)}
    try:
        rows = await pool.fetch(_sql.add_direct, parameters)
        if not rows:
            # Another request made it after our snapshot was taken; a new one sees it.
            rows = await pool.fetch(_sql.add_direct, parameters)
    except ForeignKeyViolation:
        raise UnknownUser from None
    return rows[0][0], rows[0][1]


async def add_group(pool: Pool, name: str, users: Sequence[bytes]) -> bytes:
    """A new group's id.

    :param users: its participants, each once.
    :raises UnknownUser: if one of them does not exist; nothing was made.
    """
    conversation = os.urandom(16)
    try:
        await pool.fetch(_sql.add_group, {"conversation": uuid(conversation), "name": name, "users": uuids(users)})
    except ForeignKeyViolation:
        raise UnknownUser from None
    return conversation


async def list_of(
    pool: Pool, user: bytes, *, limit: int, before: tuple[int, bytes] | None = None
) -> list[Conversation]:
    """A page of a user's conversations in one query, the latest message first.

    :param before: `active_at` and id of the last conversation of the page before.
    """
    parameters = {
        "user": uuid(user),
        "conversation": None,
        "before": before and before[0],
        "before_id": before and uuid(before[1]),
        "limit": limit,
    }
    return [_conversation(row) for row in await pool.fetch(_sql.list, parameters)]


async def one(pool: Pool, user: bytes, conversation: bytes) -> Conversation:
    """One conversation in one query.

    :raises NotAParticipant: if the user does not take part in it, or it does not exist.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "before": None, "before_id": None, "limit": 1}
    rows = await pool.fetch(_sql.list, parameters)
    if not rows:
        raise NotAParticipant
    return _conversation(rows[0])


def _conversation(row: tuple[Any, ...]) -> Conversation:
    columns, message = row[8:13], row[13:]
    participants = [Participant(*values) for values in zip(*columns, strict=True)]
    last_message = Message(row[0], *message) if message[0] is not None else None
    return Conversation(*row[:8], participants, last_message)  # type: ignore[call-arg]  # eight columns as declared
