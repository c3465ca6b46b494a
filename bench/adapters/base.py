"""The interface between the generator and an adapter.

An adapter turns payloads of one connection's WebSocket messages into calls of `Events`, and sends into payloads.
It does no I/O and has no clock.

A message's content begins with the time at which it was meant to be sent, so the recipient knows its age without any
table. Both ends of a measurement live in one process and read one clock.
"""

from __future__ import annotations

import abc
from binascii import a2b_base64, b2a_base64
from struct import Struct
from typing import ClassVar, Final, Protocol

from bench.mixture import OperationKind
from bench.websocket import Opcode
from bench.workload import Body, ChatParticipant

STAMP: Final = Struct("<dx")
"""Nine bytes are twelve characters of base64, so the content after them is encoded only once."""

STAMP_TEXT_CHARS: Final = 12

FIRST_SEND: Final = 2**16
"""Sends are numbered from here. Smaller numbers are left for an adapter's own requests, and CBOR takes four bytes for
each send's number."""


class Events(Protocol):
    """An adapter's reports to its connection."""

    def opened(self) -> None:
        """The server has authenticated the device: sends may begin."""

    def acked(self, request: int) -> None:
        """The server has acknowledged a send, or answered another operation."""

    def delivered(self, stamp: float) -> None:
        """A message that another participant sent at `stamp` has come."""

    def passed(self, messages: int) -> None:
        """This number of messages from other participants have come; the adapter did not read them."""

    def failed(self, why: str) -> None:
        """An event that should not happen in a benchmark: a refusal, an unknown reply, a protocol error."""

    def reply(self, payload: bytes) -> None:
        """Send this payload, which is not a message of the load."""


class Adapter(abc.ABC):
    """One connection's protocol.

    :cvar opcode: opcode of the WebSocket messages that it sends.
    :cvar subprotocol: subprotocol to ask for in the handshake.
    :cvar answered: operations, other than sends, that the server answers here.
    :cvar unanswered: operations that it takes here without an answer.
    """

    opcode: ClassVar[int] = Opcode.TEXT
    subprotocol: ClassVar[str | None] = None
    answered: ClassVar[frozenset[OperationKind]] = frozenset()
    unanswered: ClassVar[frozenset[OperationKind]] = frozenset()

    __slots__ = ("events",)

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        self.events = events

    @abc.abstractmethod
    def target(self) -> str:
        """The request target of the handshake."""

    @abc.abstractmethod
    def start(self) -> None:
        """The WebSocket is open: send the first messages of the protocol."""

    @abc.abstractmethod
    def receive(self, payload: bytes) -> None:
        """Handle one message of the server."""

    @abc.abstractmethod
    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        """The payload of a send."""

    def operation(self, kind: OperationKind, request: int, conversation: str) -> bytes:
        """The payload of an operation other than a send; empty if the device has nothing to mark there.

        :param kind: one of `answered` or `unanswered`.
        """
        raise NotImplementedError

    def take_marks(self) -> bytes:
        """The payload that marks what this device has received since the last call; empty if it received nothing."""
        return b""


def stamp_text(stamp: float) -> bytes:
    """The first characters of a content in base64."""
    return b2a_base64(STAMP.pack(stamp), newline=False)


def stamp_of_text(content: str) -> float:
    """The stamp at the beginning of a content in base64."""
    (stamp,) = STAMP.unpack(a2b_base64(content[:STAMP_TEXT_CHARS]))
    return float(stamp)


def text_after_stamp(content: bytes) -> bytes:
    """The characters of a content in base64 that follow those of `stamp_text`."""
    return b2a_base64(content[STAMP.size :], newline=False)
