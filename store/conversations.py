"""Conversations: making them, and the list that a user sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from protocol.frames import Conversation, Participant
from protocol.limits import MAX_FORMER, MAX_SHOWN, MAX_UNCOUNTED
from store import sql
from store.columns import BIGINT, BIGINTS, BOOL, BYTEA, TEXT, TEXTS, UUID, UUIDS
from store.errors import NotAParticipant, UnknownUser
from store.pool import Pool
from store.postgres import ForeignKeyViolation, uuid, uuids
from store.rows import message_of, stay_of
from store.statement import Statement

_sql = sql.load("conversations")
_ENTRY: Final = (
    *(UUID, BIGINT, TEXT, TEXT, BIGINT, BIGINT, BIGINT, BIGINT, BIGINT, BOOL, BIGINT, BIGINT, BIGINT),
    *(BIGINTS, UUID, UUIDS, BIGINTS, BIGINTS, BIGINTS, UUIDS, BIGINTS),
    *(UUIDS, BIGINTS, TEXTS, BIGINTS, BIGINTS, BIGINTS, BIGINTS, BIGINTS, TEXTS, UUIDS),
    *(BIGINT, UUID, BIGINT, UUID, TEXT, BYTEA, BYTEA, BYTEA, BIGINT, BIGINT, BIGINT, UUID, BOOL, UUID),
)
_BOUNDS: Final = {"most": BIGINT, "uncounted": BIGINT, "former": BIGINT}
_MOST: Final = {"most": MAX_SHOWN, "uncounted": MAX_UNCOUNTED, "former": MAX_FORMER}
_PAGE: Final = Statement(
    f"with page as ({_sql.page}) {_sql.entries}",
    {"user": UUID, "before": BIGINT, "before_id": UUID, "limit": BIGINT, **_BOUNDS},
    _ENTRY,
)
_FIRST_PAGE: Final = Statement(
    f"with page as ({_sql.page}), version as ({_sql.version}) select * from ({_sql.entries}) as _, version",  # noqa: S608  (all of it ours)
    {"user": UUID, "before": BIGINT, "before_id": UUID, "limit": BIGINT, **_BOUNDS},
    (*_ENTRY, BIGINT, BIGINT, BIGINT, BIGINT),
)
_VERSION: Final = Statement(_sql.version, {"user": UUID, "most": BIGINT}, (BIGINT, BIGINT, BIGINT, BIGINT))
_CHOSEN: Final = Statement(
    f"with page as ({_sql.chosen}) {_sql.entries}",
    {"user": UUID, "conversations": UUIDS, "bases": TEXTS, "marks": TEXT, **_BOUNDS},
    _ENTRY,
)


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
    active_at, conversation = before or (2**63 - 1, bytes(16))
    parameters = {"user": user, "before": active_at, "before_id": conversation, "limit": limit, **_MOST}
    return [_conversation(row) for row in await pool.read(_PAGE, parameters)]


ListVersion: TypeAlias = tuple[int, int, int, int]
"""Which state of a user's list: equal only if nothing in it has changed."""


async def list_version(pool: Pool, user: bytes) -> ListVersion | None:
    """Which state the user's list is in; None if it is empty. Costs a tenth of reading a page of it."""
    [version] = await pool.read(_VERSION, {"user": user, "most": MAX_SHOWN})
    return version if version[0] is not None else None


async def first_page(pool: Pool, user: bytes, *, limit: int) -> tuple[list[Conversation], ListVersion | None]:
    """The first page of the list and the state that it is of, in one query; no state if the list is empty."""
    parameters = {"user": user, "before": 2**63 - 1, "before_id": bytes(16), "limit": limit, **_MOST}
    rows = await pool.read(_FIRST_PAGE, parameters)
    return [_conversation(row[:-4]) for row in rows], rows[0][-4:] if rows else None


async def some_of(
    pool: Pool,
    user: bytes,
    conversations: Sequence[bytes],
    bases: Sequence[str | None] | None = None,
    marks: str | None = None,
) -> list[Conversation]:
    """Those of some conversations in which the user takes part, in one query, in any order.

    :param bases: for each a snapshot: of its participants only those who have changed since; None for all of them.
    :param marks: a snapshot: those whose marks have moved since count as changed.
    """
    parameters = {
        "user": user,
        "conversations": conversations,
        "bases": [None] * len(conversations) if bases is None else bases,
        "marks": marks,
        **_MOST,
    }
    return [_conversation(row) for row in await pool.read(_CHOSEN, parameters)]


async def one(pool: Pool, user: bytes, conversation: bytes) -> Conversation:
    """One conversation in one query.

    :raises NotAParticipant: if the user does not take part in it, or it does not exist.
    """
    found = await some_of(pool, user, [conversation])
    if not found:
        raise NotAParticipant
    return found[0]


def _conversation(row: tuple[Any, ...]) -> Conversation:
    version, joiners_see_all, lifetime_s, muted_until, own_revision, uncounted, actor = row[8:15]
    stays, columns, message = row[15:21], row[21:31], row[31:]
    former = None if stays[0] is None else [stay_of(*values) for values in zip(*stays, strict=True)]
    participants = [] if columns[0] is None else [_participant(*values) for values in zip(*columns, strict=True)]
    last_message = message_of(row[0], *message) if message[0] is not None else None
    settings = (version, joiners_see_all or None, lifetime_s, muted_until, own_revision)
    return Conversation(*row[:8], participants, last_message, *settings, uncounted, actor, former)  # type: ignore[call-arg]  # eight columns as declared


def _participant(
    user: bytes,
    revision: int,
    username: str,
    joined: int,
    since: int,
    delivered: int,
    read: int,
    is_admin: int,
    name: str,
    actor: bytes,
) -> Participant:
    shown = delivered >= 0
    return Participant(
        user,
        revision or None,
        username,
        joined,
        delivered if shown else None,
        read if shown else None,
        True if is_admin else None,
        name or None,
        since if since != joined else None,
        actor if actor != user else None,
    )
