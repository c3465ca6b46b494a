"""The lean peer's protocol: one JSON object in each text message; its field `t` is the type."""

from __future__ import annotations

from binascii import b2a_base64
from typing import ClassVar

import msgspec

from bench.adapters.base import Adapter, Events, stamp_of_text, stamp_text, text_after_stamp
from bench.mixture import OperationKind
from bench.workload import Body, ChatParticipant


class _Sent(msgspec.Struct, tag="ack", tag_field="t"):
    id: int
    success: bool
    error: str = ""


class _Content(msgspec.Struct):
    sender_id: str
    encrypted_content: str


class _New(msgspec.Struct, tag="new", tag_field="t"):
    message: _Content


_decode = msgspec.json.Decoder(_Sent | _New).decode


class Lean(Adapter):
    """One user's connection; the handshake names the user. The server answers with pages here; it has neither marks nor
    typing."""

    answered: ClassVar[frozenset[OperationKind]] = frozenset({OperationKind.HISTORY, OperationKind.LIST})

    __slots__ = ("_form", "_user")

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._user = participant.user
        self._form = b'{"t":"send","id":%%d,%b,"conversationId":"%%b","tempId":"%%032x"}' % fields(body)

    def target(self) -> str:
        return f"/?userId={self._user}"

    def start(self) -> None:
        self.events.opened()

    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        return self._form % (request, stamp_text(stamp), conversation.encode(), request)

    def operation(self, kind: OperationKind, request: int, conversation: str) -> bytes:
        return b'{"t":"%b","id":%d,"conversationId":"%b"}' % (kind.encode(), request, conversation.encode())

    def receive(self, payload: bytes) -> None:
        frame = _decode(payload)
        if isinstance(frame, _New):
            if frame.message.sender_id != self._user:
                self.events.delivered(stamp_of_text(frame.message.encrypted_content))
        elif frame.success:
            self.events.acked(frame.id)
        else:
            self.events.failed(frame.error)


class LeanWriter(Lean):
    """A connection that counts messages without reading them."""

    __slots__ = ("_own",)

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._own = participant.user.encode()

    def receive(self, payload: bytes) -> None:
        if not payload.startswith(b'{"t":"new"'):
            super().receive(payload)
        elif self._own not in payload:
            self.events.passed(1)


def fields(body: Body) -> bytes:
    """The fields of a send whose names are the same for both JSON peers, with a place for the stamp."""
    return b'"encryptedContent":"%%b%b","contentType":"text","nonce":"%b","ephemeralPublicKey":"%b"' % (
        text_after_stamp(body.content),
        b2a_base64(body.nonce, newline=False),
        b2a_base64(body.public_key, newline=False),
    )
