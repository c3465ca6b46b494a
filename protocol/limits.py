"""Every bound of the wire protocol: its unit, its purpose, its precedent. A limit that is not here does not exist."""

from __future__ import annotations

from typing import Final, NamedTuple

ID_BYTES: Final = 16
"""Users, devices, conversations, messages and `temp_id`s: the size of a UUID."""

MAX_CONTENT_BYTES: Final = 64 * 1024
"""Ciphertext of one message. Larger things are attachments. Signal's envelope limit is of the same order."""

MAX_ENVELOPES: Final = 256
MAX_ENVELOPE_BYTES: Final = 64 * 1024
MAX_ENVELOPES_BYTES: Final = 192 * 1024
"""Envelopes of a `send` or an `edit`, the bytes of one, and of all of them together: with a content of usual size they
fit into a WebSocket message. A ciphertext of Signal for a device has some 100 bytes beyond its content; a Welcome of
MLS has 15 KB with the tree of 50 devices."""

MAX_ENVELOPE_PARTS: Final = 100
"""Sends and edits with envelopes that one message has had, and whose envelopes are still kept. An edit drops those of
earlier ones that name no other device, so only a message that is edited for other devices each time comes near to it.
Protects the operator's storage."""

ENVELOPE_DAYS: Final = 30
"""Envelopes are deleted after this time: a device that was off for longer is a new one for its senders."""

MAX_CONTENT_TYPE_BYTES: Final = 64
"""A media type or a short name. RFC 6838 allows 127 bytes for each half; clients do not need them."""

MAX_NONCE_BYTES: Final = 64
"""XChaCha20-Poly1305 uses 24 bytes, AES-GCM 12; twice the largest in use and some room."""

MAX_PUBLIC_KEY_BYTES: Final = 2048
"""X25519 has 32 bytes; ML-KEM-1024, its post-quantum companion, 1,568."""

MAX_TOKEN_BYTES: Final = 256
"""Ours have 43 characters."""

MAX_MARKS: Final = 256
"""Up-to marks in one request: one for each conversation of a very busy catch-up."""

MAX_CLIENT_BYTES: Final = 64
"""Name and version of a client. Short, because it appears in logs and statistics; a browser's User-Agent has 110."""

MAX_ATTACHMENTS: Final = 10
"""Attachments of a message, and files of an `upload`: a row of photos. Telegram's albums have 10."""

ATTACHMENT_PART_BYTES: Final = 8 * 1024 * 1024
"""A larger file is uploaded in parts of this size, the last one shorter. S3 wants at least 5 MiB; at 1 MB/s an
interruption costs 8 s."""

MAX_ATTACHMENT_BYTES: Final = 2 * 1024**3
"""A file. The operator may set another number (MAX_ATTACHMENT_BYTES). WhatsApp and Telegram allow 2 GB."""

MAX_PARTS: Final = 2048
"""Parts of a file, whatever the operator sets: 16 GiB, whose digests take 64 KiB, as much as a content."""

MAX_ATTACHMENT_BYTES_PER_DAY: Final = 5 * 1024**3
MAX_ATTACHMENT_BYTES_PER_USER: Final = 10 * 1024**3
MAX_OPEN_UPLOADS: Final = 100
"""Bytes that a user may declare in a day (UTC), bytes that the messages and uploads of a user may occupy, and uploads
that no message has yet. The operator may set other numbers. Protects the operator's storage."""

MAX_AVATAR_BYTES: Final = 512 * 1024
"""An avatar, of one part. The operator may set another number (MAX_AVATAR_BYTES). A picture of 640 pixels has some 100
KiB; Signal allows 10 MiB, Matrix homeservers what they allow for files."""

UNATTACHED_HOURS: Final = 24
"""An upload that neither a message nor an avatar has taken after this time is given up."""

MAX_THUMBNAIL_BYTES: Final = 16 * 1024
"""A thumbnail in a message itself: a blurred preview of 64 pixels has 2 KiB, one of 200 pixels 10."""

MAX_THUMBNAIL_FILE_BYTES: Final = 512 * 1024
"""A thumbnail in the object store: it has one part."""

MAX_MEDIA_TYPE_BYTES: Final = 127
"""RFC 6838 allows 127 bytes for each half; the longest of IANA's list has 84 in all."""

DIGEST_BYTES: Final = 32
"""SHA-256."""

MAX_PART_REQUESTS: Final = 32
"""Presigned requests of one reply: 256 MiB of a file, at some 700 bytes each."""

