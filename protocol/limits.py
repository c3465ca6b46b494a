"""Every bound of the wire protocol: unit, what it protects, precedent. A limit that is not here does not exist."""

from __future__ import annotations

from typing import Final, NamedTuple

ID_BYTES: Final = 16
"""Users, devices, conversations, messages and `temp_id`s: the size of a UUID."""

MAX_CONTENT_BYTES: Final = 64 * 1024
"""Ciphertext of one message. Larger things are attachments. Signal's envelope limit is of the same order."""

MAX_CONTENT_TYPE_BYTES: Final = 64
"""A media type or a short name; RFC 6838 allows 127 per half and nobody uses it."""

MAX_NONCE_BYTES: Final = 64
"""XChaCha20-Poly1305 uses 24 bytes, AES-GCM 12; twice the largest in use and some room."""

MAX_PUBLIC_KEY_BYTES: Final = 2048
"""X25519 has 32 bytes; ML-KEM-1024, its post-quantum companion, 1,568."""

MAX_TOKEN_BYTES: Final = 256
"""Ours have 43 characters."""

MAX_MARKS: Final = 256
"""Up-to marks in one request: one for each conversation of a very busy catch-up."""

MAX_CLIENT_BYTES: Final = 64
"""Name and version of a client. It comes into logs and figures, so it is kept short; a browser's User-Agent has 110."""

MAX_FEATURES: Final = 256
MAX_FEATURE_BYTES: Final = 32
MAX_LIMITS: Final = 256
"""What a `welcome` may tell of a server: ten times what there is. Protects the client's memory."""

MAX_CURSOR_BYTES: Final = 1024
"""Ours have 40 to 100 bytes, and 8 more for each transaction that was under way in Postgres."""

MAX_COUNT: Final = 100
DEFAULT_COUNT: Final = 50
"""Messages or conversations of one page; twice what fits on a phone's screen three times over."""

MAX_PAGE_BYTES: Final = 128 * 1024
"""Entries of one page as they are encoded, nonces and keys included, unless a single one is larger: half of what a
WebSocket message may hold."""

MAX_WATCHED: Final = 256
"""Users whose presence one connection wants to know: the contacts on a long screen, and who writes in an open group."""

MAX_HEADS: Final = 256
"""Conversations that a `lag` names. It is a hint; what was missed is found out by `sync`."""

MAX_PARTICIPANTS: Final = 1000
"""Of one conversation: what one `conversation` frame can hold, at about 80 bytes each."""

MAX_SHOWN: Final = 32
"""Participants of a conversation of whom everybody sees how far each has read. With more there are counts, and who
wants to know more asks: else one message to 1,000 people is a million receipts. WhatsApp shows names up to about as
many."""

MAX_USERNAME_BYTES: Final = 32
USERNAME_PATTERN: Final = "^[a-z0-9][a-z0-9_.-]{0,31}\\Z"
r"""Small letters, digits and three signs: no two names look alike. \Z: Python's $ also matches before a line feed at
the end, Postgres' does not."""

MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_CHARACTERS: Final = 256
"""NIST SP 800-63B asks for at least 8, and for 64 to be allowed; to hash longer ones would be work for strangers."""

MAX_PAGES: Final = 64
"""Of what is new, for one `sync`: about 6 MiB. The connection's other look-ups wait for the last of them."""

COUNTED: Final = 50
"""The last messages of a conversation of more than `MAX_SHOWN`: a `sync` counts how far those of them have come that
are the user's own. Of earlier ones a client asks when somebody wants to know."""

MAX_TITLE_CHARACTERS: Final = 128
"""The longest title of a group; 512 bytes in any script."""
MAX_UNCOUNTED: Final = 256
"""Messages above a user's mark that do not count as unread, in one `conversation` frame. People delete a few of what
they have just sent; of more, a device that does not hold the tombstones counts right from the next mark on."""

MAX_FORMER: Final = 100
"""Stays that have ended, in one `conversation` frame: what a client shows of those who have left, and of how far they
had come. Of messages from before those, `status` asks."""

MAX_DISPLAY_NAME_BYTES: Final = 512
"""128 characters of any script."""

