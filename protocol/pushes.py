"""Pushes, from server to client, unasked: one struct for each, and for the records within them."""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias, get_args

from msgspec import Struct

from protocol.numbers import Type

Avatar: TypeAlias = tuple[bytes, int, bytes]
"""The picture of a user or a group: the id of its attachment, the size in bytes, the digest."""


class Message(Struct, frozen=True, gc=False):
    """Push: a message in one of the user's conversations, sent by another device, or its newest revision.

    :ivar temp_id: the one it was sent with, on its sender's devices alone; None for others, and where it is not known.
    :ivar device: the device that wrote the content: that sent the message, or edited it last; None where it is not
        known, as of imported messages.
    :ivar revision: None for 0, as it was sent.
    :ivar edited: when this revision was made; None if there was none.
    :ivar reply_to: the seq of the message that it answers; None if it answers none.
    :ivar attachments: ids, in the order that the sender gave; None if it has none.
    :ivar thumbnail: a small ciphertext beside the content; None if it has none.
    :ivar is_quiet: it counts neither as unread nor for notices; None for false.
    :ivar has_envelopes: it was sent or edited with envelopes, for this device or others; None for false.
    :ivar follows: of a control message: the seq of the one before it, 0 for the first; None: it is none.
    :ivar quiet_count: how many of the conversation's messages up to this one are quiet; None for 0.
    :ivar envelope: of this device, from the latest edit that names it; None if none does, or it is gone by now.
    """

    TYPE: ClassVar = Type.MESSAGE
    conversation: bytes
    seq: int
    message: bytes
    created: int
    sender: bytes
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    temp_id: bytes | None = None
    device: bytes | None = None
    revision: int | None = None
    edited: int | None = None
    reply_to: int | None = None
    attachments: list[bytes] | None = None
    thumbnail: bytes | None = None
    is_quiet: bool | None = None
    has_envelopes: bool | None = None
    follows: int | None = None
    quiet_count: int | None = None
    envelope: bytes | None = None


class Tombstone(Struct, frozen=True, gc=False):
    """Push: the remains of a message that was deleted. It is final: no revision comes after it.

    :ivar is_quiet: the message was quiet; None for false.
    :ivar actor: the administrator who deleted it for everyone; None: its sender, or this user.
    :ivar quiet_count: as in `Message`.
    """

    TYPE: ClassVar = Type.TOMBSTONE
    conversation: bytes
    seq: int
    message: bytes
    created: int
    sender: bytes
    is_quiet: bool | None = None
    actor: bytes | None = None
    quiet_count: int | None = None


class Participant(Struct, frozen=True, gc=False):
    """A user in a conversation. Part of `Conversation` and `Participants`, no frame by itself.

    :ivar revision: of the profile; None for 0.
    :ivar delivered_seq: with `read_seq` an up-to mark. None where more than `limits.MAX_SHOWN` take part, except for
        the user's own entry.
    :ivar is_admin: None for false.
    :ivar display_name: None if there is none, and where more than `limits.MAX_SHOWN` take part.
    :ivar since_seq: the conversation's last message when the participant joined: later ones are for this participant,
        too, and count as unread. None: `joined_seq`.
    :ivar actor: the other user who added this one or gave the role, whichever was last; None: no other user did.
    :ivar avatar: None if there is none, and where more than `limits.MAX_SHOWN` take part.
    """

    user: bytes
    revision: int | None
    username: str
    joined_seq: int
    delivered_seq: int | None
    read_seq: int | None
    is_admin: bool | None = None
    display_name: str | None = None
    since_seq: int | None = None
    actor: bytes | None = None
    avatar: Avatar | None = None

    @property
    def since(self) -> int:
        """The participant is a recipient of the messages above it."""
        return self.joined_seq if self.since_seq is None else self.since_seq


class Stay(Struct, frozen=True, gc=False):
    """The time that a user took part in a conversation, after it has ended. Part of `Conversation` and `Departed`, no
    frame by itself.

    :ivar delivered_seq: with `read_seq` the marks at its end. None where more than `limits.MAX_SHOWN` take part.
    :ivar since_seq: the user is a recipient of the messages above it and up to `left_seq`.
    :ivar actor: the administrator who removed the user; None: the user left.
    """

    user: bytes
    delivered_seq: int | None
    read_seq: int | None
    since_seq: int
    actor: bytes | None
    left_seq: int


