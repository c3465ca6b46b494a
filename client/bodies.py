"""The bodies of answers over HTTP (`docs/http.md`), and the frames that say the same."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from protocol.frames import Avatar, Conversation, HeldKeys, Message, Participant, Tombstone


class MessageBody(Struct, frozen=True):
    """A message in a body: a deleted one has the same keys, with null for content that is gone."""

    conversation: bytes
    seq: int
    message: bytes
    created: int
    sender: bytes
    content_type: str | None
    content: bytes | None
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    revision: int | None
    edited: int | None
    reply_to: int | None
    is_deleted: bool
    actor: bytes | None = None
    attachments: list[bytes] | None = None
    thumbnail: bytes | None = None
    device: bytes | None = None
    is_quiet: bool = False
    has_envelopes: bool = False
    envelope: bytes | None = None

    def as_frame(self) -> Message | Tombstone:
        if self.is_deleted or self.content_type is None or self.content is None:
            key = (self.conversation, self.seq, self.message, self.created, self.sender)
            return Tombstone(*key, self.is_quiet or None, self.actor)
        return Message(
            self.conversation,
            self.seq,
            self.message,
            self.created,
            self.sender,
            self.content_type,
            self.content,
            self.nonce,
            self.ephemeral_public_key,
            device=self.device,
            revision=self.revision or None,
            edited=self.edited,
            reply_to=self.reply_to,
            attachments=self.attachments,
            thumbnail=self.thumbnail,
            is_quiet=self.is_quiet or None,
            has_envelopes=self.has_envelopes or None,
            envelope=self.envelope,
        )


class AvatarBody(Struct, frozen=True):
    """The avatar of a user or a group."""

    attachment: bytes
    size_bytes: int
    digest: bytes


def avatar_of(body: AvatarBody | None) -> Avatar | None:
    """The same as in a frame."""
    return None if body is None else (body.attachment, body.size_bytes, body.digest)


class ParticipantBody(Struct, frozen=True):
    user: bytes
    username: str
    joined_seq: int
    delivered_seq: int | None
    read_seq: int | None
    revision: int | None = None
    is_admin: bool | None = None
    since_seq: int | None = None
    display_name: str | None = None
    avatar: AvatarBody | None = None
    actor: bytes | None = None

    def as_frame(self) -> Participant:
        """The same as in a frame, which leaves out default values."""
        return Participant(
            self.user,
            self.revision or None,
            self.username,
            self.joined_seq,
            self.delivered_seq,
            self.read_seq,
            self.is_admin or None,
            self.display_name,
            self.since_seq if self.since_seq != self.joined_seq else None,
            self.actor,
            avatar_of(self.avatar),
        )


class ConversationBody(Struct, frozen=True):
    conversation: bytes
    kind: Literal["direct", "group", "self"]
    name: str | None
    created: int
    participants: list[ParticipantBody]
    first_seq: int
    last_seq: int
    unread_count: int
    last_message: MessageBody | None
    participants_version: int
    joiners_see_all: bool
    lifetime_s: int | None = None
    actor: bytes | None = None
    participant_count: int = 0
    is_request: bool = False
    asked_by: bytes | None = None
    avatar: AvatarBody | None = None

    def as_frame(self) -> Conversation:
        last = self.last_message.as_frame() if self.last_message else None
        return Conversation(
            self.conversation,
            self.created,
            self.kind,
            self.name,
            self.first_seq,
            self.last_seq,
            self.unread_count,
            last.created if last else self.created,
            [each.as_frame() for each in self.participants],
            last,
            self.participants_version,
            self.joiners_see_all or None,
            self.lifetime_s,
            participant_count=self.participant_count if self.participant_count > len(self.participants) else None,
            is_request=self.is_request or None,
            asked_by=self.asked_by,
            actor=self.actor,
            avatar=avatar_of(self.avatar),
        )


class ParticipantPageBody(Struct, frozen=True):
    participants: list[ParticipantBody]
    cursor: str | None


class ConversationPageBody(Struct, frozen=True):
    conversations: list[ConversationBody]
    cursor: str | None


class MessagePageBody(Struct, frozen=True):
    messages: list[MessageBody]
    cursor: str | None


class DeviceBody(Struct, frozen=True):
    """A device that is logged in; times in microseconds since 1970.

    :ivar client: the program's name and version; None: it has told none.
    :ivar is_this: it is the device that asks.
    """

    device: bytes
    name: str
    created: int
    last_used: int
    client: str | None
    is_this: bool


class DevicePageBody(Struct, frozen=True):
    """Some devices, the newest first; `cursor` gets the next ones, None at the end."""

    devices: list[DeviceBody]
    cursor: str | None


class PoolBody(Struct, frozen=True):
    """The keys of a kind that the server holds of this device."""

    kind: str
    count: int
    first: int
    highest: int
    digest: bytes
    last_resort: int
    is_given: bool


class HeldKeysBody(Struct, frozen=True):
    """What the server holds of this device."""

    identity: bytes | None
    identity_revision: int
    key_history: bytes
    pools: list[PoolBody]

    def as_frame(self) -> HeldKeys:
        """The same as in a frame."""
        pools = [(p.kind, p.count, p.first, p.highest, p.digest, p.last_resort, p.is_given) for p in self.pools]
        return HeldKeys(0, self.identity, self.identity_revision, self.key_history, pools)


class GroupStateBody(Struct, frozen=True):
    """The last control message of a conversation, and the state after it; None while no device has put it."""

    control_seq: int
    state: bytes | None
    device: bytes | None
    put: int | None


class LoggedInBody(Struct, frozen=True):
    """A new device, and whose it is."""

    user: bytes
    username: str
    device: bytes
    token: str


class TokenBody(Struct, frozen=True):
    """A new token of this device."""

    token: str


class ProblemBody(Struct, frozen=True):
    """A problem document (RFC 9457); other fields are for readers."""

    code: str
    detail: str
    retry_after_ms: int | None = None


class DeletionBody(Struct, frozen=True):
    due: int


class ExportFile(Struct, frozen=True):
    """A file with all data of the account; the last three are None while it is being made.

    :ivar expires: when it is deleted, in microseconds since 1970.
    :ivar parts: how many there are, from 1.
    """

    export: bytes
    expires: int | None
    parts: int | None
    size_bytes: int | None


class ExportsBody(Struct, frozen=True):
    exports: list[ExportFile]
