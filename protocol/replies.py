"""Replies, from server to client: one struct for each."""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias, get_args

from msgspec import Struct

from protocol.numbers import Type
from protocol.pushes import Conversation, Message, Tombstone
from protocol.requests import OneTimeKey

PartRequest: TypeAlias = tuple[int, str, list[tuple[str, str]]]
"""A presigned PUT of a part: the part's number, from 1; the URL; the headers that belong to it, in lower case."""


KeyPool: TypeAlias = tuple[str, int, int, int, bytes, int, bool]
"""The keys of a kind that the server holds of a device: the kind; how many one-time keys are left; the first number of
these, 0 if there is none; the greatest number that was ever stored; a digest of the keys (SPEC 19.7); the number of the
last-resort key, 0 if there is none; whether that was handed out."""


class Ticket(Struct, frozen=True):
    """The permission to upload a file. Part of `Tickets`, no frame by itself.

    :ivar expires: until when the requests are good, in microseconds since 1970.
    :ivar attachment: the id of the upload, and of the attachment that it becomes.
    :ivar thumbnail_of: the attachment whose thumbnail this is; None: it is none.
    :ivar part_requests: of its first parts.
    """

    expires: int
    attachment: bytes
    thumbnail_of: bytes | None
    part_requests: list[PartRequest]


class DownloadTicket(Struct, frozen=True, gc=False):
    """The permission to download a file. Part of `Downloads` and `Messages`, no frame by itself.

    :ivar expires: until when the URL is good, in microseconds since 1970.
    :ivar thumbnail_of: as in `Ticket`.
    :ivar size_bytes: of the ciphertext.
    :ivar media_type: as the sender declared it.
    :ivar digest: SHA-256 of a file of one part; of a larger one, SHA-256 of the joined SHA-256 of its parts. None: not
        known, since the file comes from a service that kept none.
    """

    expires: int
    attachment: bytes
    thumbnail_of: bytes | None
    size_bytes: int
    media_type: str
    digest: bytes | None
    url: str


class ListedDevice(Struct, frozen=True, gc=False):
    """A device for which others can encrypt. Part of `DeviceList`, no frame by itself.

    :ivar identity: its public, long-lived bytes.
    :ivar identity_revision: grows with each change of the identity, from 1.
    :ivar one_time_keys: (kind, number, key) that were claimed by the request; None: none.
    :ivar last_resort_keys: the same, of kinds without a one-time key for this claim.
    """

    user: bytes
    device: bytes
    identity: bytes
    identity_revision: int
    one_time_keys: list[OneTimeKey] | None = None
    last_resort_keys: list[OneTimeKey] | None = None


class Error(Struct, frozen=True, gc=False):
    """The reply to a request that was refused.

    :ivar code: a value of `codes.ErrorCode`; one that a client does not know counts as not to be retried.
    :ivar detail: one English sentence for a developer; not for the user, not for parsing.
    :ivar retry_after_ms: present if and only if the client may retry the same request, after that number of ms.
    :ivar more: of `devices`: those users have further devices, with greater ids; None for false.
    :ivar limit: the name of the limit that was met, if it was one; `limit_value` is its value.
    :ivar devices_version: of `devices_changed`: the present version.
    :ivar control_seq: of `control_conflict`: the last control message.
    :ivar devices: of `devices_changed`, if the client has asked for it: the devices of the changed users.
    :ivar changed_users: of `devices_changed`: the users whose devices have changed since the version that the client
        gave. Some may have left, and some may have no device now.
    :ivar unknown_devices: of the error of that name: those among the devices of the envelopes that are not of the
        conversation's device set.
    """

    TYPE: ClassVar = Type.ERROR
    request: int
    code: str
    detail: str
    retry_after_ms: int | None = None
    more: bool | None = None
    limit: str | None = None
    limit_value: int | None = None
    devices_version: int | None = None
    control_seq: int | None = None
    devices: list[ListedDevice] | None = None
    changed_users: list[bytes] | None = None
    unknown_devices: list[bytes] | None = None


