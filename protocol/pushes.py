"""Pushes, from server to client, unasked: one struct for each, and for the records within them."""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias, get_args

from msgspec import Struct

from protocol.numbers import Type


class Message(Struct, frozen=True, gc=False):
    """Push: a message in one of the user's conversations, sent by another device, or its newest revision.

    :ivar temp_id: that it was sent with, for its sender's devices alone; None for others, and where it is not known.
    :ivar revision: None for 0, as it was sent.
    :ivar edited: when this revision was made; None if there was none.
    :ivar reply_to: the seq of the message that it answers; None if it answers none.
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
    revision: int | None = None
    edited: int | None = None
    reply_to: int | None = None


class Tombstone(Struct, frozen=True, gc=False):
    """Push: what is left of a message that was deleted. It is final: no revision comes after it.

    :ivar actor: the administrator who deleted it for everyone; None: its sender, or this user.
    """

    TYPE: ClassVar = Type.TOMBSTONE
    conversation: bytes
    seq: int
    message: bytes
    created: int
    sender: bytes
    actor: bytes | None = None


class Participant(Struct, frozen=True, gc=False):
    """A user in a conversation. Part of `Conversation` and `Participants`, no frame by itself.

    :ivar revision: of the profile; None for 0.
    :ivar delivered_seq: with `read_seq` an up-to mark. None where more than `limits.MAX_SHOWN` take part, but for the
        user who is told.
    :ivar is_admin: None for false.
    :ivar display_name: None if there is none, and where more than `limits.MAX_SHOWN` take part.
    :ivar since_seq: the conversation's last message when the participant joined: later ones are for this participant,
        too, and count as unread. None: `joined_seq`.
    :ivar actor: the other user who let this one take part, or gave the role, whichever was last; None: nobody did.
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

    @property
    def since(self) -> int:
        """What was sent after it was sent to this participant, too."""
        return self.joined_seq if self.since_seq is None else self.since_seq


