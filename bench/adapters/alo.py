"""ALO Shield's protocol: CBOR sequences in binary messages.

Frames come from `protocol`, but the hot path does not use it: the adapter assembles a send around its request number
and its content, and reads replies without the reference decoder's checks. So the benchmark measures the server and not
the generator.
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from typing import ClassVar, Final
from uuid import UUID, uuid4

import cbor2

from bench.adapters.base import FIRST_SEND, STAMP, Adapter, Events
from bench.mixture import OperationKind
from bench.websocket import Opcode
from bench.workload import Body, ChatParticipant
from protocol import limits
from protocol.codec import encode, encode_request
from protocol.frames import Error, Hello, Key, MarkDelivered, MarkRead, Send, Sent, SetTyping, Sync, Type

_HELLO: Final = 0
_SYNC: Final = 1
_REQUEST: Final = Struct("!I")
_MARKS: Final = range(1, FIRST_SEND)

_MAX_REPLY_BYTES: Final = 512
"""More than a reply to a send takes."""


class Alo(Adapter):
    """One device.

    Like the reference client, it marks the messages that it has received: see `take_marks`.
    """

    opcode: ClassVar[int] = Opcode.BINARY
    subprotocol: ClassVar[str | None] = limits.SUBPROTOCOL
    answered: ClassVar[frozenset[OperationKind]] = frozenset({OperationKind.MARK, OperationKind.TYPING})

    __slots__ = ("_body", "_mark_request", "_marks", "_sends", "_temp_id_start", "_token", "_unread")

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._token = participant.token
        self._body = body
        self._marks: dict[bytes, int] = {}
        self._unread: dict[bytes, int] = {}
        self._mark_request = _MARKS.start
        # To a repeated temp_id the server would answer with the earlier ack, without any work.
        self._temp_id_start = uuid4().bytes[: -_REQUEST.size]
        self._sends: dict[str, tuple[bytes, bytes, bytes]] = {}

    def target(self) -> str:
        return limits.SOCKET_PATH

    def start(self) -> None:
        self.events.reply(encode_request(Hello(_HELLO, self._token, limits.PROTOCOL_VERSION)))

    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        number = _REQUEST.pack(request)
        head, middle, tail = self._sends.get(conversation) or self._prepare(conversation)
        return b"".join((head, number, middle, STAMP.pack(stamp), tail, number))

    def receive(self, payload: bytes) -> None:
        # Inside an array of indefinite length, one call decodes a sequence of any number of frames.
        for frame in cbor2.loads(b"\x9f" + payload + b"\xff"):
            match frame[Key.TYPE]:
                case Type.MESSAGE:
                    self._marks[frame[Key.CONVERSATION]] = self._unread[frame[Key.CONVERSATION]] = frame[Key.SEQ]
                    self.events.delivered(STAMP.unpack_from(frame[Key.CONTENT])[0])
                case Type.SENT:
                    self.events.acked(frame[Key.REQUEST])
                case Type.DONE if frame[Key.REQUEST] >= FIRST_SEND:
                    self.events.acked(frame[Key.REQUEST])
                case Type.ERROR:
                    self.events.failed(f"{frame[Key.CODE]}: {frame[Key.DETAIL]}")
                case Type.WELCOME:
                    self.events.opened()

    def operation(self, kind: OperationKind, request: int, conversation: str) -> bytes:
        of = UUID(conversation).bytes
        if kind is OperationKind.TYPING:
            return encode_request(SetTyping(request, of, True))
        seq = self._unread.pop(of, None)
        return b"" if seq is None else encode_request(MarkRead(request, [(of, seq)]))

    def take_marks(self) -> bytes:
        if not self._marks:
            return b""
        marks, self._marks = list(self._marks.items()), {}
        self._mark_request = self._mark_request % _MARKS[-1] + 1
        return encode_request(MarkDelivered(self._mark_request, marks))

    def _prepare(self, conversation: str) -> tuple[bytes, bytes, bytes]:
        """The bytes before the request number, from there to the stamp, and from there to the end of the temp_id."""
        content = bytes(STAMP.size) + self._body.content[STAMP.size :]
        temp_id = self._temp_id_start + bytes(_REQUEST.size)
        frame = encode_request(
            Send(
                request=FIRST_SEND,
                conversation=UUID(conversation).bytes,
                content_type="text",
                content=content,
                nonce=self._body.nonce,
                ephemeral_public_key=self._body.public_key,
                temp_id=temp_id,
            )
        )
        number = frame.index(_REQUEST.pack(FIRST_SEND))
        stamp = frame.index(content)
        parts = (
            frame[:number],
            frame[number + _REQUEST.size : stamp],
            frame[stamp + STAMP.size : -_REQUEST.size],
        )
        assert frame.endswith(temp_id), "temp_id is the last field"
        self._sends[conversation] = parts
        return parts


class AloSynced(Alo):
    """A device that syncs before its user does anything, as clients do; from then on the server moves its cursor on."""

    __slots__ = ("_cursors", "_is_synced")

    def __init__(
        self, events: Events, participant: ChatParticipant, body: Body, cursors: dict[str, bytes] | None = None
    ) -> None:
        """
        :param cursors: takes the cursor of the last page, by the device's token.
        """
        super().__init__(events, participant, body)
        self._cursors = {} if cursors is None else cursors
        self._is_synced = False

    def receive(self, payload: bytes) -> None:
        if self._is_synced:
            super().receive(payload)
            return
        for frame in cbor2.loads(b"\x9f" + payload + b"\xff"):
            match frame[Key.TYPE]:
                case Type.WELCOME:
                    self._welcomed()
                case Type.SYNCED | Type.CURSOR if frame[Key.MORE]:
                    self.events.reply(encode_request(Sync(_SYNC, frame[Key.CURSOR], count=1)))
                case Type.SYNCED | Type.CURSOR:
                    self._is_synced = True
                    self._cursors[self._token] = frame[Key.CURSOR]
                    self.events.opened()
                case Type.ERROR:
                    self.events.failed(f"{frame[Key.CODE]}: {frame[Key.DETAIL]}")

    def _welcomed(self) -> None:
        self.events.reply(encode_request(Sync(_SYNC, None, count=1)))


class AloResumed(AloSynced):
    """A device that was connected before: its hello has the cursor of its last sync, and is answered like a sync."""

    __slots__ = ()

    def start(self) -> None:
        cursor = self._cursors[self._token]
        self.events.reply(encode_request(Hello(_HELLO, self._token, limits.PROTOCOL_VERSION, cursor)))

    def _welcomed(self) -> None:
        """The answer to the hello's cursor follows."""


