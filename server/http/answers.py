"""Bodies of answers, made of what the store returns; `docs/http.md` describes them."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from protocol.frames import Conversation, Message, Participant, Tombstone
from server.http.cursors import cursor_text
from server.http.encoding import IDENT, Encoding, ident_or_none
from store.accounts import Device
from store.analytics import Day
from store.contacts import ListedContact
from store.emails import EmailSettings
from store.marks import MessageStatus
from store.messages import HistoryPage
from store.profiles import ProfileSettings, ShownProfile
from store.quiet_hours import QuietHours

MAX_PAGE_BYTES: Final = 1024 * 1024
"""The most of a page of a list or of history; one entry has at most 90 KB."""

MAX_CONTENT_BYTES: Final = MAX_PAGE_BYTES * 3 // 4
"""The most of the messages of a page of history: base64 makes four bytes of three."""


def message_body(message: Message | Tombstone, encoding: Encoding) -> dict[str, Any]:
    """A message. For a deleted one only its place, its sender, its time and the actor are there."""
    ident = IDENT[encoding]
    content = message if isinstance(message, Message) else None
    return {
        "conversation": ident(message.conversation),
        "seq": message.seq,
        "message": ident(message.message),
        "created": message.created,
        "sender": ident(message.sender),
        "is_deleted": content is None,
        "actor": ident_or_none(None if isinstance(message, Message) else message.actor, encoding),
        "content_type": content and content.content_type,
        "content": content and content.content,
        "nonce": content and content.nonce,
        "ephemeral_public_key": content and content.ephemeral_public_key,
        "revision": content and (content.revision or 0),
        "edited": content and content.edited,
        "reply_to": content and content.reply_to,
    }


def device_body(device: Device, encoding: Encoding) -> dict[str, Any]:
    return {
        "device": IDENT[encoding](device.device),
        "name": device.name,
        "created": device.created,
        "expires": device.expires,
    }


def contact_body(contact: ListedContact, encoding: Encoding) -> dict[str, Any]:
    return {
        "user": IDENT[encoding](contact.user),
        "username": contact.username,
        "display_name": contact.display_name,
        "is_blocked": contact.is_blocked,
        "created": contact.created,
    }


def user_body(user: bytes, shown: ProfileSettings | ShownProfile, encoding: Encoding) -> dict[str, Any]:
    return {
        "user": IDENT[encoding](user),
        "username": shown.username,
        "display_name": shown.display_name,
        "revision": shown.revision,
    }


def profile_body(user: bytes, settings: ProfileSettings, encoding: Encoding) -> dict[str, Any]:
    return user_body(user, settings, encoding) | {
        "gives_receipts": settings.gives_receipts,
        "shows_presence": settings.shows_presence,
        "messages_from": settings.messages_from,
        "groups_from": settings.groups_from,
    }


def email_body(settings: EmailSettings) -> dict[str, Any]:
    return msgspec.structs.asdict(settings)


def status_body(status: MessageStatus, seq: int, encoding: Encoding) -> dict[str, Any]:
    """The status of a message: in one word, in counts, and for each recipient."""
    delivered = sum(delivered_seq >= seq for _, delivered_seq, _ in status.receipts)
    read = sum(read_seq >= seq for *_, read_seq in status.receipts)
    count = len(status.receipts)
    word = "sent" if not count or delivered < count else "delivered" if read < count else "read"
    return {
        "status": word,
        "recipient_count": count,
        "delivered_count": delivered,
        "read_count": read,
        "recipients": [
            {"user": IDENT[encoding](user), "is_delivered": delivered_seq >= seq, "is_read": read_seq >= seq}
            for user, delivered_seq, read_seq in status.receipts
        ],
    }


def conversation_body(conversation: Conversation, encoding: Encoding) -> dict[str, Any]:
    last, ident, participants = conversation.last_message, IDENT[encoding], conversation.participants or ()
    return {
        "conversation": ident(conversation.conversation),
        "kind": conversation.kind,
        "name": conversation.name,
        "created": conversation.created,
        "first_seq": conversation.first_seq,
        "last_seq": conversation.last_seq,
        "participants_version": conversation.participants_version,
        "joiners_see_all": bool(conversation.joiners_see_all),
        "lifetime_s": conversation.lifetime_s,
        "muted_until": conversation.muted_until,
        "is_request": bool(conversation.is_request),
        "asked_by": ident_or_none(conversation.asked_by, encoding),
        "actor": ident_or_none(conversation.actor, encoding),
        "unread_count": conversation.unread_count,
        "participants": [participant_body(each, encoding) for each in participants],
        "participant_count": conversation.participant_count or len(participants),
        "last_message": message_body(last, encoding) if last else None,
    }


def participant_body(participant: Participant, encoding: Encoding) -> dict[str, Any]:
    return {
        "user": IDENT[encoding](participant.user),
        "username": participant.username,
        "display_name": participant.display_name,
        "revision": participant.revision or 0,
        "is_admin": bool(participant.is_admin),
        "joined_seq": participant.joined_seq,
        "since_seq": participant.since,
        "delivered_seq": participant.delivered_seq,
        "read_seq": participant.read_seq,
        "actor": ident_or_none(participant.actor, encoding),
    }


def list_body(found: list[Conversation], limit: int, encoding: Encoding, kind: str = "list") -> dict[str, Any]:
    """A page of the list: at most `limit` conversations, and fewer if they are large (`MAX_PAGE_BYTES`).

    :param found: one more than `limit` if there are further ones.
    :param kind: of the cursor: "list", or "requests".
    """
    count, size = 0, 0
    for each in found[:limit]:
        size += _size_of(each)
        if count and size > MAX_PAGE_BYTES:
            break
        count += 1
    page = found[:count]
    following = cursor_text(kind, page[-1].active_at, page[-1].conversation) if len(found) > count else None
    return {"conversations": [conversation_body(each, encoding) for each in page], "cursor": following}


def _size_of(conversation: Conversation) -> int:
    """About the bytes in JSON, which are not fewer than those in CBOR."""
    people, last = conversation.participants or (), conversation.last_message
    # With escapes: a control character takes six bytes.
    names = sum(len(msgspec.json.encode(each.display_name)) for each in people)
    content = len(last.content) * 4 // 3 if isinstance(last, Message) else 0
    return 1200 + 300 * len(people) + names + content


def history_body(
    page: HistoryPage, conversation: bytes, direction: Literal["before", "after"], encoding: Encoding
) -> dict[str, Any]:
    """A page of history, and the cursor for the next one in that direction."""
    following = cursor_text(direction, conversation, page.messages[-1].seq) if page.more else None
    return {"messages": [message_body(message, encoding) for message in page.messages], "cursor": following}


def day_body(day: Day) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "messages": day.messages,
        "active_users": day.active_users,
        "new_users": day.new_users,
        "delivery_ms": msgspec.structs.asdict(day.delivery) if day.delivery else None,
        "storage_bytes": day.storage,
    }


def quiet_hours_body(quiet: QuietHours | None) -> dict[str, Any]:
    """Null in each field for a user without quiet hours."""
    return {
        "from_minute": quiet and quiet.from_minute,
        "until_minute": quiet and quiet.until_minute,
        "zone": quiet and quiet.zone,
    }
