"""Messages, pages of history, and the status of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from protocol.frames import Message, Tombstone
from server.http.cursors import cursor_text
from server.http.encoding import IDENT, Encoding, Ident, ident_or_none
from server.http.queries import MAX_LIMIT
from store.marks import MessageStatus
from store.messages import HistoryPage

MAX_PAGE_BYTES: Final = 1024 * 1024
"""The most of an answer. One message has at most 203 KB, one conversation 152 KB."""

MESSAGE_BYTES: Final = 1536
"""The most of a message in JSON, but for the base64 of its content, thumbnail, nonce, key and envelope. The content
type has 64 bytes, and JSON escapes some with six; ten ids of attachments take 350."""

MAX_CONTENT_BYTES: Final = (MAX_PAGE_BYTES - (MAX_LIMIT + 1) * MESSAGE_BYTES) * 3 // 4
"""The most of the contents, thumbnails, nonces, keys and envelopes of a page of history: base64 makes four bytes of
three."""


class MessageAnswer(Struct, frozen=True, gc=False):
    """A message. A deleted message has its place, its sender, its time and the actor; its other fields are null.

    :ivar seq: the place in the conversation: 1, 2, 3 and so on.
    :ivar created: microseconds since 1970-01-01T00:00Z.
    :ivar device: the sender's device that wrote the content; null: not known.
    :ivar is_deleted: for everyone, or for you.
    :ivar is_quiet: it counts neither as unread nor for notices.
    :ivar actor: the administrator who deleted it for everyone; null if its sender did.
    :ivar revision: how often it was edited.
    :ivar edited: microseconds since 1970-01-01T00:00Z; null if it was not edited.
    :ivar reply_to: the `seq` of the message that it answers.
    :ivar attachments: the ids of its attachments; null: it has none.
    :ivar thumbnail: a small preview beside the content, which is ciphertext, too.
    :ivar has_envelopes: it was sent or edited with bytes for each of some devices.
    :ivar follows: of a control message: the `seq` of the one before it, 0 for the first; null: it is none.
    :ivar envelope: the bytes for this device; null: none, or they are gone by now. Pages of history alone have them.
    """

    conversation: Ident
    seq: int
    message: Ident
    created: int
    sender: Ident
    is_deleted: bool
    is_quiet: bool
    device: Ident | None = None
    actor: Ident | None = None
    content_type: str | None = None
    content: bytes | None = None
    nonce: bytes | None = None
    ephemeral_public_key: bytes | None = None
    revision: int | None = None
    edited: int | None = None
    reply_to: int | None = None
    attachments: list[Ident] | None = None
    thumbnail: bytes | None = None
    has_envelopes: bool = False
    follows: int | None = None
    envelope: bytes | None = None


class HistoryAnswer(Struct, frozen=True):
    """A page of history.

    :ivar cursor: gets the next page in the same direction; null: this page is the last.
    :ivar older: with `around_seq` alone: gets the page of older messages; null: there are none.
    """

    messages: list[MessageAnswer]
    cursor: str | None
    older: str | UnsetType | None = UNSET


class RecipientAnswer(Struct, frozen=True):
    """A recipient of a message: another participant at the time of sending."""

    user: Ident
    is_delivered: bool
    is_read: bool


class StatusAnswer(Struct, frozen=True):
    """The status of a message: in one word, in counts, and for each recipient.

    :ivar status: "delivered" once all recipients have the message, "read" once all have read it.
    """

    status: Literal["sent", "delivered", "read"]
    recipient_count: int
    delivered_count: int
    read_count: int
    recipients: list[RecipientAnswer]


def message_body(message: Message | Tombstone, encoding: Encoding) -> MessageAnswer:
    ident = IDENT[encoding]
    if isinstance(message, Tombstone):
        return MessageAnswer(
            conversation=ident(message.conversation),
            seq=message.seq,
            message=ident(message.message),
            created=message.created,
            sender=ident(message.sender),
            is_deleted=True,
            is_quiet=bool(message.is_quiet),
            actor=ident_or_none(message.actor, encoding),
        )
    return MessageAnswer(
        conversation=ident(message.conversation),
        seq=message.seq,
        message=ident(message.message),
        created=message.created,
        sender=ident(message.sender),
        is_deleted=False,
        is_quiet=bool(message.is_quiet),
        device=ident_or_none(message.device, encoding),
        content_type=message.content_type,
        content=message.content,
        nonce=message.nonce,
        ephemeral_public_key=message.ephemeral_public_key,
        revision=message.revision or 0,
        edited=message.edited,
        reply_to=message.reply_to,
        attachments=None if message.attachments is None else [ident(each) for each in message.attachments],
        thumbnail=message.thumbnail,
        has_envelopes=bool(message.has_envelopes),
        follows=message.follows,
        envelope=message.envelope,
    )


def message_answer(
    ident: Callable[[bytes], Ident],
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
    _temp_id: bytes | None,
    device: bytes | None,
    is_quiet: bool,
    _quiet_count: int | None,
    is_gone: bool,
    deleted_by: bytes | None,
    has_envelopes: bool,
    follows: int | None,
) -> MessageAnswer:
    """The body of the message or tombstone that `store.rows.message_of` makes of the same columns."""
    if is_gone:
        actor = None if deleted_by is None else ident(deleted_by)
        return MessageAnswer(
            ident(conversation), seq, ident(message), created, ident(sender), True, is_quiet, None, actor
        )
    return MessageAnswer(
        ident(conversation),
        seq,
        ident(message),
        created,
        ident(sender),
        False,
        is_quiet,
        None if device is None else ident(device),
        None,
        content_type,
        content,
        nonce,
        ephemeral_public_key,
        revision or 0,
        edited,
        reply_to,
        None if attachments is None else [ident(each) for each in attachments],
        thumbnail,
        has_envelopes,
        follows,
    )


def history_body(
    page: HistoryPage, conversation: bytes, direction: Literal["before", "after"], encoding: Encoding
) -> HistoryAnswer:
    """A page of history, and the cursor for the next one in that direction."""
    following = cursor_text(direction, conversation, page.messages[-1].seq) if page.more else None
    return HistoryAnswer([message_body(message, encoding) for message in page.messages], following)


def status_body(status: MessageStatus, seq: int, encoding: Encoding) -> StatusAnswer:
    delivered = sum(delivered_seq >= seq for _, delivered_seq, _ in status.receipts)
    read = sum(read_seq >= seq for *_, read_seq in status.receipts)
    count = len(status.receipts)
    return StatusAnswer(
        "sent" if not count or delivered < count else "delivered" if read < count else "read",
        count,
        delivered,
        read,
        [
            RecipientAnswer(IDENT[encoding](user), delivered_seq >= seq, read_seq >= seq)
            for user, delivered_seq, read_seq in status.receipts
        ],
    )


def most_bytes_of(message: MessageAnswer) -> int:
    """The most that a message has in JSON, which is more than in CBOR."""
    parts = (message.content, message.nonce, message.ephemeral_public_key, message.thumbnail, message.envelope)
    return MESSAGE_BYTES + sum((len(part) + 2) // 3 * 4 for part in parts if part is not None)