MAX_URL_BYTES: Final = 1024
MAX_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 256
"""Bounds of a presigned request: a URL of S3 with its signature has some 500 bytes, and two headers belong to it."""

MAX_WANTED: Final = 100
MAX_PAGE_DOWNLOADS: Final = 40
"""Attachments of one `download`, and of one page of `history` with tickets: each may have a thumbnail, so there may be
twice as many tickets. With the page they fit into a WebSocket message."""

MAX_FEATURES: Final = 256
MAX_FEATURE_BYTES: Final = 32
MAX_LIMITS: Final = 256
"""Features and limits in a `welcome`: ten times as many as exist. Protects the client's memory."""

MAX_CURSOR_BYTES: Final = 1024
"""Ours have 40 to 100 bytes, and 8 more for each transaction that was under way in Postgres."""

MAX_COUNT: Final = 100
DEFAULT_COUNT: Final = 50
"""Messages or conversations of one page; the default fills a phone's screen three times."""

MAX_PAGE_BYTES: Final = 128 * 1024
"""Encoded entries of one page, nonces and keys included, unless a single entry is larger: half of a WebSocket
message."""

MAX_IDENTITY_BYTES: Final = 4096
"""The identity of a device. Olm's has 64 bytes, a credential of MLS with an X.509 chain some KiB."""

MAX_LISTED_USERS: Final = 100
MAX_LISTED_DEVICES: Final = 256
"""Users in a `devices` request, and devices in a reply: a group of 1,000 takes ten requests."""

MAX_ONE_TIME_KEY_BYTES: Final = 16 * 1024
"""A one-time key, or a last-resort key. X25519 has 32 bytes, ML-KEM-1024 with a signature 1.6 KB, a KeyPackage of MLS
300 bytes and more, with an X.509 chain some KiB."""

MAX_POOL_KEYS: Final = 200
"""One-time keys of a kind that the server keeps for a device, and keys of one upload. Signal's clients upload 100."""

MAX_KEY_KINDS: Final = 8
MAX_KEY_KIND_BYTES: Final = 32
"""Kinds of one-time keys of a device, for ever: two protocols, two versions of each, and as many again."""

MAX_KEY_HISTORY_BYTES: Final = 64
"""Ours has 8."""

MAX_GROUP_STATE_BYTES: Final = 1024 * 1024
"""The state of a group, with MLS a GroupInfo with its tree: 300 B for each device and as much for nodes above, so some
2,000 devices. A Welcome of 250 devices or more leaves the tree to it."""

MAX_REASON_BYTES: Final = 32
"""A name of why a message could not be decrypted."""

MAX_REPORTS: Final = 5
"""How often a device may report that it cannot decrypt a message: each time the sender's device encrypts again."""

MAX_OPEN_REPORTS: Final = 200
"""Messages that a device has reported and that are not healed: two pages of history. One lost session key takes many
messages with it, but heals all of them."""

REPORT_DAYS: Final = 14
"""A report is told for this time. A device that was off for longer would have lost keys that it needs to answer."""

MAX_TOLD_REPORTS: Final = 100
"""Reports that a device is told with its welcome, the latest ones."""

FEW_KEYS: Final = 20
"""With fewer one-time keys of a kind than this the device is told that it should upload more."""

CLAIMS_PER_HOUR: Final = 20
"""Claims by one user for one device. Each device of a user needs one to begin a session, and another one when it has
lost the session. Protects the pool of a device: beyond it there are last-resort keys."""

MAX_WATCHED: Final = 256
"""Users whose presence one connection wants to know: the contacts on a long screen, and the writers of an open
group."""

MAX_HEADS: Final = 256
"""Conversations that a `lag` names. It is a hint; `sync` brings the missed frames."""

MAX_PARTICIPANTS: Final = 1000
"""Participants of one conversation: one `conversation` frame can hold them, at about 80 bytes each."""

MAX_SHOWN: Final = 32
"""The most participants of whom each sees how far each other has read. With more there are counts, and a client asks
for details: else one message to 1,000 people is a million receipts. WhatsApp shows names up to about the same
number."""

MAX_USERNAME_CHARACTERS: Final = 32
MAX_USERNAME_BYTES: Final = 4 * MAX_USERNAME_CHARACTERS
"""A character of any script has at most 4 bytes."""

MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_CHARACTERS: Final = 256
"""NIST SP 800-63B requires at least 8, and that 64 are allowed. The upper bound limits the hashing that strangers
cause."""