class Conversation(Struct, frozen=True):
    """Push: a conversation as this user sees it, new or changed.

    :ivar created: microseconds since 1970.
    :ivar kind: "direct", "group" or "self".
    :ivar name: of a group.
    :ivar first_seq: the first seq that this user may read.
    :ivar active_at: microseconds since 1970: the last message that is not quiet, or the beginning.
    :ivar participants: None if they are as they were.
    :ivar last_message: the last one that is not quiet; None if there is none, or none that this user may read.
    :ivar participants_version: of the participants and the settings: the greater version counts.
    :ivar joiners_see_all: users who join see earlier messages; None for false.
    :ivar lifetime_s: the time after which messages disappear; None: as long as the server keeps them.
    :ivar devices_version: of the devices for which participants encrypt here; None for 0. The greater one counts,
        whatever the `participants_version`.
    :ivar control_seq: the last control message; None for 0. The greater one counts.
    :ivar muted_until: until when this user has muted it, in microseconds since 1970; None: it is not muted.
    :ivar own_revision: how often this user has muted or unmuted it; None for 0. At the same `participants_version` the
        greater `own_revision` counts for the user's own settings.
    :ivar uncounted_seqs: the messages above the user's own mark that `unread_count` leaves out; the greatest
        `limits.MAX_UNCOUNTED` of them. None if it leaves out none.
    :ivar actor: the user who changed the settings last; None if no user has.
    :ivar former: with `participants`, stays of other users that have ended, the latest `limits.MAX_FORMER` of them.
    :ivar participant_count: the number of participants, where it is more than `limits.MAX_SHOWN`: then `participants`
        holds this user alone. None: `participants` holds all of them.
    :ivar is_request: `asked_by` asks the user to take part, and the user has not accepted; None for false.
    :ivar avatar: of a group; None if there is none.
    :ivar quiet_counts: (seq, how many messages up to it are quiet) of the user's base and of `last_seq`; None if no
        message of the conversation is quiet.
    """

    TYPE: ClassVar = Type.CONVERSATION
    conversation: bytes
    created: int
    kind: str
    name: str | None
    first_seq: int
    last_seq: int
    unread_count: int
    active_at: int
    participants: list[Participant] | None
    last_message: Message | Tombstone | None
    participants_version: int
    joiners_see_all: bool | None = None
    lifetime_s: int | None = None
    devices_version: int | None = None
    control_seq: int | None = None
    muted_until: int | None = None
    own_revision: int | None = None
    participant_count: int | None = None
    is_request: bool | None = None
    asked_by: bytes | None = None
    uncounted_seqs: list[int] | None = None
    actor: bytes | None = None
    former: list[Stay] | None = None
    avatar: Avatar | None = None
    quiet_counts: list[tuple[int, int]] | None = None


class DevicesChanged(Struct, frozen=True):
    """Push: devices for which participants encrypt in a conversation have changed. Only where at most
    `limits.MAX_SHOWN` take part.

    :ivar devices_version: the version of the device set from now on.
    :ivar changed_users: the users whose devices have changed.
    :ivar changed_since: a version: of no other users have devices changed since then. None: not known.
    """

    TYPE: ClassVar = Type.DEVICES_CHANGED
    conversation: bytes
    devices_version: int
    changed_users: list[bytes]
    changed_since: int | None = None


class Typing(Struct, frozen=True, gc=False):
    """Push: a user types, or has stopped. Without a further one it ends after `limits.TYPING_S`."""

    TYPE: ClassVar = Type.TYPING
    conversation: bytes
    user: bytes
    is_typing: bool


class Presence(Struct, frozen=True, gc=False):
    """Push: a watched user has a device connected, or no longer.

    :ivar last_seen: when a user who is offline was last online, in microseconds since 1970; None if not known.
    """

    TYPE: ClassVar = Type.PRESENCE
    user: bytes
    is_online: bool
    last_seen: int | None = None


class Lag(Struct, frozen=True):
    """Push: this connection read too slowly; pushes were dropped, and none come until it asks with `Sync`.

    :ivar heads: pairs (conversation, seq): of the conversations whose pushes were dropped, the latest of those; at most
        `limits.MAX_HEADS` of them.
    """

    TYPE: ClassVar = Type.LAG
    heads: list[tuple[bytes, int]]


class Receipts(Struct, frozen=True):
    """Push: marks of participants have moved past messages of this user, or this user's own on another device.

    :ivar device: of the user's own marks, as they move: the device on which the user has read; None: other users'
        marks, or not known.
    :ivar receipts: (user, delivered_seq, read_seq), as they are now; they never go back.
    :ivar quiet_counts: of the user's own read mark, as in `Conversation`.
    """

    TYPE: ClassVar = Type.RECEIPTS
    conversation: bytes
    device: bytes | None
    receipts: list[tuple[bytes, int, int]]
    quiet_counts: list[tuple[int, int]] | None = None


class Cursor(Struct, frozen=True, gc=False):
    """Push: everything up to `cursor` has come on this connection.

    :ivar more: there is more to come already; ask with `Sync`.
    """

    TYPE: ClassVar = Type.CURSOR
    cursor: bytes
    more: bool


class Move(Struct, frozen=True, gc=False):
    """Push: this node is about to stop: connect again after that number of ms, to another address if there is one."""

    TYPE: ClassVar = Type.MOVE
    retry_after_ms: int