class Welcome(Struct, frozen=True, gc=False):
    """The reply to `Hello`. From here on pushes may come. Times are in microseconds, by the server's clock.

    :ivar created: now.
    :ivar expires: until when the token is good.
    :ivar version: of the protocol, for this connection: the greatest that both sides speak.
    :ivar keep_alive_ms: the silence after which the server pings; after twice as long it ends the connection.
    :ivar features: the names of `protocol.features` that this server supports, sorted; None if it is older than these.
    :ivar limits: pairs (name, value) of its limits, sorted.
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
    :ivar device: another device of the user, which had sent the message before; None: this one.
    :ivar quiet_count: how many of the conversation's messages up to this one are quiet; None for 0.
    """

    TYPE: ClassVar = Type.SENT
    request: int
    seq: int
    message: bytes
    created: int
    device: bytes | None = None
    quiet_count: int | None = None


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

    :ivar more: there is more to come already; ask again with this cursor.
    """

    TYPE: ClassVar = Type.SYNCED
    request: int
    cursor: bytes
    more: bool


class Messages(Struct, frozen=True):
    """The reply to `History`.

    :ivar more: there are more messages in the same direction.
    :ivar first_seq: the first seq of the conversation that this user may read.
    :ivar downloads: the tickets of the first `limits.MAX_PAGE_DOWNLOADS` attachments of the page, if asked for.
    """

    TYPE: ClassVar = Type.MESSAGES
    request: int
    more: bool
    messages: list[Message | Tombstone]
    first_seq: int | None = None
    downloads: list[DownloadTicket] | None = None


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
    """The reply to `Refresh`. The former token stays good for a while, in case this reply is lost.

    :ivar expires: until when the new token is good, in microseconds since 1970.
    """

    TYPE: ClassVar = Type.REFRESHED
    request: int
    token: str
    expires: int


class Statuses(Struct, frozen=True):
    """The reply to `Status`.

    :ivar receipts: (user, delivered_seq, read_seq) of each recipient of the message.
    """

    TYPE: ClassVar = Type.STATUSES
    request: int
    receipts: list[tuple[bytes, int, int]]


class Tickets(Struct, frozen=True):
    """The reply to `Upload`.

    :ivar tickets: in the order of the files; that of a thumbnail comes right after that of its file.
    """

    TYPE: ClassVar = Type.TICKETS
    request: int
    tickets: list[Ticket]


class PartRequests(Struct, frozen=True):
    """The reply to `Parts`.

    :ivar more: other parts, with greater numbers, are missing, too.
    :ivar expires: until when the requests are good, in microseconds since 1970.
    :ivar part_requests: (part, URL, headers) of the first parts that are missing, in the order of their numbers.
    :ivar stored_parts: the number of parts that the object store has.
    """

    TYPE: ClassVar = Type.PART_REQUESTS
    request: int
    more: bool
    expires: int
    part_requests: list[PartRequest]
    stored_parts: int


class Downloads(Struct, frozen=True):
    """The reply to `Download`.

    :ivar downloads: of those attachments that the user may read, each followed by that of its thumbnail.
    """

    TYPE: ClassVar = Type.DOWNLOADS
    request: int
    downloads: list[DownloadTicket]


class HeldKeys(Struct, frozen=True, gc=False):
    """The reply to `PutKeys` and `KeyStatus`: what the server holds of this device.

    :ivar identity: None: the device has published none.
    :ivar identity_revision: how often it has published another identity; 0 if never.
    :ivar key_history: changes when the server's database may have forgotten which keys it has handed out.
    :ivar pools: in the order of their kinds.
    """

    TYPE: ClassVar = Type.KEYS
    request: int
    identity: bytes | None
    identity_revision: int
    key_history: bytes
    pools: list[KeyPool]


class DeviceList(Struct, frozen=True):
    """The reply to `Devices`.

    :ivar more: there are more devices, with greater ids than the last one here.
    :ivar devices: in the order of their ids.
    """

    TYPE: ClassVar = Type.DEVICE_LIST
    request: int
    more: bool
    devices: list[ListedDevice]


Reply: TypeAlias = (
    Error
    | Welcome
    | Sent
    | Done
    | Revised
    | Synced
    | Messages
    | Conversations
    | Pong
    | Refreshed
    | Statuses
    | Tickets
    | PartRequests
    | Downloads
    | HeldKeys
    | DeviceList
)
REPLIES: Final[tuple[type[Reply], ...]] = get_args(Reply)
