"""Requests, from client to server: one struct for each."""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias, get_args

from msgspec import Struct

from protocol.numbers import Type

OneTimeKey: TypeAlias = tuple[str, int, bytes]
"""A public key of a device: its kind, its number, which grows from key to key of a kind, and its bytes."""

Envelope: TypeAlias = tuple[bytes, bytes]
"""Bytes for one device: the device, and the bytes."""


class Hello(Struct, frozen=True, gc=False):
    """The first frame of a connection: it says whose device this is. Answered by `Welcome`, or by a close code.

    :ivar version: the greatest version of the protocol that the client speaks.
    :ivar cursor: that the device has stored: the news since then comes right after the welcome, up to a `Cursor`.
    :ivar count: as in `Sync`.
    :ivar pages: as in `Sync`; each ends with a `Cursor`.
    :ivar client: name and version of the program, such as "alo-terminal/0.1.0", for the operator's statistics.
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
    :ivar attachments: ids of uploads that are complete, of which the message takes possession.
    :ivar thumbnail: a small ciphertext beside the content.
    :ivar is_quiet: it counts neither as unread nor for notices, also after edits; None for false.
    :ivar devices_version: of the conversation's device set, for which the content is encrypted. If it is not the
        present one, the message is refused: `devices_changed`. None: not checked.
    :ivar envelopes: bytes for some devices of the participants, each of which gets its own alone. None: none.
    :ivar follows: it is a control message: the seq of the last one before it, 0 if there is none. If another one has
        come meanwhile, the message is refused: `control_conflict`. None: it is none.
    :ivar kinds: with `wants_devices`, of keys to claim of each of the devices, as in `Devices`; None: none.
    :ivar wants_devices: `devices_changed` is to list the devices of the changed users; None for false.
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
    attachments: list[bytes] | None = None
    thumbnail: bytes | None = None
    is_quiet: bool | None = None
    devices_version: int | None = None
    envelopes: list[Envelope] | None = None
    follows: int | None = None
    kinds: list[str] | None = None
    wants_devices: bool | None = None


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
    """Other content for a message of the user's own. Answered by `Revised`.

    :ivar revision: of the message as this device knows it, 0 if it was never edited. If it is not the stored one,
        another device was quicker: `revision_conflict`. The server does an edit that is repeated after a lost reply
        once, and answers it alike, also if other edits have followed.
    :ivar attachments: of the message from now on: those that it keeps, and new ones; None: none.
    :ivar thumbnail: as in `Send`, instead of the one before.
    :ivar devices_version: as in `Send`, with `kinds` and `wants_devices`.
    :ivar envelopes: as in `Send`, for the new content; devices that they do not name keep those of before.
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
    attachments: list[bytes] | None = None
    thumbnail: bytes | None = None
    devices_version: int | None = None
    envelopes: list[Envelope] | None = None
    kinds: list[str] | None = None
    wants_devices: bool | None = None