MAX_PAGES: Final = 64
"""Pages of one `sync`: about 6 MiB. The connection's other look-ups wait for the last of them."""

COUNTED: Final = 50
"""The last messages of a conversation of more than `MAX_SHOWN`: a `sync` brings the counts of the user's own among
them. A client asks for the counts of earlier ones when its user wants to see them."""

MAX_TITLE_CHARACTERS: Final = 128
"""The longest title of a group; 512 bytes in any script."""
MAX_UNCOUNTED: Final = 256
"""Messages above a user's mark that do not count as unread, in one `conversation` frame. People delete a few messages
that they have just sent. If there are more, a device that does not hold the tombstones counts right from the next mark
on."""

MAX_FORMER: Final = 100
"""Stays that have ended, in one `conversation` frame: for them a client shows that users have left, and how far they
had come. For messages from before these stays, a client sends `status`."""

MAX_DISPLAY_NAME_CHARACTERS: Final = 128
MAX_DISPLAY_NAME_BYTES: Final = 4 * MAX_DISPLAY_NAME_CHARACTERS
"""A character of any script has at most 4 bytes."""

MAX_ZONE_BYTES: Final = 64
"""The name of a time zone; the longest in the IANA database has 30."""

CURSOR_DAYS: Final = 90
"""The server remembers edits and deletions for this time; a device that was off for longer fetches everything again."""

MAX_WEBSOCKET_MESSAGE_BYTES: Final = 256 * 1024
"""One WebSocket message, that is one CBOR sequence, in either direction: three of the largest sends. Protects the
server's memory while fragments are collected; a larger message is refused with close code 1009."""

MAX_FRAGMENTS: Final = 1024
"""WebSocket frames of one message. Protects the server's time: without a bound, a message of empty fragments never
ends. The longest message in 256-byte pieces fits."""

MAX_FRAMES: Final = 4096
"""Frames of one WebSocket message from a client: four times the requests that may be in flight. Protects the server's
time: a message full of the smallest frames would take a third of a second to refuse, these take 30 ms."""

MAX_FIELDS: Final = 23
"""Fields of a frame from a client, its type among them: the largest map whose head is one byte."""

MAX_SERVER_FIELDS: Final = 47
"""Fields of a frame from a server: twice as many. The largest frame, `conversation`, has 26."""

MAX_NESTING: Final = 4
"""Depth of containers in a frame from a client: map, `marks`, mark. Protects the decoder's stack."""

MAX_SERVER_NESTING: Final = 8
"""Depth of containers in a frame from a server: map, `conversations`, conversation, `participants`, participant, and
some room."""

MAX_REQUEST: Final = 2**32 - 1
"""Request numbers: a client that sends 1,000 a second may go on for 49 days before it starts again at 0."""

MAX_SEQ: Final = 2**63 - 1
"""Sequence numbers are Postgres bigints."""

MIN_LIFETIME_S: Final = 60
MAX_LIFETIME_S: Final = 3650 * 86_400
"""The lifetime of messages that users may set: messages of less than a minute would be gone before a phone has fetched
them, and more than ten years is for ever."""

TEMP_ID_DAYS: Final = 30
"""The server remembers a `temp_id` that holds a time for this time; a phone that was off for longer asks its user
again."""

MAX_IN_FLIGHT: Final = 1024
"""Requests of one connection that have no reply yet; the next is refused with `too_many_in_flight`."""

MAX_COST_PER_S: Final = 100_000
MAX_COST_AT_ONCE: Final = 400_000
"""Cost that a user may cause on one node, in the long run and after a rest. One unit is about a microsecond of the
node's processor, so one user may take a tenth of it: 1,000 requests a second, or 19 messages a second to 1,000
participants. A person needs two requests a second; a device that sends the messages of a ride through a tunnel needs a
burst. Beyond it the server answers `rate_limited`."""

COST_OF_REQUEST: Final = 100
"""Cost of a frame, whether the server serves it or answers it with an error."""

COST_OF_LOOK_UP: Final = 200
"""Further cost of a request that the server looks up by itself (`requests.QueuedRequest`), and of each page of a
`sync`."""

COST_OF_MARK: Final = 10
"""Further cost of each of the `marks` of a request."""

COST_OF_KEY: Final = 10
"""Further cost of each key that a request uploads or claims."""

COST_OF_ENVELOPE: Final = 10
"""Further cost of each of the `envelopes` of a request."""

