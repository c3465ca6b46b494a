"""One connection of the server double: the rules that hold at any time, faults, and the bytes to write. Sans-IO.

A fault is the answer to a request that takes the place of the usual one. It is an object with one of these keys:

| key | value | effect |
|---|---|---|
| `serve` | true | the usual answer |
| `hold` | true | no answer, until the scenario releases the requests that are held |
| `silence` | true | no answer, ever |
| `lose_reply` | true | the request is served, and the connection is cut before the reply; false: it is cut at once |
| `cut_after` | number | the usual answer; the connection is cut within the frame after that many frames |
| `close` | code | a close frame with this code, and `reason` |
| `error` | code | an error reply, with the other keys as its fields |
| `reply` | fields of a frame | this reply |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from protocol import websocket
from protocol.codec import decode_from_client, decode_from_server, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.conformance.double import Double
from protocol.conformance.own_writes import Violation, refuse
from protocol.conformance.values import Fields, encode_fields, fields_of
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import Bye, Frame, Hello, Message, Push, PutKeys, Request, Send, Sync, Tombstone, Watch, name_of

FEATURES_OF_FIELDS: Final = {
    "send": {
        "reply_to": "reply_to",
        "is_quiet": "quiet",
        "devices_version": "device_sets",
        "wants_devices": "device_sets",
        "envelopes": "envelopes",
        "follows": "control",
    },
    "edit": {"devices_version": "device_sets", "wants_devices": "device_sets", "envelopes": "envelopes"},
    "sync": {"pages": "pages", "count": "pages"},
    "devices": {"kinds": "one_time_keys"},
}
"""Request -> its fields that a client may use only if the server lists the feature (SPEC 11.1)."""

FEATURES_OF_REQUESTS: Final = {
    "edit": "edit",
    "delete": "delete",
    "set_typing": "typing",
    "watch": "presence",
    "status": "status",
    "devices": "identities",
    "put_keys": "identities",
    "key_status": "one_time_keys",
    "upload": "attachments",
    "parts": "attachments",
    "complete": "attachments",
    "download": "attachments",
    "abort": "attachments",
}
"""The same for whole requests."""


class ConnectionEnd(Struct, frozen=True):
    """The connection ends after the bytes before it.

    :ivar code: of the close frame; None: the TCP connection ends without one.
    """

    code: int | None = None
    reason: str = ""


Action: TypeAlias = bytes | ConnectionEnd
"""What the gateway does next with a connection: it writes bytes, which are whole WebSocket frames, or ends it."""

_State: TypeAlias = Literal["new", "greeting", "open", "leaving"]


class DoubleConnection:
    """A client on one connection.

    :param act: takes what is to be done, in order; it does not wait.
    :param number: of the connection, from 1.
    :param gateway: the number of the address, from 0.
    :ivar fragment_bytes: the payload of each WebSocket frame from now on; None: one frame for each message.
    :ivar watched: the users whose presence the client wants to know.
    :ivar is_lagging: no messages are pushed to it until it syncs.
    """

    def __init__(self, double: Double, act: Callable[[Action], object], number: int, gateway: int) -> None:
        self.number: Final = number
        self.gateway: Final = gateway
        self.fragment_bytes: int | None = None
        self.is_lagging = False
        self.watched: list[bytes] = []
        self._double = double
        self._act = act
        self._state: _State = "new"
        self._waiting: set[int] = set()
        self._held: list[Request] = []

    @property
    def is_welcomed(self) -> bool:
        return self._state == "open"

    def receive(self, message: bytes) -> None:
        """Take a WebSocket message from the client.

        :raises Violation: if it breaks a rule that holds at any time.
        """
        for request in self._requests(message):
            fields = fields_of(request)
            self._double.hear(self.number, self.gateway, fields)
            self._check_state(request)
            self._check_features(fields)
            if request.request in self._waiting:
                raise Violation("2.5", f"request number {request.request} is used again before its reply has come")
            self._waiting.add(request.request)
            if isinstance(request, Send):
                self._double.writes.note_attempt(request)
            if isinstance(request, PutKeys):
                self._double.keys.note_attempt(request)
            self._take(request)

    def _requests(self, message: bytes) -> Iterator[Request]:
        try:
            for request in decode_from_client(message):
                if isinstance(request, RequestError):
                    raise Violation("2.1", f"the client sends a frame that servers refuse: {request.detail}")
                yield request
        except RemoteProtocolError as error:
            raise Violation("2.2", f"the client sends bytes that are not frames: {error.detail}") from None

    def _check_state(self, request: Request) -> None:
        if self._state == "new" and not isinstance(request, Hello):
            raise Violation("3", f"the first frame of a connection is `{name_of(request)}`, not `hello`")
        if self._state != "new" and isinstance(request, Hello):
            raise Violation("3", "the client sends a second `hello` on a connection")
        if self._state == "greeting":
            raise Violation("3", f"the client sends `{name_of(request)}` before it has got `welcome`")
        if self._state == "leaving":
            raise Violation("3", f"the client sends `{name_of(request)}` after `bye`")

    def _check_features(self, fields: Fields) -> None:
        name, features = fields["type"], self._double.features
        if name in FEATURES_OF_REQUESTS and FEATURES_OF_REQUESTS[name] not in features:
            raise Violation("11.1", f"the client sends `{name}`, but the server does not list that feature")
        for field, feature in FEATURES_OF_FIELDS.get(name, {}).items():
            if field in fields and feature not in features:
                raise Violation(
                    "11.1", f"the client gives `{field}` in `{name}`, but the server does not list `{feature}`"
                )

    def _take(self, request: Request) -> None:
        if isinstance(request, Hello):
            self._state = "greeting"
        faults = self._double.faults[name_of(request)]
        if faults:
            self._fail(request, faults.popleft())
        elif self._double.is_draining and not isinstance(request, Hello | Bye):
            self.reply(request, [refuse(request, ErrorCode.UNAVAILABLE)])
        else:
            self._serve(request)

    def _fail(self, request: Request, fault: Fields) -> None:
        match fault:
            case {"serve": _}:
                self._serve(request)
            case {"hold": _}:
                self._held.append(request)
            case {"silence": _}:
                return
            case {"lose_reply": is_served}:
                if is_served:
                    self._double.answer(request)
                self._act(ConnectionEnd())
            case {"cut_after": int(count)}:
                self._cut_within(self._answer(request), count)
            case {"close": int(code)}:
                self._act(ConnectionEnd(code, fault.get("reason", "")))
            case {"error": str()}:
                self._refuse(request, fault)
            case {"reply": dict(fields)}:
                self._reply_raw(request, fields)
            case _:
                raise ValueError(f"no fault is called '{next(iter(fault), None)}'")

    def _refuse(self, request: Request, fault: Fields) -> None:
        fields = {name: each for name, each in fault.items() if name != "error"}
        if fault.get("retry_after_ms") is None:
            self._double.writes.forget_attempt(request)
        detail = "A scenario asks for this error."
        self._reply_raw(request, {"type": "error", "code": fault["error"], "detail": detail, **fields})

    def _reply_raw(self, request: Request, fields: Fields) -> None:
        if isinstance(request, Hello):
            self._state = "open"
        self._waiting.discard(request.request)
        message = encode_fields({**fields, "request": request.request})
        self._double.show(decode_from_server(message))
        self.write(message)

    def release(self) -> None:
        """Serve the requests that are held, in their order."""
        held, self._held = self._held, []
        for request in held:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        if isinstance(request, Bye):
            self._state = "leaving"
        self.reply(request, self._answer(request))
        if isinstance(request, Bye):
            self._act(ConnectionEnd(CloseCode.BYE.value, "bye"))

    def _answer(self, request: Request) -> list[Frame]:
        if isinstance(request, Hello):
            welcome = self._double.welcome(request)
            self._state = "open"
            return [welcome, *self._double.resume(request)]
        if isinstance(request, Sync):
            self.is_lagging = False
        if isinstance(request, Watch):
            self.watched = request.users
        return self._double.answer(request)

    def reply(self, request: Request, frames: list[Frame]) -> None:
        """Send the reply of a request, and the frames that come with it, as one WebSocket message."""
        self._waiting.discard(request.request)
        self._double.show(frames)
        self.write(b"".join(map(encode, frames)))

    def push(self, frames: Iterable[Push]) -> None:
        """Push frames to a welcomed client; messages do not come while it lags."""
        taken = [each for each in frames if not (self.is_lagging and isinstance(each, Message | Tombstone))]
        if taken and self.is_welcomed:
            self._double.show(taken)
            self.write(b"".join(map(encode, taken)))

    def write(self, message: bytes) -> None:
        """Send one WebSocket message."""
        self._act(self._framed(message))

    def ping(self, payload: bytes) -> None:
        """Send a WebSocket ping."""
        self._act(websocket.ping_frame(payload))

    def close(self, code: int | None, reason: str = "") -> None:
        """End the connection, with a close frame if there is a code."""
        self._act(ConnectionEnd(code, reason))

    def _framed(self, message: bytes) -> bytes:
        size = self.fragment_bytes
        return whole_frame(message) if size is None or len(message) <= size else fragments(message, size)

    def _cut_within(self, frames: list[Frame], count: int) -> None:
        """Send so many frames, each as a message of its own, half of the next one, and cut the connection."""
        self._double.show(frames[:count])
        for frame in frames[:count]:
            self.write(encode(frame))
        if frames[count:]:
            half = self._framed(encode(frames[count]))
            self._act(half[: len(half) // 2])
        self._act(ConnectionEnd())


def whole_frame(message: bytes) -> bytes:
    """A message as one WebSocket frame."""
    return websocket.binary_header(len(message)) + message


def fragments(message: bytes, size: int) -> bytes:
    """A message in WebSocket frames of at most this payload, with a ping between the first two (RFC 6455, 5.4)."""
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    framed = []
    for number, part in enumerate(parts):
        header = bytearray(websocket.binary_header(len(part)))
        header[0] = websocket.BINARY if number == 0 else websocket.CONTINUATION
        if number == len(parts) - 1:
            header[0] |= websocket.FINAL
        framed.append(bytes(header) + part)
        if number == 0:
            framed.append(websocket.ping_frame(b"between"))
    return b"".join(framed)