MAX_ZONE_BYTES: Final = 64
"""Of the name of a time zone; the longest of the IANA database has 30."""

CURSOR_DAYS: Final = 90
"""For so long edits and deletions are remembered apart; a device that was off for longer fetches afresh."""

MAX_WEBSOCKET_MESSAGE_BYTES: Final = 256 * 1024
"""One WebSocket message, that is one CBOR sequence, in either direction: three of the largest sends. Protects the
server's memory while fragments are collected; a larger message is refused with close code 1009."""

MAX_FRAGMENTS: Final = 1024
"""WebSocket frames of one message. Protects the server's time: without a bound, a message of empty fragments never
ends. One that is cut into 256-byte pieces fits."""

MAX_FRAMES: Final = 4096
"""Frames of one WebSocket message from a client: four times what it may have in flight. Protects the server's time: a
message full of the smallest frames would take a third of a second to refuse, these take 30 ms."""

MAX_FIELDS: Final = 23
"""Fields of a frame, its type among them: the largest map whose head is one byte. The largest frame has 13."""

MAX_NESTING: Final = 4
"""Depth of containers in a frame from a client: map, `marks`, mark. Protects the decoder's stack."""

MAX_SERVER_NESTING: Final = 8
"""The same in a frame from a server: map, `conversations`, conversation, `participants`, participant, and some room."""

MAX_REQUEST: Final = 2**32 - 1
"""Request numbers: a client that sends 1,000 a second may go on for 49 days before it starts again at 0."""

MAX_SEQ: Final = 2**63 - 1
"""Sequence numbers are Postgres bigints."""

MIN_LIFETIME_S: Final = 60
MAX_LIFETIME_S: Final = 3650 * 86_400
"""For how long messages of a conversation may be made to live: less than a minute would be gone before a phone has
fetched them, more than ten years is for ever."""

TEMP_ID_DAYS: Final = 30
"""For so long a `temp_id` that holds a time is remembered; a phone that was off for longer asks the user again."""

MAX_IN_FLIGHT: Final = 1024
"""Requests of one connection that have no reply yet; the next is refused with `too_many_in_flight`."""

MAX_REQUESTS_PER_S: Final = 500
MAX_REQUESTS_AT_ONCE: Final = 2048
"""Of one connection in the long run, and after a rest: twice what may be in flight. A person needs two a second; a
device that sends what it wrote in a tunnel needs a burst. Beyond it requests are refused with `rate_limited`."""

MAX_USER_REQUESTS_PER_S: Final = 1000
MAX_USER_REQUESTS_AT_ONCE: Final = 4096
"""The same of all connections that a user has to one node: two devices as busy as can be."""

MAX_USER_CONNECTIONS: Final = 32
"""Of one user to one node. People have five devices; an old connection of each may linger for a minute."""

MAX_ADDRESS_CONNECTIONS: Final = 1000
"""From one address (or one /64 of IPv6) to one node: an office or a mobile carrier behind one address. The operator may
set another (MAX_ADDRESS_CONNECTIONS)."""

KEEP_ALIVE_S: Final = 30.0
"""Of silence after which the server pings; after as long again without a byte the connection is closed. Mobile networks
forget idle connections after one to five minutes."""

TYPING_S: Final = 6.0
"""After which somebody who types counts as having stopped, unless it is said again. Signal takes 15, Matrix 30."""

TYPING_INTERVAL_S: Final = 2.0
"""A device says at most so often that its user types; what comes sooner is answered, and not passed on."""

HELLO_TIMEOUT_S: Final = 10.0
"""From accepting the TCP connection to a complete `hello`; a phone on a bad 2G link needs about three."""

PROTOCOL_VERSION: Final = 1
OLDEST_VERSION: Final = 1
"""The greatest and the least version that this code speaks. A connection uses the greatest that both sides speak."""

SUBPROTOCOL: Final = "alo.v1"
"""Sec-WebSocket-Protocol. A server that does not select it does not speak this protocol."""

SOCKET_PATH: Final = "/v1/socket"


