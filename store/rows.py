"""How rows of our queries become messages: one place for what is left of those that were deleted."""

from __future__ import annotations

from typing import Any

from protocol.frames import Message, Tombstone


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
    *_: Any,
) -> Message | Tombstone:
    """A message, or its tombstone if it is gone, deleted for everyone or for who asks; columns in this order."""
    if is_gone:
        return Tombstone(conversation, seq, message, created, sender)
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