class Stay(Struct, frozen=True, gc=False):
    """The time that a user took part in a conversation, after it has ended. Part of `Conversation` and `Departed`, no
    frame by itself.

    :ivar delivered_seq: with `read_seq` the marks at its end. None where more than `limits.MAX_SHOWN` take part.
    :ivar since_seq: what was sent after it and up to `left_seq` was sent to this user, too.
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
    :ivar kind: "direct" or "group".
    :ivar name: of a group.
    :ivar first_seq: the first seq that this user may read.
    :ivar active_at: microseconds since 1970: the last message, or the beginning.
    :ivar participants: None: as they were told before.
    :ivar last_message: with `last_seq`; None if there is none, or none that this user may read.
    :ivar participants_version: of the participants and the settings: of two states the greater version counts.
    :ivar joiners_see_all: who joins sees what was said before; None for false.
    :ivar lifetime_s: for how long messages live before they disappear; None: as long as the server keeps them.
    :ivar muted_until: until when this user has muted it, in microseconds since 1970; None: it is not muted.
    :ivar own_revision: how often this user has muted it or no more; None for 0. Of two states with the same
        `participants_version` the one of the greater `own_revision` counts for what is the user's own.
    :ivar uncounted_seqs: of the messages above the user's own mark those that `unread_count` leaves out; the greatest
        `limits.MAX_UNCOUNTED` of them. None: there are none.
    :ivar actor: the user who changed the settings last; None: nobody has.
    :ivar former: with `participants`, stays of other users that have ended, the latest `limits.MAX_FORMER` of them.
    :ivar participant_count: how many take part, where they are more than `limits.MAX_SHOWN`: then `participants` holds
        this user alone. None: `participants` holds everybody.
    :ivar is_request: the user is asked to take part, by `asked_by`, and has not accepted; None for false.
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
    muted_until: int | None = None
    own_revision: int | None = None
    participant_count: int | None = None
    is_request: bool | None = None
    asked_by: bytes | None = None
    uncounted_seqs: list[int] | None = None
    actor: bytes | None = None
    former: list[Stay] | None = None


class Typing(Struct, frozen=True, gc=False):
    """Push: somebody types, or has stopped. Without another one it is over after `limits.TYPING_S`."""

    TYPE: ClassVar = Type.TYPING
    conversation: bytes
    user: bytes
    is_typing: bool


class Presence(Struct, frozen=True, gc=False):
    """Push: somebody who is watched has a device connected, or no longer.

    :ivar last_seen: when somebody who is not online was so last, in microseconds since 1970; None if not known.
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

    :ivar receipts: (user, delivered_seq, read_seq), as they are now; they never go back.
    """

    TYPE: ClassVar = Type.RECEIPTS
    conversation: bytes
    receipts: list[tuple[bytes, int, int]]


class Cursor(Struct, frozen=True, gc=False):
    """Push: everything up to `cursor` has been offered to this connection.

    :ivar more: there is more already; ask with `Sync`.
    """

    TYPE: ClassVar = Type.CURSOR
    cursor: bytes
    more: bool


class Move(Struct, frozen=True, gc=False):
    """Push: this node is about to stop: connect anew after so many ms, to another address if there is one."""

    TYPE: ClassVar = Type.MOVE
    retry_after_ms: int


class ReceiptCounts(Struct, frozen=True):
    """Push: with how many participants the user's messages have come how far, where more than `limits.MAX_SHOWN` take
    part.

    :ivar counts: (seq, to how many it is delivered, how many have read it, for how many it is); they never go back.
    """

    TYPE: ClassVar = Type.RECEIPT_COUNTS
    conversation: bytes
    counts: list[tuple[int, int, int, int]]


class Participants(Struct, frozen=True):
    """Push: these take part in a conversation, as they are now; others are as they were.

    :ivar participants_version: from when this is; what was told of one of them with a greater one stands.
    :ivar participant_count: as in `Conversation`, of that version.
    """

    TYPE: ClassVar = Type.PARTICIPANTS
    conversation: bytes
    participants: list[Participant]
    participants_version: int
    participant_count: int | None = None


class Departed(Struct, frozen=True):
    """Push: these take part in a conversation no more. If the user is one of them, nothing of it comes any more.

    :ivar former: the stays that have ended by that.
    :ivar participant_count: as in `Conversation`, of that version.
    """

    TYPE: ClassVar = Type.DEPARTED
    conversation: bytes
    users: list[bytes]
    participants_version: int
    participant_count: int | None = None
    former: list[Stay] | None = None


class Settings(Struct, frozen=True, gc=False):
    """Push: what a conversation is like now.

    :ivar first_seq: what lies below it is gone for everyone.
    :ivar lifetime_s: as in `Conversation`.
    :ivar actor: the user who changed the settings last; None: nobody has.
    """

    TYPE: ClassVar = Type.SETTINGS
    conversation: bytes
    name: str | None
    first_seq: int
    participants_version: int
    joiners_see_all: bool | None = None
    lifetime_s: int | None = None
    actor: bytes | None = None


class Profile(Struct, frozen=True, gc=False):
    """Push: what is shown of a user now.

    :ivar revision: of two profiles the one of the greater revision counts.
    """

    TYPE: ClassVar = Type.PROFILE
    user: bytes
    revision: int
    username: str
    display_name: str | None = None


class OwnSettings(Struct, frozen=True, gc=False):
    """Push: what the user has set, for the user's own devices.

    :ivar revision: of two the one of the greater revision counts, but for the contacts.
    :ivar quiet_hours: (from_minute, until_minute, zone); None: there are none.
    :ivar contacts_revision: how often the user's contacts have changed: whoever holds them as of another number reads
        the list.
    :ivar messages_from, groups_from: from whom first messages, or places in groups, are taken: "everybody", "contacts"
        or "nobody".
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
    """Push: one of the user's contacts is another one, for the user's own devices.

    :ivar contacts_revision: after this change.
    :ivar is_contact: false: it is none any more.
    """

    TYPE: ClassVar = Type.CONTACT
    user: bytes
    username: str
    display_name: str | None
    contacts_revision: int
    is_contact: bool
    is_blocked: bool


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
    | OwnSettings
    | Contact
)
PUSHES: Final[tuple[type[Push], ...]] = get_args(Push)
