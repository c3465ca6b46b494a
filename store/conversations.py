"""Conversations: making them, and the list that a user sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from protocol.frames import Conversation, Participant
from store import sql
from store.errors import NotAParticipant, UnknownUser
from store.pool import Pool
from store.postgres import ForeignKeyViolation, uuid, uuids
from store.rows import message_of

_sql = sql.load("conversations")


async def add_direct(pool: Pool, user: bytes, other: bytes) -> tuple[bytes, bool]:
    """The direct conversation of two users, and whether it was made just now.

    :raises UnknownUser: if the other does not exist.
    """
    parameters = {"conversation": uuid(os.urandom(16)), "user": uuid(user), "other": uuid(other)}
    try:
        [(conversation, is_new)] = await pool.fetch(_sql.add_direct, parameters)
    except ForeignKeyViolation:
        raise UnknownUser from None
    return conversation, is_new


async def add_group(pool: Pool, name: str, users: Sequence[bytes], *, admin: bytes) -> bytes:
    """A new group's id.

    :param users: its participants, each once.
    :param admin: the one of them who may change who takes part.
    :raises UnknownUser: if one of them does not exist; nothing was made.
    """
    conversation = os.urandom(16)
    try:
        parameters = {"conversation": uuid(conversation), "name": name, "users": uuids(users), "admin": uuid(admin)}
        await pool.fetch(_sql.add_group, parameters)
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
        "conversations": None,
        "before": before and before[0],
        "before_id": before and uuid(before[1]),
        "limit": limit,
    }
    return [_conversation(row) for row in await pool.fetch(_sql.list, parameters)]


async def some_of(pool: Pool, user: bytes, conversations: Sequence[bytes]) -> list[Conversation]:
    """Those of some conversations in which the user takes part, in one query, in any order."""
    parameters = {
        "user": uuid(user),
        "conversations": uuids(conversations),
        "before": None,
        "before_id": None,
        "limit": len(conversations),
    }
    return [_conversation(row) for row in await pool.fetch(_sql.list, parameters)]


async def one(pool: Pool, user: bytes, conversation: bytes) -> Conversation:
    """One conversation in one query.

    :raises NotAParticipant: if the user does not take part in it, or it does not exist.
    """
    found = await some_of(pool, user, [conversation])
    if not found:
        raise NotAParticipant
    return found[0]


def _conversation(row: tuple[Any, ...]) -> Conversation:
    columns, message = row[8:13], row[13:]
    participants = [Participant(*values) for values in zip(*columns, strict=True)]
    last_message = message_of(row[0], *message) if message[0] is not None else None
    return Conversation(*row[:8], participants, last_message)  # type: ignore[call-arg]  # eight columns as declared
