"""Editing and deleting stored messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from protocol.frames import Envelope, Message, Tombstone
from protocol.limits import CURSOR_DAYS, MAX_ENVELOPE_PARTS
from store import sql
from store.envelopes import EnvelopeTable, pack
from store.errors import (
    ATTACHMENT_OUTCOMES,
    MessageDeleted,
    NotAParticipant,
    NotTheSender,
    Refused,
    RevisionConflict,
    StaleDevices,
    TooManyParts,
    UnknownMessage,
    UnlistedDevices,
)
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.rows import message_of

_sql = sql.load("revisions")
REFUSED_CHANGES: Final[dict[str, type[Refused]]] = {
    "stranger": NotAParticipant,
    "unknown": UnknownMessage,
    "foreign": NotTheSender,
    "deleted": MessageDeleted,
    "conflict": RevisionConflict,
    "full": TooManyParts,
    **ATTACHMENT_OUTCOMES,
}
"""By the outcome of a function that changes a message."""


class MessageChange(Struct, frozen=True):
    """The outcome of a committed edit or deletion.

    :ivar message: after the change.
    :ivar participants: users whose devices must be told.
    :ivar hidden_for: the sender's blocker, who gets a tombstone instead.
    :ivar is_new: false for a retry: then the first request tells the devices.
    :ivar envelopes: of an edited message, for all devices; None if it has none.
    """

    message: Message | Tombstone
    participants: list[bytes]
    is_new: bool
    hidden_for: bytes | None = None
    envelopes: EnvelopeTable | None = None


async def edit(
    pool: Pool,
    user: bytes,
    conversation: bytes,
    seq: int,
    revision: int,
    content_type: str,
    content: bytes,
    nonce: bytes | None,
    ephemeral_public_key: bytes | None,
    attachments: list[bytes] | None = None,
    thumbnail: bytes | None = None,
    *,
    device: bytes | None = None,
    devices_version: int | None = None,
    envelopes: list[Envelope] | None = None,
) -> tuple[MessageChange, int, int]:
    """Replace the content of one of the user's messages; return the change, the new revision, and the time of the edit
    (microseconds).

    :param revision: the revision that the edit replaces. A repeat of the same edit is answered like the first time,
        even if other edits followed: the change is then the message after this edit, not as it is now.
    :param attachments: ids, of the message from now on; those that it does not keep are orphaned.
    :param device: the device that edits.
    :param devices_version: of the conversation's device set, for which the content is encrypted; None: not told.
    :param envelopes: for some devices of the set; None: none. Devices that they do not name keep those of before.
    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    :raises NotTheSender: if it is another user's.
    :raises MessageDeleted: if it was deleted, for everyone or for this user.
    :raises RevisionConflict: if it has another revision.
    :raises StaleDevices: if the device set has another version.
    :raises UnlistedDevices: if envelopes are for devices that are not of the set.
    :raises TooManyParts: if it has as many edits with envelopes as it may.
    :raises UnknownAttachment, AttachmentIncomplete, AttachmentUsed: if it cannot have an attachment.
    """
    parameters = {
        "user": uuid(user),
        "conversation": uuid(conversation),
        "seq": seq,
        "revision": revision,
        "content_type": content_type,
        "content": content,
        "nonce": nonce,
        "ephemeral_public_key": ephemeral_public_key,
        "attachments": None if attachments is None else uuids(attachments),
        "thumbnail": thumbnail,
        "device": None if device is None else uuid(device),
        "devices_version": devices_version,
        **_envelope_parameters(envelopes),
    }
    [(outcome, *columns, present, refused_for)] = await pool.fetch(_sql.edit, parameters)
    if outcome == "devices":
        raise StaleDevices(present, refused_for)
    if outcome == "unlisted":
        raise UnlistedDevices(refused_for)
    message, created, new, edited, participants, *rest = columns
    reply_to, hidden_for, temp_id, is_quiet, quiet_count, has_envelopes, follows, devices, bodies = rest
    if outcome not in ("edited", "again"):
        raise REFUSED_CHANGES[outcome]
    revised = Message(
        conversation,
        seq,
        message,
        created,
        user,
        content_type,
        content,
        nonce,
        ephemeral_public_key,
        temp_id,
        device,
        new,
        edited,
        reply_to,
        attachments,
        thumbnail,
        is_quiet or None,
        has_envelopes or None,
        follows,
        quiet_count,
    )
    table = None if devices is None else dict(zip(devices, bodies, strict=True))
    return MessageChange(revised, participants or [], outcome == "edited", hidden_for, table), new, edited


def _envelope_parameters(envelopes: list[Envelope] | None) -> dict[str, Any]:
    names = ("envelope_devices", "envelope_ends", "envelopes", "envelope_digest")
    packed = pack(envelopes)
    if packed is None:
        return {**dict.fromkeys(names), "envelope_parts": MAX_ENVELOPE_PARTS}
    values = (uuids(packed.devices), packed.ends, packed.body, packed.digest())
    return {**dict(zip(names, values, strict=True)), "envelope_parts": MAX_ENVELOPE_PARTS}


async def delete_for_everyone(pool: Pool, user: bytes, conversation: bytes, seq: int) -> MessageChange:
    """Erase one of the user's messages; an administrator may erase any, and the tombstone then names the administrator.

    Repeating it changes nothing.

    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    :raises NotTheSender: if it is another user's, and the user is not an administrator.
    """
    return await _delete(pool, _sql.delete_for_everyone, user, conversation, seq)


async def delete_for_me(pool: Pool, user: bytes, conversation: bytes, seq: int) -> MessageChange:
    """Hide a message from the user, on all devices. Repeating it changes nothing.

    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    """
    return await _delete(pool, _sql.delete_for_me, user, conversation, seq)


async def _delete(pool: Pool, query: str, user: bytes, conversation: bytes, seq: int) -> MessageChange:
    parameters: dict[str, Any] = {"user": uuid(user), "conversation": uuid(conversation), "seq": seq}
    [(outcome, message, created, sender, participants, actor, *quiet)] = await pool.fetch(query, parameters)
    if outcome not in ("deleted", "again"):
        raise REFUSED_CHANGES[outcome]
    is_quiet, quiet_count = quiet
    stone = Tombstone(conversation, seq, message, created, sender, is_quiet or None, actor, quiet_count)
    return MessageChange(stone, participants or [], outcome == "deleted")


async def revised_since(
    pool: Pool, users: Sequence[bytes], *, ago_s: float
) -> list[tuple[Message | Tombstone, list[bytes]]]:
    """Messages that were edited or deleted in the last `ago_s` seconds, by Postgres' clock, each with the users among
    `users` who may see them."""
    rows = await pool.fetch(_sql.revised_since, {"users": uuids(users), "ago_s": ago_s})
    return [(message_of(*row[:-1]), row[-1]) for row in rows]


async def forget_revisions(pool: Pool, *, limit: int) -> int:
    """Forget edits and deletions (not messages) that no valid cursor needs any longer; return how many."""
    [(gone,)] = await pool.fetch(_sql.forget, {"days": CURSOR_DAYS + 2, "limit": limit})
    return int(gone)
