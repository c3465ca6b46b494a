"""Conversations with their participants, and pages of them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from protocol.frames import Participant
from server.http.answers.avatars import AvatarAnswer, avatar_or_none
from server.http.answers.messages import MAX_PAGE_BYTES, MessageAnswer, message_answer, most_bytes_of
from server.http.cursors import cursor_text
from server.http.encoding import IDENT, Encoding, Ident, ident_or_none
from store.avatars import avatar_of
from store.rows import Entry

Kind: TypeAlias = Literal["direct", "group", "self"]


class ParticipantAnswer(Struct, frozen=True, gc=False):
    """A participant of a conversation.

    :ivar avatar: null if the participant has none.
    :ivar revision: how often the display name or the avatar was changed.
    :ivar joined_seq: the conversation's last `seq` before the first message that the participant may read.
    :ivar since_seq: the conversation's last `seq` when the participant joined.
    :ivar delivered_seq: the participant has the messages up to this one; null for others in a conversation of more than
        32 participants.
    :ivar read_seq: the participant has read the messages up to this one; null like `delivered_seq`.
    :ivar actor: the other user who added the participant or gave the role; null if none did.
    """

    user: Ident
    username: str
    display_name: str | None
    avatar: AvatarAnswer | None
    revision: int
    is_admin: bool
    joined_seq: int
    since_seq: int
    delivered_seq: int | None
    read_seq: int | None
    actor: Ident | None


class ConversationAnswer(Struct, frozen=True, gc=False):
    """A conversation as you see it.

    :ivar name: of a group; null in a direct conversation.
    :ivar avatar: of a group; null if it has none.
    :ivar created: microseconds since 1970-01-01T00:00Z.
    :ivar first_seq: the first `seq` that you may read.
    :ivar last_seq: the `seq` of the last message; 0 if there is none.
    :ivar participants_version: grows with each change of participants or settings.
    :ivar joiners_see_all: users who join see earlier messages.
    :ivar lifetime_s: the seconds that messages live; null: no lifetime.
    :ivar devices_version: of the devices for which participants encrypt here; 0: they are as at the beginning.
    :ivar control_seq: the `seq` of the last control message; 0: there was none.
    :ivar muted_until: microseconds since 1970-01-01T00:00Z; it may have passed.
    :ivar is_request: `asked_by` asks you to take part, and you have not accepted.
    :ivar asked_by: null unless `is_request`.
    :ivar actor: the user who changed the settings last.
    :ivar participants: all, or you alone if there are more than 32.
    :ivar participant_count: all, also those that `participants` leaves out.
    :ivar last_message: the last one that is not quiet; null if you may read none.
    """

    conversation: Ident
    kind: Kind
    name: str | None
    avatar: AvatarAnswer | None
    created: int
    first_seq: int
    last_seq: int
    participants_version: int
    joiners_see_all: bool
    lifetime_s: int | None
    devices_version: int
    control_seq: int
    muted_until: int | None
    is_request: bool
    asked_by: Ident | None
    actor: Ident | None
    unread_count: int
    participants: list[ParticipantAnswer]
    participant_count: int
    last_message: MessageAnswer | None


class ListAnswer(Struct, frozen=True):
    """A page of conversations, latest message first.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    conversations: list[ConversationAnswer]
    cursor: str | None


class ParticipantsAnswer(Struct, frozen=True):
    """A page of participants, by their ids.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    participants: list[ParticipantAnswer]
    cursor: str | None


def conversation_body(entry: Entry, encoding: Encoding) -> ConversationAnswer:
    ident, conversation = IDENT[encoding], entry.conversation
    asked_by, actor, kind, name, created, first_seq, last_seq, unread, _, *settings = entry.settings
    version, lifetime_s, muted_until, _, size, joiners_see_all, *_ = settings
    participants = [_participant(encoding, *each) for each in entry.participants()]
    last = entry.last_message
    return ConversationAnswer(
        conversation=ident(conversation),
        kind=kind,
        name=name,
        avatar=avatar_or_none(avatar_of(entry.avatar), encoding),
        created=created,
        first_seq=first_seq,
        last_seq=last_seq,
        participants_version=version,
        joiners_see_all=joiners_see_all,
        lifetime_s=lifetime_s,
        devices_version=entry.devices_version or 0,
        control_seq=entry.control_seq or 0,
        muted_until=muted_until,
        is_request=asked_by is not None,
        asked_by=ident_or_none(asked_by, encoding),
        actor=ident_or_none(actor, encoding),
        unread_count=unread,
        participants=participants,
        participant_count=len(participants) if entry.is_listed else size,
        last_message=None if last is None else message_answer(ident, conversation, *last),
    )


def _participant(
    encoding: Encoding,
    user: bytes,
    actor: bytes,
    username: str,
    name: str | None,
    revision: int,
    joined: int,
    since: int,
    delivered: int,
    read: int,
    is_admin: bool,
    avatar: bytes | None,
) -> ParticipantAnswer:
    """As `store.rows.participant_of` and `participant_body` make it."""
    ident = IDENT[encoding]
    shown = None if avatar is None else avatar_or_none(avatar_of(avatar), encoding)
    its_actor = ident(actor) if actor != user else None
    return ParticipantAnswer(
        ident(user), username, name, shown, revision, is_admin, joined, since, delivered, read, its_actor
    )


def participant_body(participant: Participant, encoding: Encoding) -> ParticipantAnswer:
    return ParticipantAnswer(
        user=IDENT[encoding](participant.user),
        username=participant.username,
        display_name=participant.display_name,
        avatar=avatar_or_none(participant.avatar, encoding),
        revision=participant.revision or 0,
        is_admin=bool(participant.is_admin),
        joined_seq=participant.joined_seq,
        since_seq=participant.since,
        delivered_seq=participant.delivered_seq,
        read_seq=participant.read_seq,
        actor=ident_or_none(participant.actor, encoding),
    )


def list_body(found: list[Entry], limit: int, encoding: Encoding, kind: str = "list") -> ListAnswer:
    """A page of the list: at most `limit` conversations, and fewer if they are large (`MAX_PAGE_BYTES`).

    :param found: one more than `limit` if there are further ones.
    :param kind: of the cursor: "list", or "requests".
    """
    page: list[ConversationAnswer] = []
    size = CURSOR_BYTES
    for each in found[:limit]:
        body = conversation_body(each, encoding)
        size += most_bytes(body)
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(body)
    last = found[len(page) - 1] if len(found) > len(page) else None
    return ListAnswer(page, cursor_text(kind, last.active_at, last.conversation) if last else None)


CURSOR_BYTES: Final = 256
"""The most of a page without its entries."""

CONVERSATION_BYTES: Final = 1152
PARTICIPANT_BYTES: Final = 640
"""The most of a conversation in JSON without its name, participants and last message, and of a participant without the
display name."""


def most_bytes(conversation: ConversationAnswer) -> int:
    """The most that a conversation has in JSON, which is more than in CBOR."""
    participants, last = conversation.participants, conversation.last_message
    names = [conversation.name or "", *(each.display_name or "" for each in participants)]
    return (
        CONVERSATION_BYTES
        + PARTICIPANT_BYTES * len(participants)
        # With escapes: a control character takes six bytes.
        + sum(len(msgspec.json.encode(name)) for name in names)
        + (most_bytes_of(last) if last else 0)
    )