COST_OF_PUSH: Final = 5
"""Further cost of a request for each user to whom it causes a push."""

COST_OF_CONNECTION: Final = 5_000
"""Cost of a `hello`: the handshakes, the look-ups of the token and of the place among the nodes."""

COST_OF_REFUSAL: Final = 20
"""Cost of a frame that is answered with `rate_limited`, and of a ping or pong of WebSocket."""

BYTES_PER_COST: Final = 16
"""Received bytes for one unit: a content of 64 KiB costs as much as 40 requests. At that rate a user fills 1.6 MB of
Postgres a second at most."""

READ_BYTES_PER_COST: Final = 32
"""Bytes of answers to look-ups for one unit: 3 MB of pages a second at most."""

PUSHED_BYTES_PER_COST: Final = 256
"""Bytes of pushes, times the users that they go to, for one unit: a node sends 25 MB a second for one user at most."""

MAX_BAD_FRAMES: Final = 128
BAD_FRAMES_PER_S: Final = 1
"""Frames of a user that are unknown, invalid or unexpected: so many at once after a rest, and so many a second. Each is
answered with an error; one more closes the connection. A client that speaks to an older server meets a few."""

MAX_USER_CONNECTIONS: Final = 32
"""Connections of one user to one node. People have five devices; an old connection of each may linger for a minute."""

MAX_ADDRESS_CONNECTIONS: Final = 1000
"""Connections from one address (or one /64 of IPv6) to one node: an office or a mobile carrier behind one address. The
operator may set another number (MAX_ADDRESS_CONNECTIONS)."""

KEEP_ALIVE_S: Final = 30.0
"""The silence after which the server pings; it closes the connection after the same time again without a byte. Mobile
networks forget idle connections after one to five minutes."""

TYPING_S: Final = 6.0
"""The time after which a user no longer counts as typing, unless the device says so again. Signal takes 15, Matrix
30."""

TYPING_INTERVAL_S: Final = 2.0
"""The shortest time between two `typing` of one device; the server answers one that comes sooner, and does not pass it
on."""

HELLO_TIMEOUT_S: Final = 10.0
"""From accepting the TCP connection to a complete `hello`; a phone on a bad 2G link needs about three."""

PROTOCOL_VERSION: Final = 1
OLDEST_VERSION: Final = 1
"""The greatest and the least version that this code speaks. A connection uses the greatest that both sides speak."""

SUBPROTOCOL: Final = "alo.v1"
"""Sec-WebSocket-Protocol. A server that does not select it does not speak this protocol."""

SOCKET_PATH: Final = "/v1/socket"


class Limit(NamedTuple):
    """A limit; the server tells a peer its name when the peer meets it.

    :ivar name: on the wire.
    :ivar value: the most that it allows.
    :ivar shown: the value with its unit, for people.
    :ivar outcome: the consequence of more.
    """

    name: str
    value: int
    shown: str
    outcome: str