class ReceiptCounts(Struct, frozen=True):
    """Push: the counts of the user's messages, where more than `limits.MAX_SHOWN` take part.

    :ivar counts: (seq, delivered, read, recipients): numbers of recipients; they never go back.
    """

    TYPE: ClassVar = Type.RECEIPT_COUNTS
    conversation: bytes
    counts: list[tuple[int, int, int, int]]


class Participants(Struct, frozen=True):
    """Push: some participants of a conversation, as they are now; others are as they were.

    :ivar participants_version: of this frame; an entry that was told with a greater one stands.
    :ivar participant_count: as in `Conversation`, of that version.
    :ivar quiet_counts: as in `Conversation`, in answer to `Sync`.
    """

    TYPE: ClassVar = Type.PARTICIPANTS
    conversation: bytes
    participants: list[Participant]
    participants_version: int
    participant_count: int | None = None
    quiet_counts: list[tuple[int, int]] | None = None


class Departed(Struct, frozen=True):
    """Push: users who no longer take part in a conversation. If the user is one of them, nothing more of it comes.

    :ivar former: the stays that end by it.
    :ivar participant_count: as in `Conversation`, of that version.
    """

    TYPE: ClassVar = Type.DEPARTED
    conversation: bytes
    users: list[bytes]
    participants_version: int
    participant_count: int | None = None
    former: list[Stay] | None = None


class Settings(Struct, frozen=True, gc=False):
    """Push: the settings of a conversation as they are now.

    :ivar first_seq: messages below it are gone for all users.
    :ivar lifetime_s: as in `Conversation`.
    :ivar actor: the user who changed the settings last; None if no user has.
    :ivar avatar: as in `Conversation`.
    :ivar quiet_counts: of the message before `first_seq`, where that has risen.
    """

    TYPE: ClassVar = Type.SETTINGS
    conversation: bytes
    name: str | None
    first_seq: int
    participants_version: int
    joiners_see_all: bool | None = None
    lifetime_s: int | None = None
    actor: bytes | None = None
    avatar: Avatar | None = None
    quiet_counts: list[tuple[int, int]] | None = None


class Profile(Struct, frozen=True, gc=False):
    """Push: how a user is shown now.

    :ivar revision: the profile of the greater revision counts.
    """

    TYPE: ClassVar = Type.PROFILE
    user: bytes
    revision: int
    username: str
    display_name: str | None = None
    avatar: Avatar | None = None


class OwnSettings(Struct, frozen=True, gc=False):
    """Push: the user's own settings, for the user's own devices.

    :ivar revision: the greater one counts, except for the contacts.
    :ivar quiet_hours: (from_minute, until_minute, zone); None if there are none.
    :ivar contacts_revision: how often the user's contacts have changed: a client whose list is older reads it again.
    :ivar messages_from, groups_from: the users from whom this one takes first messages, or places in groups:
        "everybody", "contacts" or "nobody".
    """

    TYPE: ClassVar = Type.OWN_SETTINGS
    revision: int
    gives_receipts: bool
    shows_presence: bool
    quiet_hours: tuple[int, int, str] | None
    contacts_revision: int
    messages_from: str
    groups_from: str


class Contact(Struct, frozen=True, gc=False):
    """Push: one of the user's contacts has changed, for the user's own devices.

    :ivar contacts_revision: after this change.
    :ivar is_contact: false if the user is no longer a contact.
    """

    TYPE: ClassVar = Type.CONTACT
    user: bytes
    username: str
    display_name: str | None
    contacts_revision: int
    is_contact: bool
    is_blocked: bool
    avatar: Avatar | None = None


class KeysLow(Struct, frozen=True):
    """Push: few one-time keys of this device are left, or a last-resort key of it was handed out.

    :ivar kinds: of these keys.
    """

    TYPE: ClassVar = Type.KEYS_LOW
    kinds: list[str]


class Undecryptable(Struct, frozen=True, gc=False):
    """Push: a device cannot decrypt a message that this device has written, or that a device of the same user has which
    has ended by now. It comes again with each welcome until the message is healed.

    :ivar user: of the device.
    :ivar device: the device that asks for an envelope.
    :ivar revision: of the message; None for 0.
    :ivar reason: one of `undecryptable.REASONS`, or of a later version.
    """

    TYPE: ClassVar = Type.UNDECRYPTABLE
    conversation: bytes
    seq: int
    user: bytes
    device: bytes
    revision: int | None
    reason: str


Push: TypeAlias = (
    Message
    | Tombstone
    | Conversation
    | Typing
    | Presence
    | Lag
    | Receipts
    | Cursor
    | Move
    | ReceiptCounts
    | Participants
    | Departed
    | Settings
    | Profile
    | KeysLow
    | DevicesChanged
    | Undecryptable
    | OwnSettings
    | Contact
)
PUSHES: Final[tuple[type[Push], ...]] = get_args(Push)
