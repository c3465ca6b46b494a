"""Rows of queries as parts of frames: conversations, participants, former stays, messages, tombstones."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from protocol.frames import Conversation, Departed, Message, Participant, Stay, Tombstone
from protocol.limits import MAX_SHOWN
from store.avatars import avatar_of


def message_of(
    conversation: bytes,
    seq: int,
    message: bytes,
    created: int,
    sender: bytes,
    content_type: str,
    content: bytes,
    nonce: bytes | None,
    ephemeral_public_key: bytes | None,
    revision: int | None,
    edited: int | None,
    reply_to: int | None,
    attachments: list[bytes] | None,
    thumbnail: bytes | None,
    temp_id: bytes | None,
    is_gone: bool,
    deleted_by: bytes | None,
    *_: Any,
) -> Message | Tombstone:
    """A message, or its tombstone if it was deleted for everyone or for the reader; columns in this order."""
    if is_gone:
        return Tombstone(conversation, seq, message, created, sender, deleted_by)
    return Message(
        conversation,
        seq,
        message,
        created,
        sender,
        content_type,
        content,
        nonce,
        ephemeral_public_key,
        temp_id,
        revision,
        edited,
        reply_to,
        attachments,
        thumbnail,
    )


def stay_of(user: bytes, delivered: int, read: int, since: int, actor: bytes | None, left: int) -> Stay:
    """A former stay; columns in this order. Marks of -1 are not shown; an actor who is the user becomes None."""
    shown = delivered >= 0
    return Stay(
        user, delivered if shown else None, read if shown else None, since, actor if actor != user else None, left
    )


def departed_of(conversation: bytes, version: int, user: bytes, *stay: Any) -> Departed:
    """A user who has left, with the stay that ended; columns in this order."""
    return Departed(conversation, [user], version, former=[stay_of(user, *stay)])


_CONVERSATION, _PARTICIPANT, _STAY = 0, 1, 2
"""The kinds of rows of `entries` in conversations.sql."""

_AVATAR: Final = 35
"""The last column of those rows."""

_by_id: Final = attrgetter("user")


def conversations_of(rows: Iterable[tuple[Any, ...]]) -> list[tuple[bytes, Conversation]]:
    """Rows of `entries` in conversations.sql: conversations, each with the user who sees it so, in any order."""
    heads: list[tuple[Any, ...]] = []
    people: dict[tuple[Any, ...], list[Participant]] = {}
    stays: dict[tuple[Any, ...], list[tuple[int, Stay]]] = {}
    for row in rows:
        if row[0] == _PARTICIPANT:
            values: list[Any] = [*row[3:12], row[17], row[_AVATAR]]
            people.setdefault(row[1:3], []).append(participant_of(*values))
        elif row[0] == _CONVERSATION:
            heads.append(row)
        else:
            user, actor, _, _, since, left, delivered, read, departed = row[3:12]
            stays.setdefault(row[1:3], []).append((departed, stay_of(user, delivered, read, since, actor, left)))
    return [(row[1], _conversation(row, people.get(row[1:3], []), stays.get(row[1:3]))) for row in heads]


def _conversation(
    row: tuple[Any, ...], participants: list[Participant], stays: list[tuple[int, Stay]] | None
) -> Conversation:
    conversation, asked_by, actor, kind, name, created, first_seq, last_seq, unread, active_at = row[2:12]
    version, lifetime_s, muted_until, own_revision, size, joiners_see_all, uncounted = row[12:19]
    participants.sort(key=_by_id)
    return Conversation(
        conversation,
        created,
        kind,
        name,
        first_seq,
        last_seq,
        unread,
        active_at,
        participants,
        None if row[19] is None else message_of(conversation, *row[19:_AVATAR]),
        version,
        joiners_see_all or None,
        lifetime_s,
        muted_until,
        own_revision,
        told_count(size),
        None if asked_by is None else True,
        asked_by,
        uncounted,
        actor,
        None if stays is None else [stay for _, stay in sorted(stays, key=_latest)],
        avatar_of(row[_AVATAR]),
    )


def _latest(stay: tuple[int, Stay]) -> tuple[int, bytes]:
    departed, of = stay
    return -departed, of.user


def participant_of(
    user: bytes,
    actor: bytes,
    username: str,
    name: str | None,
    revision: int,
    joined: int,
    since: int,
    delivered: int,
    read: int,
    is_admin: bool | None,
    avatar: bytes | None,
) -> Participant:
    """A participant; columns in this order. Marks of -1 are not shown; an actor who is the user becomes None."""
    shown = delivered >= 0
    return Participant(
        user,
        revision or None,
        username,
        joined,
        delivered if shown else None,
        read if shown else None,
        is_admin or None,
        name,
        since if since != joined else None,
        actor if actor != user else None,
        avatar_of(avatar),
    )


def told_count(size: int) -> int | None:
    """The number of participants for the wire: only if they are too many to be listed."""
    return size if size > MAX_SHOWN else None