REQUESTS_IN_FLIGHT: Final = Limit(
    "requests_in_flight", MAX_IN_FLIGHT, f"{MAX_IN_FLIGHT} without a reply", "error `too_many_in_flight`"
)
COST_PER_USER: Final = Limit(
    "cost_per_user",
    MAX_COST_PER_S,
    f"{MAX_COST_PER_S} a second, {MAX_COST_AT_ONCE} at once (11.3)",
    "error `rate_limited`; for a `hello` close 4003",
)
BAD_FRAMES: Final = Limit(
    "bad_frames",
    MAX_BAD_FRAMES,
    f"{MAX_BAD_FRAMES} unknown, invalid or unexpected frames of a user at once, {BAD_FRAMES_PER_S} a second",
    "close 4507",
)
CONNECTIONS_PER_USER: Final = Limit(
    "connections_per_user", MAX_USER_CONNECTIONS, f"{MAX_USER_CONNECTIONS} to a node", "close 4003"
)
CONNECTIONS_PER_ADDRESS: Final = Limit(
    "connections_per_address",
    MAX_ADDRESS_CONNECTIONS,
    f"{MAX_ADDRESS_CONNECTIONS} to a node, unless its operator has set another number; IPv6 is counted by /64",
    "HTTP 429",
)
MESSAGE_BYTES: Final = Limit(
    "message_bytes",
    MAX_WEBSOCKET_MESSAGE_BYTES,
    f"{MAX_WEBSOCKET_MESSAGE_BYTES} bytes of a WebSocket message",
    "close 1009",
)
MESSAGE_FRAGMENTS: Final = Limit(
    "message_fragments", MAX_FRAGMENTS, f"{MAX_FRAGMENTS} WebSocket frames of a message", "close 1009"
)
MESSAGE_FRAMES: Final = Limit("message_frames", MAX_FRAMES, f"{MAX_FRAMES} frames of a WebSocket message", "close 4500")
FRAME_FIELDS: Final = Limit("frame_fields", MAX_FIELDS, f"{MAX_FIELDS} fields of a frame", "close 4500")
FRAME_NESTING: Final = Limit("frame_nesting", MAX_NESTING, f"{MAX_NESTING} levels of maps and arrays", "close 4500")
HELLO_SECONDS: Final = Limit(
    "hello_seconds", int(HELLO_TIMEOUT_S), f"{HELLO_TIMEOUT_S:g} s from accepting to a complete hello", "close 4000"
)
ATTACHMENT_BYTES: Final = Limit(
    "attachment_bytes",
    MAX_ATTACHMENT_BYTES,
    f"{MAX_ATTACHMENT_BYTES} bytes of a file, unless the operator has set another number",
    "error `quota_exceeded`",
)
ATTACHMENT_BYTES_PER_DAY: Final = Limit(
    "attachment_bytes_per_day",
    MAX_ATTACHMENT_BYTES_PER_DAY,
    f"{MAX_ATTACHMENT_BYTES_PER_DAY} bytes that a user declares in a day (UTC), unless the operator has set another"
    " number",
    "error `quota_exceeded`",
)
ATTACHMENT_BYTES_PER_USER: Final = Limit(
    "attachment_bytes_per_user",
    MAX_ATTACHMENT_BYTES_PER_USER,
    f"{MAX_ATTACHMENT_BYTES_PER_USER} bytes of a user's uploads and attachments, unless the operator has set another"
    " number",
    "error `quota_exceeded`",
)
AVATAR_BYTES: Final = Limit(
    "avatar_bytes",
    MAX_AVATAR_BYTES,
    f"{MAX_AVATAR_BYTES} bytes of an avatar, unless the operator has set another number",
    "error `quota_exceeded`",
)
KEY_KINDS_PER_DEVICE: Final = Limit(
    "key_kinds_per_device",
    MAX_KEY_KINDS,
    f"{MAX_KEY_KINDS} kinds of keys that a device has ever uploaded",
    "error `quota_exceeded`",
)
ENVELOPE_PARTS_PER_MESSAGE: Final = Limit(
    "envelope_parts_per_message",
    MAX_ENVELOPE_PARTS,
    f"{MAX_ENVELOPE_PARTS} edits whose envelopes are kept, for devices that later ones do not name",
    "error `quota_exceeded`",
)
REPORTS_PER_MESSAGE: Final = Limit(
    "reports_per_message",
    MAX_REPORTS,
    f"{MAX_REPORTS} reports of a device that it cannot decrypt a message, each after the one before was answered",
    "error `quota_exceeded`",
)
OPEN_REPORTS_PER_DEVICE: Final = Limit(
    "open_reports_per_device",
    MAX_OPEN_REPORTS,
    f"{MAX_OPEN_REPORTS} messages that a device has reported and that are not healed",
    "error `quota_exceeded`",
)
OPEN_UPLOADS_PER_USER: Final = Limit(
    "open_uploads_per_user",
    MAX_OPEN_UPLOADS,
    f"{MAX_OPEN_UPLOADS} uploads that no message has, unless the operator has set another number",
    "error `quota_exceeded`",
)
SILENT_SECONDS: Final = Limit(
    "silent_seconds", int(2 * KEEP_ALIVE_S), f"{2 * KEEP_ALIVE_S:g} s without a byte, a ping between them", "close 4004"
)

NAMED: Final = (
    REQUESTS_IN_FLIGHT,
    COST_PER_USER,
    BAD_FRAMES,
    CONNECTIONS_PER_USER,
    CONNECTIONS_PER_ADDRESS,
    MESSAGE_BYTES,
    MESSAGE_FRAGMENTS,
    MESSAGE_FRAMES,
    FRAME_FIELDS,
    FRAME_NESTING,
    HELLO_SECONDS,
    SILENT_SECONDS,
    ATTACHMENT_BYTES,
    ATTACHMENT_BYTES_PER_DAY,
    ATTACHMENT_BYTES_PER_USER,
    AVATAR_BYTES,
    KEY_KINDS_PER_DEVICE,
    ENVELOPE_PARTS_PER_MESSAGE,
    REPORTS_PER_MESSAGE,
    OPEN_REPORTS_PER_DEVICE,
    OPEN_UPLOADS_PER_USER,
)