class AloWriter(Alo):
    """A device that looks for its acks, and counts messages without reading them.

    Pushes and replies come in one sequence, and only decoding tells its frames apart. But a reply to a request begins
    with eight known bytes that appear nowhere else by chance, and each message has the same nonce once. Messages before
    an ack have a smaller `seq`, so the device marks the ack's `seq` as received.
    """

    __slots__ = ("_is_welcome", "_waiting")

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._is_welcome = False
        self._waiting: dict[int, tuple[bytes, bytes, str]] = {}

    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        sent, error = (_head(reply) for reply in (Sent(request, 0, b"", 0), Error(request, "", "")))
        self._waiting[request] = (sent, error, conversation)
        return super().send(request, conversation, stamp)

    def receive(self, payload: bytes) -> None:
        if not self._is_welcome:
            self._is_welcome = True
            super().receive(payload)
            return
        for request, (sent, error, conversation) in list(self._waiting.items()):
            at = payload.find(sent)
            if at < 0:
                at = payload.find(error)
            if at >= 0:
                del self._waiting[request]
                self._take_reply(payload[at - 1 : at + _MAX_REPLY_BYTES], conversation)
        if messages := payload.count(self._body.nonce):
            self.events.passed(messages)

    def _take_reply(self, data: bytes, conversation: str) -> None:
        frame = cbor2.load(BytesIO(data))
        if frame[Key.TYPE] == Type.SENT:
            self._marks[UUID(conversation).bytes] = frame[Key.SEQ]
            self.events.acked(frame[Key.REQUEST])
        else:
            self.events.failed(f"{frame[Key.CODE]}: {frame[Key.DETAIL]}")


def _head(reply: Sent | Error) -> bytes:
    """The first bytes of the reply after its number of fields: its type and its request."""
    encoded = encode(reply)
    number = _REQUEST.pack(reply.request)
    return encoded[1 : encoded.index(number) + len(number)]
