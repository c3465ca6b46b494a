"""What the generator and an adapter say to each other.

An adapter turns payloads of one connection's WebSocket messages into calls of `Events`, and sends into payloads.
It does no I/O and has no clock.

A message's content begins with the moment at which it was meant to be sent, so whoever receives it knows its age
without any table. Both ends of a measurement live in one process and read one clock.
"""

from __future__ import annotations

import abc
from binascii import a2b_base64, b2a_base64
from struct import Struct
from typing import ClassVar, Final, Protocol

from bench.websocket import Opcode
from bench.workload import Body, Participant

STAMP: Final = Struct("<dx")
"""Nine bytes, so that they are twelve characters of base64 and what follows is encoded once and for all."""

STAMP_TEXT_CHARS: Final = 12

FIRST_SEND: Final = 2**16
"""Sends are numbered from here, which leaves smaller numbers to an adapter's own requests; and CBOR takes four bytes
for each of them."""


class Events(Protocol):
    """What an adapter reports to its connection."""

    def opened(self) -> None:
        """The server knows who we are: sends may begin."""

    def acked(self, request: int) -> None:
        """A send is acknowledged."""

    def delivered(self, stamp: float) -> None:
        """A message that somebody else sent at `stamp` has come."""

    def passed(self, messages: int) -> None:
        """So many messages that others sent have come, and were not read."""

    def failed(self, why: str) -> None:
        """Anything that should not happen in a benchmark: a refusal, an unknown reply, a protocol error."""

    def reply(self, payload: bytes) -> None:
        """Send this payload, which is no message of the load."""


class Adapter(abc.ABC):
    """One connection's protocol.

    :cvar opcode: of the WebSocket messages that it sends.
    :cvar subprotocol: to ask for in the handshake.
    """

    opcode: ClassVar[int] = Opcode.TEXT
    subprotocol: ClassVar[str | None] = None

    __slots__ = ("events",)

    def __init__(self, events: Events, participant: Participant, body: Body) -> None:
        self.events = events

    @abc.abstractmethod
    def target(self) -> str:
        """The request target of the handshake."""

    @abc.abstractmethod
    def start(self) -> None:
        """The WebSocket is open: say what has to be said first."""

    @abc.abstractmethod
    def receive(self, payload: bytes) -> None:
        """Handle one message of the server."""

    @abc.abstractmethod
    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        """The payload of a send."""

    def take_marks(self) -> bytes:
        """The payload that says what this device has received since the last call; empty if there is nothing to say."""
        return b""


def stamp_text(stamp: float) -> bytes:
    """The first characters of a content in base64."""
    return b2a_base64(STAMP.pack(stamp), newline=False)


def stamp_of_text(content: str) -> float:
    """The moment that a content in base64 begins with."""
    (stamp,) = STAMP.unpack(a2b_base64(content[:STAMP_TEXT_CHARS]))
    return float(stamp)


def text_after_stamp(content: bytes) -> bytes:
    """The characters of a content in base64 that follow those of `stamp_text`."""
    return b2a_base64(content[STAMP.size :], newline=False)