class Delete(Struct, frozen=True, gc=False):
    """Delete a message. Answered by `Done`; doing it again changes nothing.

    :ivar for_everyone: for all participants, which its sender and administrators may ask for; else for this user alone.
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
    """The users whose presence this connection wants to know, instead of earlier ones. Answered by `Done`.

    :ivar users: at most `limits.MAX_WATCHED`; the server ignores users who share no conversation with the user.
    """

    TYPE: ClassVar = Type.WATCH
    request: int
    users: list[bytes]


class Sync(Struct, frozen=True, gc=False):
    """Ask for the news since a cursor: pushes, then `Synced`, which says how far they reached.

    :ivar cursor: of the last `Synced`; None on a device that holds nothing.
    :ivar count: the greatest number of new messages of each conversation, the last ones; None for all.
    :ivar pages: the greatest number of pages; each but the last has a `Cursor` at its end; None for 1.
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
    :ivar count: the greatest number of messages.
    :ivar wants_downloads: the reply has the download tickets of the page's attachments, too; None for false.
    """

    TYPE: ClassVar = Type.HISTORY
    request: int
    conversation: bytes
    count: int | None
    before: int | None
    after: int | None
    wants_downloads: bool | None = None


class List(Struct, frozen=True, gc=False):
    """A page of the user's conversations, the latest message first. Answered by `Conversations`.

    :ivar cursor: of the page before.
    :ivar is_request: true for the requests, instead of all other conversations; None for false.
    """

    TYPE: ClassVar = Type.LIST
    request: int
    cursor: bytes | None
    count: int | None
    is_request: bool | None = None


class Refresh(Struct, frozen=True, gc=False):
    """Ask for a new token for this device, before the present one expires. Answered by `Refreshed`."""

    TYPE: ClassVar = Type.REFRESH
    request: int
    token: str


class Ping(Struct, frozen=True, gc=False):
    """Ask for a sign of life, and for the time. Answered by `Pong`, at once."""

    TYPE: ClassVar = Type.PING
    request: int


class Bye(Struct, frozen=True, gc=False):
    """The client leaves. Answered by `Done` after all other replies; then the server closes with 1000."""

    TYPE: ClassVar = Type.BYE
    request: int


class Status(Struct, frozen=True, gc=False):
    """Ask how far each recipient of a message has come. Answered by `Statuses`."""

    TYPE: ClassVar = Type.STATUS
    request: int
    conversation: bytes
    seq: int


class Upload(Struct, frozen=True):
    """Declare files, before their ciphertext goes to the object store. Answered by `Tickets`.

    :ivar files: (size in bytes, media type, digests of the parts, thumbnail). The digests are SHA-256, 32 bytes for
        each part of `limits.ATTACHMENT_PART_BYTES`, joined. The thumbnail is (size in bytes, its SHA-256), or None.
    :ivar is_avatar: the files are avatars, which no message takes; None for false.
    """

    TYPE: ClassVar = Type.UPLOAD
    request: int
    files: list[tuple[int, str, bytes, tuple[int, bytes] | None]]
    is_avatar: bool | None = None


class Parts(Struct, frozen=True, gc=False):
    """Ask for the presigned requests of parts that the object store does not have. Answered by `PartRequests`.

    :ivar after: only parts with a greater number.
    :ivar attachment: an upload of the user's own, or the thumbnail of one.
    """

    TYPE: ClassVar = Type.PARTS
    request: int
    after: int | None
    attachment: bytes


class Complete(Struct, frozen=True):
    """All parts of these uploads, and of their thumbnails, are in the object store. Answered by `Done`, once the server
    has seen them there; doing it again changes nothing."""

    TYPE: ClassVar = Type.COMPLETE
    request: int
    attachments: list[bytes]


class Download(Struct, frozen=True):
    """Ask for the download tickets of attachments. Answered by `Downloads`.

    :ivar wanted: ids of attachments.
    """

    TYPE: ClassVar = Type.DOWNLOAD
    request: int
    wanted: list[bytes]


class Abort(Struct, frozen=True):
    """Give up uploads that no message has, with their thumbnails. Answered by `Done`."""

    TYPE: ClassVar = Type.ABORT
    request: int
    attachments: list[bytes]


class PutKeys(Struct, frozen=True, gc=False):
    """Publish what others need in order to encrypt for this device. Answered by `Keys`, after the commit; doing it
    again changes nothing.

    :ivar identity: the device's public, long-lived bytes, 1 to `limits.MAX_IDENTITY_BYTES`; None: as they are.
    :ivar one_time_keys: (kind, number, key), to be handed out once each. Numbers that the server has stored before are
        skipped, and so are the greatest ones of a kind, if there is no room for them.
    :ivar last_resort_keys: (kind, number, key), to be handed out when there is no other of the kind.
    :ivar is_anew: these one-time keys take the place of those of their kinds with lesser numbers; None for false. Not
        without such keys.
    :ivar key_history: of `Keys`, as it was told last; for uploads of keys.
    """

    TYPE: ClassVar = Type.PUT_KEYS
    request: int
    identity: bytes | None = None
    one_time_keys: list[OneTimeKey] | None = None
    last_resort_keys: list[OneTimeKey] | None = None
    is_anew: bool | None = None
    key_history: bytes | None = None


class Devices(Struct, frozen=True):
    """Ask for the devices of users, with their identities. Answered by `DeviceList`.

    :ivar device: only devices with a greater id; None for all: the list is in the order of ids.
    :ivar users: at most `limits.MAX_LISTED_USERS`; the server leaves out users whose devices this one may not see.
    :ivar kinds: claims a key of each of these kinds of each device, which no other claim gets; None: claims none.
    """

    TYPE: ClassVar = Type.DEVICES
    request: int
    device: bytes | None
    users: list[bytes]
    kinds: list[str] | None = None


class AddEnvelopes(Struct, frozen=True, gc=False):
    """Further envelopes for a message that this device has written, for devices that lack theirs or cannot decrypt it.
    Answered by `Done`; doing it again changes nothing. The message itself stays as it is.

    :ivar revision: of the message, 0 if it was never edited; if it has another one, the error is `revision_conflict`.
    :ivar envelopes: as in `Send`; they take the place of those that these devices have.
    """

    TYPE: ClassVar = Type.ADD_ENVELOPES
    request: int
    conversation: bytes
    seq: int
    revision: int
    envelopes: list[Envelope]


class ReportUndecryptable(Struct, frozen=True, gc=False):
    """This device cannot decrypt a message: the device that wrote it is told, by `Undecryptable`. Answered by `Done`,
    after the commit; doing it again changes nothing.

    :ivar revision: of the message, 0 if it was never edited; if it has another one, the error is `revision_conflict`.
    :ivar reason: one of `undecryptable.REASONS`.
    """

    TYPE: ClassVar = Type.REPORT_UNDECRYPTABLE
    request: int
    conversation: bytes
    seq: int
    revision: int
    reason: str


class KeyStatus(Struct, frozen=True, gc=False):
    """Ask what the server holds of this device. Answered by `Keys`."""

    TYPE: ClassVar = Type.KEY_STATUS
    request: int


BatchedRequest: TypeAlias = Send | MarkDelivered | MarkRead
"""The requests that the server serves in batches, together with those of other connections (`SPEC.md`, 10.3)."""

TransferRequest: TypeAlias = Upload | Parts | Complete | Download | Abort
"""The requests about files in the object store (`SPEC.md`, section 18). They wait in a queue of their own, so that an
object store that is slow holds up no other requests."""

QueuedRequest: TypeAlias = (
    Edit
    | Delete
    | SetTyping
    | Watch
    | Sync
    | History
    | List
    | Refresh
    | Status
    | PutKeys
    | Devices
    | KeyStatus
    | AddEnvelopes
    | ReportUndecryptable
)
"""The requests that wait in a queue of the connection, and are served one after the other (`SPEC.md`, 10.3)."""

Request: TypeAlias = Hello | BatchedRequest | QueuedRequest | TransferRequest | Ping | Bye

REQUESTS: Final[tuple[type[Request], ...]] = tuple(sorted(get_args(Request), key=lambda struct: struct.TYPE))
"""All requests, by their types."""
