"""Every bound of the wire protocol: unit, what it protects, precedent. A limit that is not here does not exist."""

from __future__ import annotations

from typing import Final

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
"""Fields of a frame, its type among them: the largest map whose head is one byte. The largest frame has 10."""

MAX_NESTING: Final = 4
"""Depth of containers in a frame: map, `marks`, mark. Protects the decoder's stack."""

MAX_REQUEST: Final = 2**32 - 1
"""Request numbers: a client that sends 1,000 a second may go on for 49 days before it starts again at 0."""

MAX_SEQ: Final = 2**63 - 1
"""Sequence numbers are Postgres bigints."""

MAX_IN_FLIGHT: Final = 1024
"""Requests of one connection that have no reply yet; the next is refused with `too_many_in_flight`."""

HELLO_TIMEOUT_S: Final = 10.0
"""From accepting the TCP connection to a complete `hello`; a phone on a bad 2G link needs about three."""

PROTOCOL_VERSION: Final = 1
SUBPROTOCOL: Final = "alo.v1"
"""Sec-WebSocket-Protocol. A server that does not select it does not speak this protocol."""

SOCKET_PATH: Final = "/v1/socket"
