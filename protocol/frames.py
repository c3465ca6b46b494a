"""What can be said on the wire: one struct for each frame.

A frame is a CBOR map with small integer keys. A key means the same thing in every frame (`Key`), so a field is
named once. Keys 0 to 23 take one byte, the others two; fields are declared in ascending order of their keys, which
makes what we emit deterministic (RFC 8949, section 4.2.1) without sorting. Receivers ignore keys that they do not know.

Frame types (`Type`) come in three kinds: requests (1 to 63: client to server, each answered by exactly one reply
with the same request number), replies (64 to 127), pushes (128 to 255, server to client, unasked).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final, TypeAlias, get_args

from msgspec import Struct


class Key(IntEnum):
    """The integer keys of all fields."""

    TYPE = 0
    REQUEST = 1
    CONVERSATION = 2
    SEQ = 3
    MESSAGE = 4
    CREATED = 5
    SENDER = 6
    CONTENT_TYPE = 7
    CONTENT = 8
    NONCE = 9
    EPHEMERAL_PUBLIC_KEY = 10
    TEMP_ID = 11
    CODE = 12
    DETAIL = 13
    RETRY_AFTER_MS = 14
    TOKEN = 15
    USER = 16
    DEVICE = 17
    VERSION = 18
    MARKS = 19
    REVISION = 20
    EDITED = 21
    CURSOR = 22
    MORE = 23
    # From here on keys take two bytes: of these only `reply_to` is in frames that are sent for each message.
    COUNT = 24
    BEFORE = 25
    AFTER = 26
    MESSAGES = 27
    CONVERSATIONS = 28
    KIND = 29
    NAME = 30
    FIRST_SEQ = 31
    LAST_SEQ = 32
    UNREAD_COUNT = 33
    ACTIVE_AT = 34
    PARTICIPANTS = 35
    USERNAME = 36
    JOINED_SEQ = 37
    DELIVERED_SEQ = 38
    READ_SEQ = 39
    LAST_MESSAGE = 40
    USERS = 41
    IS_ONLINE = 42
    IS_TYPING = 43
    FOR_EVERYONE = 44
    HEADS = 45
    EXPIRES = 46
    KEEP_ALIVE_MS = 47
    LIMIT = 48
    LIMIT_VALUE = 49
    REPLY_TO = 50
    PARTICIPANTS_VERSION = 51
    IS_ADMIN = 52
    DISPLAY_NAME = 53
    JOINERS_SEE_ALL = 54
    RECEIPTS = 55
    COUNTS = 56
    LAST_SEEN = 57
    LIFETIME_S = 58
    PAGES = 80
    GIVES_RECEIPTS = 90
    SHOWS_PRESENCE = 91
    QUIET_HOURS = 92
    CONTACTS_REVISION = 93
    IS_CONTACT = 94
    IS_BLOCKED = 95
    MUTED_UNTIL = 96
    OWN_REVISION = 97
    PARTICIPANT_COUNT = 98
    IS_REQUEST = 99
    ASKED_BY = 100
    MESSAGES_FROM = 101
    GROUPS_FROM = 102
    CLIENT = 105
    FEATURES = 106
    LIMITS = 107
    SINCE_SEQ = 110
    UNCOUNTED_SEQS = 111
    ACTOR = 112
    FORMER = 113
    LEFT_SEQ = 114


class Type(IntEnum):
    """The value of key 0."""

    HELLO = 1
    SEND = 2
    MARK_DELIVERED = 3
    MARK_READ = 4
    EDIT = 5
    DELETE = 6
    SET_TYPING = 7
    WATCH = 8
    SYNC = 9
    HISTORY = 10
    LIST = 11
    REFRESH = 12
    PING = 13
    BYE = 14
    STATUS = 15
    ERROR = 64
    WELCOME = 65
    SENT = 66
    DONE = 67
    REVISED = 68
    SYNCED = 69
    MESSAGES = 70
    CONVERSATIONS = 71
    PONG = 72
    REFRESHED = 73
    STATUSES = 74
    MESSAGE = 128
    TOMBSTONE = 129
    CONVERSATION = 130
    TYPING = 131
    PRESENCE = 132
    LAG = 133
    RECEIPTS = 134
    CURSOR = 135
    MOVE = 136
    RECEIPT_COUNTS = 137
    PARTICIPANTS = 138
    DEPARTED = 139
    SETTINGS = 140
    PROFILE = 141
    OWN_SETTINGS = 148
    CONTACT = 149


class Hello(Struct, frozen=True, gc=False):
    """First frame of a connection: who is there. Answered by `Welcome`, or by a close code.

    :ivar version: the greatest version of the protocol that the client speaks.
    :ivar cursor: of what the device holds: what is new since then comes right after the welcome, up to a `Cursor`.
    :ivar count: as in `Sync`.
    :ivar pages: as in `Sync`; each ends with a `Cursor`.
    :ivar client: name and version of the program, such as "alo-terminal/0.1.0"; for the operator's figures.
    """

    TYPE: ClassVar = Type.HELLO
    request: int
    token: str
    version: int
    cursor: bytes | None = None
    count: int | None = None
    pages: int | None = None
    client: str | None = None


class Send(Struct, frozen=True, gc=False):
    """A message for a conversation. Answered by `Sent` once it is committed; idempotent on (user, `temp_id`).

    :ivar reply_to: the seq of the message that it answers, if any.
    """

    TYPE: ClassVar = Type.SEND
    request: int
    conversation: bytes
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    temp_id: bytes
    reply_to: int | None = None


class MarkDelivered(Struct, frozen=True):
    """This device has stored these conversations up to these `seq`s. Answered by `Done`. Marks never go back.

    :ivar marks: pairs (conversation, seq).
    """

    TYPE: ClassVar = Type.MARK_DELIVERED
    request: int
    marks: list[tuple[bytes, int]]


class MarkRead(Struct, frozen=True):
    """The user has read these conversations up to these `seq`s, and so has them. Answered by `Done`.

    :ivar marks: pairs (conversation, seq).
    """

    TYPE: ClassVar = Type.MARK_READ
    request: int
    marks: list[tuple[bytes, int]]


class Edit(Struct, frozen=True, gc=False):
    """Other content for a message of one's own. Answered by `Revised`.

    :ivar revision: of the message as this device knows it, 0 if it was never edited. If it is not the stored one,
        another device was quicker: `revision_conflict`. An edit that is repeated after a lost reply is done once, and
        answered alike, also if other edits have come on top of it.
    """

    TYPE: ClassVar = Type.EDIT
    request: int
    conversation: bytes
    seq: int
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    revision: int


class Delete(Struct, frozen=True, gc=False):
    """A message is to be gone. Answered by `Done`; doing it again changes nothing.

    :ivar for_everyone: for all participants, which only its sender may ask; else for this user alone.
    """

    TYPE: ClassVar = Type.DELETE
    request: int
    conversation: bytes
    seq: int
    for_everyone: bool


class SetTyping(Struct, frozen=True, gc=False):
    """The user begins to type, or goes on, or stops. Answered by `Done`."""

    TYPE: ClassVar = Type.SET_TYPING
    request: int
    conversation: bytes
    is_typing: bool


class Watch(Struct, frozen=True):
    """Whose presence this connection wants to know, instead of those it asked for before. Answered by `Done`.

    :ivar users: at most `limits.MAX_WATCHED`; those who share no conversation with the user are passed over.
    """

    TYPE: ClassVar = Type.WATCH
    request: int
    users: list[bytes]


class Sync(Struct, frozen=True, gc=False):
    """What is new since a cursor; it comes as pushes, then `Synced` says how far they reached.

    :ivar cursor: of the last `Synced`; None on a device that holds nothing.
    :ivar count: of each conversation at most so many new messages, the last ones; None for all.
    :ivar pages: so many pages at most, one after the other, each but the last with a `Cursor` at its end; None for 1.
    """

    TYPE: ClassVar = Type.SYNC
    request: int
    cursor: bytes | None
    count: int | None = None
    pages: int | None = None


class History(Struct, frozen=True, gc=False):
    """A page of a conversation's messages. Answered by `Messages`.

    :ivar before: only those with a smaller seq. Without `after` the page is the newest of them, newest first.
    :ivar after: only those with a greater seq; then the page is the oldest of them, oldest first.
    :ivar count: at most so many.
    """

    TYPE: ClassVar = Type.HISTORY
    request: int
    conversation: bytes
    count: int | None
    before: int | None
    after: int | None


class List(Struct, frozen=True, gc=False):
    """A page of the user's conversations, the latest message first. Answered by `Conversations`.

    :ivar cursor: of the page before.
    :ivar is_request: of the requests, instead of the conversations that are none; None for false.
    """

    TYPE: ClassVar = Type.LIST
    request: int
    cursor: bytes | None
    count: int | None
    is_request: bool | None = None


class Refresh(Struct, frozen=True, gc=False):
    """A new token for this device, before the one it has expires. Answered by `Refreshed`."""

    TYPE: ClassVar = Type.REFRESH
    request: int
    token: str


class Ping(Struct, frozen=True, gc=False):
    """Are you there, and what time is it? Answered by `Pong`, at once."""

    TYPE: ClassVar = Type.PING
    request: int


class Bye(Struct, frozen=True, gc=False):
    """The client leaves. Answered by `Done` after all other replies; then the server closes with 1000."""

    TYPE: ClassVar = Type.BYE
    request: int


class Status(Struct, frozen=True, gc=False):
    """How far a message has come: with whom, of those for whom it is. Answered by `Statuses`."""

    TYPE: ClassVar = Type.STATUS
    request: int
    conversation: bytes
    seq: int


class Error(Struct, frozen=True, gc=False):
    """The reply to a request that was refused.

    :ivar code: a value of `codes.ErrorCode`; one that a client does not know counts as not to be retried.
    :ivar detail: one English sentence for a developer; not for the user, not for parsing.
    :ivar retry_after_ms: present if and only if the same request may be retried, not before so many ms.
    :ivar limit: which limit was met, if it was one; `limit_value` is what it allows.
    """

    TYPE: ClassVar = Type.ERROR
    request: int
    code: str
    detail: str
    retry_after_ms: int | None = None
    limit: str | None = None
    limit_value: int | None = None


class Welcome(Struct, frozen=True, gc=False):
    """The reply to `Hello`. From here on pushes may come. Times are in microseconds, by the server's clock.

    :ivar created: now.
    :ivar expires: until when the token is good.
    :ivar version: of the protocol, for this connection: the greatest that both sides speak.
    :ivar keep_alive_ms: after so long a silence the server pings; after twice as long the connection is at its end.
    :ivar features: what this server can do (`protocol.features`), sorted; None is an older server's word for none.
    :ivar limits: pairs (name, value) of what it allows, sorted.
    """

    TYPE: ClassVar = Type.WELCOME
    request: int
    created: int
    user: bytes
    device: bytes
    version: int
    expires: int
    keep_alive_ms: int
    features: list[str] | None = None
    limits: list[tuple[str, int]] | None = None


class Sent(Struct, frozen=True, gc=False):
    """The reply to `Send`: the message is committed and will not be lost.

    :ivar created: microseconds since 1970-01-01T00:00Z, by Postgres' clock; grows with `seq` in a conversation.
    """

    TYPE: ClassVar = Type.SENT
    request: int
    seq: int
    message: bytes
    created: int


class Done(Struct, frozen=True, gc=False):
    """The reply to a request that has no other result."""

    TYPE: ClassVar = Type.DONE
    request: int


class Revised(Struct, frozen=True, gc=False):
    """The reply to `Edit`: the new content is committed.

    :ivar edited: when, in microseconds since 1970.
    """

    TYPE: ClassVar = Type.REVISED
    request: int
    revision: int
    edited: int


class Synced(Struct, frozen=True, gc=False):
    """The reply to `Sync`: everything up to `cursor` has come before it.

    :ivar more: there is more already; ask again with this cursor.
    """

    TYPE: ClassVar = Type.SYNCED
    request: int
    cursor: bytes
    more: bool


class Messages(Struct, frozen=True):
    """The reply to `History`.

    :ivar more: there are more in the direction in which they come.
    :ivar first_seq: the first seq of the conversation that this user may read.
    """

    TYPE: ClassVar = Type.MESSAGES
    request: int
    more: bool
    messages: list[Message | Tombstone]
    first_seq: int | None = None


class Conversations(Struct, frozen=True):
    """The reply to `List`.

    :ivar cursor: for the next page; None if there is none.
    """

    TYPE: ClassVar = Type.CONVERSATIONS
    request: int
    cursor: bytes | None
    conversations: list[Conversation]


class Pong(Struct, frozen=True, gc=False):
    """The reply to `Ping`. `created` is the clock of the process that answers, in microseconds."""

    TYPE: ClassVar = Type.PONG
    request: int
    created: int


class Refreshed(Struct, frozen=True, gc=False):
    """The reply to `Refresh`. The token that was presented stays good for a while, should this reply be lost.

    :ivar expires: until when the new token is good, in microseconds since 1970.
    """

    TYPE: ClassVar = Type.REFRESHED
    request: int
    token: str
    expires: int


class Statuses(Struct, frozen=True):
    """The reply to `Status`.

    :ivar receipts: (user, delivered_seq, read_seq) of each participant for whom the message is.
    """

    TYPE: ClassVar = Type.STATUSES
    request: int
    receipts: list[tuple[bytes, int, int]]


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


Request: TypeAlias = (
    Hello
    | Send
    | MarkDelivered
    | MarkRead
    | Edit
    | Delete
    | SetTyping
    | Watch
    | Sync
    | History
    | List
    | Refresh
    | Ping
    | Bye
    | Status
)
Reply: TypeAlias = (
    Error | Welcome | Sent | Done | Revised | Synced | Messages | Conversations | Pong | Refreshed | Statuses
)
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
Frame: TypeAlias = Request | Reply | Push


def name_of(frame: Frame | type[Frame]) -> str:
    """What SPEC.md calls a frame, such as "mark_read"."""
    return frame.TYPE.name.lower()


REQUESTS: Final[tuple[type[Request], ...]] = get_args(Request)
REPLIES: Final[tuple[type[Reply], ...]] = get_args(Reply)
PUSHES: Final[tuple[type[Push], ...]] = get_args(Push)