class Size(NamedTuple):
    """A bound of a field, of a list or of a time; a `welcome` has it beside the limits of `NAMED`.

    :ivar name: on the wire.
    :ivar value: the most that it allows.
    :ivar of: the things that it counts, for people.
    """

    name: str
    value: int
    of: str


SIZES: Final = (
    Size("attachment_part_bytes", ATTACHMENT_PART_BYTES, "bytes of each part of a file but the last (18.2)"),
    Size("attachments_per_download", MAX_WANTED, "elements of `wanted`"),
    Size("attachments_per_message", MAX_ATTACHMENTS, "elements of `attachments` and `files`"),
    Size("bad_frames_per_second", BAD_FRAMES_PER_S, "unknown, invalid or unexpected frames a second in the long run"),
    Size("client_bytes", MAX_CLIENT_BYTES, "bytes of `client`"),
    Size("content_bytes", MAX_CONTENT_BYTES, "bytes of `content`"),
    Size("content_type_bytes", MAX_CONTENT_TYPE_BYTES, "bytes of `content_type`"),
    Size("cost_at_once_per_user", MAX_COST_AT_ONCE, "cost that a user may cause after a rest (11.3)"),
    Size("cursor_days", CURSOR_DAYS, "days that a cursor is good (6.4)"),
    Size("display_name_bytes", MAX_DISPLAY_NAME_BYTES, "bytes of `display_name`"),
    Size("envelope_bytes", MAX_ENVELOPE_BYTES, "bytes of an envelope"),
    Size("envelope_days", ENVELOPE_DAYS, "days that envelopes are kept (19.14)"),
    Size("envelopes_bytes", MAX_ENVELOPES_BYTES, "bytes of all `envelopes` of a frame together (19.12)"),
    Size("envelopes_per_message", MAX_ENVELOPES, "elements of `envelopes`"),
    Size("ephemeral_public_key_bytes", MAX_PUBLIC_KEY_BYTES, "bytes of `ephemeral_public_key`"),
    Size("group_state_bytes", MAX_GROUP_STATE_BYTES, "bytes of the state of a group (19.16)"),
    Size("identity_bytes", MAX_IDENTITY_BYTES, "bytes of `identity`"),
    Size("key_claims_per_hour", CLAIMS_PER_HOUR, "claims of a user for a device in an hour (19.6)"),
    Size("marks_per_request", MAX_MARKS, "elements of `marks`"),
    Size("nonce_bytes", MAX_NONCE_BYTES, "bytes of `nonce`"),
    Size("one_time_key_bytes", MAX_ONE_TIME_KEY_BYTES, "bytes of a one-time key or a last-resort key"),
    Size("one_time_keys", MAX_POOL_KEYS, "one-time keys of a kind of a device, and elements of `one_time_keys`"),
    Size("page_bytes", MAX_PAGE_BYTES, "bytes of a page of `history` or `list` (7.1)"),
    Size("page_entries", MAX_COUNT, "messages or conversations of a page: `count`"),
    Size("participants", MAX_PARTICIPANTS, "participants of a conversation"),
    Size("receipts_participants", MAX_SHOWN, "participants up to whom receipts are told one by one (5.8)"),
    Size("report_days", REPORT_DAYS, "days that an `undecryptable` is told (19.18)"),
    Size("temp_id_days", TEMP_ID_DAYS, "days that a `temp_id` that holds a time is remembered (4.2)"),
    Size("thumbnail_bytes", MAX_THUMBNAIL_BYTES, "bytes of `thumbnail`"),
    Size("thumbnail_file_bytes", MAX_THUMBNAIL_FILE_BYTES, "bytes of a thumbnail in the object store (18.3)"),
    Size("unattached_hours", UNATTACHED_HOURS, "hours after which an upload that nothing has taken is given up (18.7)"),
    Size("users_per_devices", MAX_LISTED_USERS, "users in a `devices` (19.3)"),
    Size("users_per_watch", MAX_WATCHED, "users in a `watch`"),
)


def told(**instead: int) -> list[tuple[str, int]]:
    """All of `NAMED` and `SIZES`, sorted by name as in a `welcome`.

    :param instead: other values for some of them, by name.
    """
    return sorted({**{limit.name: limit.value for limit in (*NAMED, *SIZES)}, **instead}.items())
