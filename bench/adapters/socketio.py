"""Socket.IO 4 over Engine.IO's WebSocket transport, with the events of the plan's peer.

The first character is Engine.IO's packet type, the second Socket.IO's: `0` open, `2` ping, `3` pong; `40` connected,
`42` event, `43` the acknowledgement of an event by its number, `44` connection refused.
"""

from __future__ import annotations

import json
from typing import ClassVar

import msgspec

from bench.adapters.base import Adapter, Events, stamp_of_text, stamp_text
from bench.adapters.lean import fields
from bench.mixture import OperationKind
from bench.workload import Body, ChatParticipant


class _Reply(msgspec.Struct):
    success: bool
    error: str = ""


class _Payload(msgspec.Struct):
    """Fields of a message; the other events have other fields."""

    id: str = ""
    conversation_id: str = ""
    sender_id: str = ""
    encrypted_content: str = ""


_decode_reply = msgspec.json.Decoder(tuple[_Reply]).decode
_decode_event = msgspec.json.Decoder(tuple[str, _Payload]).decode


class SocketIO(Adapter):
    """One user's connection. The server has an event for marks, and none for typing: it decodes such an event and drops
    it."""

    answered: ClassVar[frozenset[OperationKind]] = frozenset({OperationKind.MARK})
    unanswered: ClassVar[frozenset[OperationKind]] = frozenset({OperationKind.TYPING})

    __slots__ = ("_form", "_unread", "_user")

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._user = participant.user
        self._unread: dict[str, str] = {}
        self._form = b'42%%d["message:send",{%b,"conversationId":"%%b","tempId":"%%032x"}]' % fields(body)

    def target(self) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def start(self) -> None:
        """Nothing: Engine.IO's server speaks first."""

    def send(self, request: int, conversation: str, stamp: float) -> bytes:
        return self._form % (request, stamp_text(stamp), conversation.encode(), request)

    def operation(self, kind: OperationKind, request: int, conversation: str) -> bytes:
        if kind is OperationKind.TYPING:
            return b'42["typing:start",{"conversationId":"%b"}]' % conversation.encode()
        message = self._unread.pop(conversation, None)
        if message is None:
            return b""
        form = b'42%d["message:read",{"conversationId":"%b","messageId":"%b"}]'
        return form % (request, conversation.encode(), message.encode())

    def receive(self, payload: bytes) -> None:
        match payload[:2]:
            case b"42":
                event, message = _decode_event(payload[2:])
                if event == "message:new" and message.sender_id != self._user:
                    self._unread[message.conversation_id] = message.id
                    self.events.delivered(stamp_of_text(message.encrypted_content))
            case b"43":
                end = payload.index(b"[")
                [reply] = _decode_reply(payload[end:])
                if reply.success:
                    self.events.acked(int(payload[2:end]))
                else:
                    self.events.failed(reply.error)
            case b"2":
                self.events.reply(b"3")
            case b"40":
                self.events.opened()
            case _ if payload.startswith(b"0"):
                self.events.reply(b"40" + json.dumps({"userId": self._user}).encode())
            case _:
                self.events.failed(f"unexpected packet {payload[:80]!r}")


class SocketIOWriter(SocketIO):
    """A connection that counts messages without reading them."""

    __slots__ = ("_own",)

    def __init__(self, events: Events, participant: ChatParticipant, body: Body) -> None:
        super().__init__(events, participant, body)
        self._own = participant.user.encode()

    def receive(self, payload: bytes) -> None:
        if not payload.startswith(b"42"):
            super().receive(payload)
        elif payload.startswith(b'42["message:new"') and self._own not in payload:
            self.events.passed(1)