class Limit(NamedTuple):
    """A limit that a peer is told by name when it meets it.

    :ivar name: what goes over the wire.
    :ivar value: what it allows.
    :ivar shown: the same with its unit, for people.
    :ivar outcome: what happens beyond it.
    """

    name: str
    value: int
    shown: str
    outcome: str


REQUESTS_IN_FLIGHT: Final = Limit(
    "requests_in_flight", MAX_IN_FLIGHT, f"{MAX_IN_FLIGHT} without a reply", "error `too_many_in_flight`"
)
REQUESTS_PER_CONNECTION: Final = Limit(
    "requests_per_connection",
    MAX_REQUESTS_PER_S,
    f"{MAX_REQUESTS_PER_S} a second, {MAX_REQUESTS_AT_ONCE} at once",
    "error `rate_limited`",
)
REQUESTS_PER_USER: Final = Limit(
    "requests_per_user",
    MAX_USER_REQUESTS_PER_S,
    f"{MAX_USER_REQUESTS_PER_S} a second, {MAX_USER_REQUESTS_AT_ONCE} at once, all connections to a node together",
    "error `rate_limited`",
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
SILENT_SECONDS: Final = Limit(
    "silent_seconds", int(2 * KEEP_ALIVE_S), f"{2 * KEEP_ALIVE_S:g} s without a byte, a ping between them", "close 4004"
)

NAMED: Final = (
    REQUESTS_IN_FLIGHT,
    REQUESTS_PER_CONNECTION,
    REQUESTS_PER_USER,
    CONNECTIONS_PER_USER,
    CONNECTIONS_PER_ADDRESS,
    MESSAGE_BYTES,
    MESSAGE_FRAGMENTS,
    MESSAGE_FRAMES,
    FRAME_FIELDS,
    FRAME_NESTING,
    HELLO_SECONDS,
    SILENT_SECONDS,
)


class Size(NamedTuple):
    """A bound of a field, of a list or of a time, that a client is told beside the limits of `NAMED`.

    :ivar name: what goes over the wire.
    :ivar value: what it allows.
    :ivar of: what is counted, for people.
    """

    name: str
    value: int
    of: str


SIZES: Final = (
    Size("client_bytes", MAX_CLIENT_BYTES, "bytes of `client`"),
    Size("content_bytes", MAX_CONTENT_BYTES, "bytes of `content`"),
    Size("content_type_bytes", MAX_CONTENT_TYPE_BYTES, "bytes of `content_type`"),
    Size("cursor_days", CURSOR_DAYS, "days for which a cursor is good (6.4)"),
    Size("display_name_bytes", MAX_DISPLAY_NAME_BYTES, "bytes of `display_name`"),
    Size("ephemeral_public_key_bytes", MAX_PUBLIC_KEY_BYTES, "bytes of `ephemeral_public_key`"),
    Size("marks_per_request", MAX_MARKS, "elements of `marks`"),
    Size("nonce_bytes", MAX_NONCE_BYTES, "bytes of `nonce`"),
    Size("page_bytes", MAX_PAGE_BYTES, "bytes of a page of `history` or `list` (7.1)"),
    Size("page_entries", MAX_COUNT, "messages or conversations of a page: `count`"),
    Size("participants", MAX_PARTICIPANTS, "participants of a conversation"),
    Size("receipts_participants", MAX_SHOWN, "participants up to whom receipts are told one by one (5.8)"),
    Size("requests_at_once_per_connection", MAX_REQUESTS_AT_ONCE, "requests of a connection after a rest"),
    Size("requests_at_once_per_user", MAX_USER_REQUESTS_AT_ONCE, "requests of a user after a rest"),
    Size("temp_id_days", TEMP_ID_DAYS, "days for which a `temp_id` that holds a time is remembered (4.2)"),
    Size("users_per_watch", MAX_WATCHED, "users in a `watch`"),
)


def told(**instead: int) -> list[tuple[str, int]]:
    """All of `NAMED` and `SIZES`, as a `welcome` has them: sorted by name.

    :param instead: other values of some of them, by name.
    """
    return sorted({**{limit.name: limit.value for limit in (*NAMED, *SIZES)}, **instead}.items())
