"""Rows of queries as parts of frames: messages, tombstones, former stays."""

from __future__ import annotations

from typing import Any

from protocol.frames import Departed, Message, Stay, Tombstone


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
