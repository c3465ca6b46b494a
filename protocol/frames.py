"""What can be said on the wire: one struct for each frame.

A frame is a CBOR map with small integer keys. A key means the same thing in every frame (`Key`), so a field is
named once. Keys 0 to 23 take one byte; fields are declared in ascending order of their keys, which makes what we
emit deterministic (RFC 8949, section 4.2.1) without sorting. Receivers ignore keys that they do not know.

Frame types (`Type`) come in three kinds: requests (1 to 63: client to server, each answered by exactly one reply
with the same request number), replies (64 to 127), pushes (128 to 255, server to client, unasked).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

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


class Type(IntEnum):
    """The value of key 0."""

    HELLO = 1
    SEND = 2
    MARK_DELIVERED = 3
    MARK_READ = 4
    PING = 13
    BYE = 14
    ERROR = 64
    WELCOME = 65
    SENT = 66
    DONE = 67
    PONG = 72
    MESSAGE = 128


class Hello(Struct, frozen=True, gc=False):
    """First frame of a connection: who is there. Answered by `Welcome`, or by a close code."""

    TYPE: ClassVar = Type.HELLO
    request: int
    token: str
    version: int


class Send(Struct, frozen=True, gc=False):
    """A message for a conversation. Answered by `Sent` once it is committed; idempotent on (user, `temp_id`)."""

    TYPE: ClassVar = Type.SEND
    request: int
    conversation: bytes
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    temp_id: bytes


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


class Ping(Struct, frozen=True, gc=False):
    """Are you there, and what time is it? Answered by `Pong`, at once."""

    TYPE: ClassVar = Type.PING
    request: int


class Bye(Struct, frozen=True, gc=False):
    """The client leaves. Answered by `Done` after all other replies; then the server closes with 1000."""

    TYPE: ClassVar = Type.BYE
    request: int


class Error(Struct, frozen=True, gc=False):
    """The reply to a request that was refused.

    :ivar code: a value of `codes.ErrorCode`; one that a client does not know counts as not to be retried.
    :ivar detail: one English sentence for a developer; not for the user, not for parsing.
    :ivar retry_after_ms: present if and only if the same request may be retried, not before so many ms.
    """

    TYPE: ClassVar = Type.ERROR
    request: int
    code: str
    detail: str
    retry_after_ms: int | None = None


class Welcome(Struct, frozen=True, gc=False):
    """The reply to `Hello`. From here on pushes may come. `created` is the server's time in microseconds."""

    TYPE: ClassVar = Type.WELCOME
    request: int
    created: int
    user: bytes
    device: bytes
    version: int


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


class Pong(Struct, frozen=True, gc=False):
    """The reply to `Ping`. `created` is the clock of the process that answers, in microseconds."""

    TYPE: ClassVar = Type.PONG
    request: int
    created: int


class Message(Struct, frozen=True, gc=False):
    """Push: a message in one of the user's conversations, sent by another device."""

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


Request: TypeAlias = Hello | Send | MarkDelivered | MarkRead | Ping | Bye
Reply: TypeAlias = Error | Welcome | Sent | Done | Pong
Push: TypeAlias = Message
Frame: TypeAlias = Request | Reply | Push

REQUESTS: Final[tuple[type[Request], ...]] = (Hello, Send, MarkDelivered, MarkRead, Ping, Bye)
REPLIES: Final[tuple[type[Reply], ...]] = (Error, Welcome, Sent, Done, Pong)
PUSHES: Final[tuple[type[Push], ...]] = (Message,)
