"""WebSocket frames (RFC 6455) as a server reads and writes them, once the opening handshake is done.

Reading: one `WebSocketReceiver` for each connection takes the bytes from the socket, in any pieces, and returns events.
Writing: a server does not mask, so a frame is a header of 2 to 10 bytes and the payload.

This protocol is binary and offers no extension. So the receiver refuses a text frame and reserved bits as soon as the
first two bytes of their frame are there, and never keeps a payload whose header announces too many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from msgspec import Struct

from protocol.codes import CloseCode
from protocol.errors import LocalProtocolError

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
"""Opcodes: the low half of a frame's first byte (RFC 6455, section 5.2). Those from 8 on are of control frames."""

FINAL: Final = 0x80
"""In the first byte: the last frame of its message."""

RESERVED: Final = 0x70
"""In the first byte: for extensions, which this protocol does not use."""

MASKED: Final = 0x80
"""In the second byte: four bytes of mask precede the payload."""

FINAL_BINARY: Final = FINAL | BINARY

MAX_CONTROL_BYTES: Final = 125
"""Payload of a control frame (RFC 6455, section 5.5); longer ones have no length in the second byte."""

PROTOCOL_ERROR: Final = CloseCode.PROTOCOL_ERROR.value
TEXT_MESSAGE: Final = CloseCode.TEXT_MESSAGE.value
INVALID_PAYLOAD: Final = CloseCode.INVALID_PAYLOAD.value
MESSAGE_TOO_BIG: Final = CloseCode.MESSAGE_TOO_BIG.value
"""The codes to close with (RFC 6455, section 7.4.1)."""


class Ping(Struct, frozen=True):
    """The peer wants a pong with the same payload, of at most 125 bytes."""

    payload: bytes


class Pong(Struct, frozen=True):
    """An answer to a ping, or unsolicited, which is legal."""

    payload: bytes


class Close(Struct, frozen=True):
    """The peer sends nothing more and waits for a close frame.

    :ivar code: None if the frame had none (1005 in APIs; it never is on the wire).
    """

    code: int | None
    reason: str


Event: TypeAlias = bytes | Ping | Pong | Close
"""A binary message is its bytes, with the fragments joined: nearly all events are messages, so they have no wrapper."""


class WebSocketError(Exception):
    """The peer broke RFC 6455 or one of our bounds; nothing further can be read from this connection.

    :ivar close_code: the code to close the connection with.
    :ivar detail: one sentence for the peer's developer.
    """

    def __init__(self, close_code: int, detail: str) -> None:
        super().__init__(f"{close_code}: {detail}")
        self.close_code = close_code
        self.detail = detail


class WebSocketReceiver:
    """Reads the bytes of one client: bytes in, events out.

    Between frames it holds no buffer. While a frame or a message is incomplete, it holds the bytes that have come,
    which are at most a header and `max_message_bytes`; it reserves no space for bytes that a header merely promises.

    :param max_message_bytes: of one message, fragments together.
    :param max_fragments: frames of one message, empty ones included; at least 1.
    """

    __slots__ = (
        "_fragments",
        "_is_ended",
        "_max_fragments",
        "_max_message_bytes",
        "_message",
        "_needed",
        "_pending",
        "_room",
    )

    def __init__(self, max_message_bytes: int, max_fragments: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._max_fragments = max_fragments
        self._pending: bytearray | None = None
        """The beginning of a frame, as it came."""
        self._needed = 0
        """The number of bytes that `_pending` must have before it is worth parsing."""
        self._message: bytearray | None = None
        """The fragments of a message that have come, unmasked and joined."""
        self._fragments = 0
        self._room = max_message_bytes
        """The number of bytes that the rest of the message may have."""
        self._is_ended = False

    @property
    def kept_bytes(self) -> tuple[int, int]:
        """How many bytes it keeps: of a frame that is incomplete, and of the fragments of a message."""
        return len(self._pending or b""), len(self._message or b"")

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events that these bytes complete, in order. Iterate to the end before the next call; the rest would be
        lost.

        After `Close`, and after an error, it ignores all further bytes (RFC 6455, sections 1.4 and 7.1.7).

        :raises WebSocketError: while iterating, after the events before the fault.
        """
        pending = self._pending
        if pending is None:
            return self._events(data)
        # A frame that comes byte by byte is collected, not parsed again each time: that would be quadratic.
        pending += data
        if len(pending) < self._needed:
            return iter(())
        self._pending = None
        return self._events(pending)

    def _events(self, data: bytes | bytearray) -> Iterator[Event]:
        at = 0
        end = len(data)
        while at < end and not self._is_ended:
            if end - at < 2:
                return self._keep(data, at, 2)
            first = data[at]
            second = data[at + 1]
            if first != FINAL_BINARY or second < MASKED or self._message is not None:
                self._check(first, second)
            size = second & 127
            start = at + 6
            if size > 125:
                width = 2 if size == 126 else 8
                if end - at < 2 + width:
                    return self._keep(data, at, 2 + width)
                size = self._long_size(data[at + 2 : at + 2 + width])
                start += width
            if size > self._room and first & 0x0F < CLOSE:
                raise self._error(MESSAGE_TOO_BIG, f"a message has more than {self._max_message_bytes} bytes")
            stop = start + size
            if end < stop:
                return self._keep(data, at, stop - at)
            at = stop
            if first == FINAL_BINARY:
                yield _unmasked(data, start, stop)
            else:
                yield from self._take(first, _unmasked(data, start, stop))
        return None

    def _keep(self, data: bytes | bytearray, at: int, needed: int) -> None:
        """Keep the beginning of a frame, until at least `needed` bytes of it have come."""
        self._pending = bytearray(memoryview(data)[at:])
        self._needed = needed

    def _check(self, first: int, second: int) -> None:
        """Check whether such a frame may come now.

        Called again for the same frame if its payload was not there yet, so it must not change anything.
        """
        opcode = first & 0x0F
        if first & RESERVED:
            raise self._error(PROTOCOL_ERROR, "reserved bits are set, but no extension was agreed on")
        if opcode in (CONTINUATION, BINARY):
            self._check_data(opcode)
        elif opcode in (CLOSE, PING, PONG):
            self._check_control(first, second)
        elif opcode == TEXT:
            raise self._error(TEXT_MESSAGE, "this protocol is binary, but a text frame came")
        else:
            raise self._error(PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        if second < MASKED:
            raise self._error(PROTOCOL_ERROR, "a client must mask its frames")

    def _check_data(self, opcode: int) -> None:
        if opcode == CONTINUATION and self._message is None:
            raise self._error(PROTOCOL_ERROR, "a continuation frame came, but no message was begun")
        if opcode == BINARY and self._message is not None:
            raise self._error(PROTOCOL_ERROR, "a message was begun before the one under way was finished")
        if self._fragments >= self._max_fragments:
            raise self._error(MESSAGE_TOO_BIG, f"a message has more than {self._max_fragments} fragments")

    def _check_control(self, first: int, second: int) -> None:
        if not first & FINAL:
            raise self._error(PROTOCOL_ERROR, "a control frame is fragmented")
        if second & 127 > MAX_CONTROL_BYTES:
            raise self._error(PROTOCOL_ERROR, f"a control frame has more than {MAX_CONTROL_BYTES} bytes")

    def _long_size(self, data: bytes | bytearray) -> int:
        """A payload length of 2 or 8 bytes; the RFC requires the shortest encoding."""
        size = int.from_bytes(data, "big")
        if size >> 63:
            raise self._error(PROTOCOL_ERROR, "the most significant bit of a payload length is set")
        if size < (126 if len(data) == 2 else 65536):
            raise self._error(PROTOCOL_ERROR, f"a payload length of {size} is written with {len(data)} bytes")
        return size

    def _take(self, first: int, payload: bytes) -> Iterator[Event]:
        """The events that a frame completes which is not a whole message."""
        opcode = first & 0x0F
        if opcode == PING:
            yield Ping(payload)
        elif opcode == PONG:
            yield Pong(payload)
        elif opcode == CLOSE:
            close = self._close(payload)
            self._end()
            yield close
        else:
            if self._message is None:
                self._message = bytearray()
            # One buffer, not a list of parts: a part of 1 byte takes 40 as an object.
            self._message += payload
            self._room -= len(payload)
            self._fragments += 1
            del payload  # Else a long last fragment would be in memory twice while the whole is made.
            if first & FINAL:
                message = bytes(self._message)
                self._forget_message()
                yield message

    def _close(self, payload: bytes) -> Close:
        if not payload:
            return Close(None, "")
        if len(payload) == 1:
            raise self._error(PROTOCOL_ERROR, "a close frame has a payload of 1 byte; a code has 2")
        code = int.from_bytes(payload[:2], "big")
        if not is_sendable(code):
            raise self._error(PROTOCOL_ERROR, f"close code {code} may not be sent")
        try:
            reason = payload[2:].decode()
        except UnicodeDecodeError:
            raise self._error(INVALID_PAYLOAD, "the reason of a close frame is not UTF-8") from None
        return Close(code, reason)

    def _error(self, close_code: int, detail: str) -> WebSocketError:
        self._end()
        return WebSocketError(close_code, detail)

    def _end(self) -> None:
        self._is_ended = True
        self._forget_message()

    def _forget_message(self) -> None:
        self._message = None
        self._fragments = 0
        self._room = self._max_message_bytes


def is_sendable(close_code: int) -> bool:
    """Whether a code may be in a close frame: registered with IANA, or of the ranges for libraries and applications.

    RFC 6455, section 7.4. 1004 is reserved; APIs report 1005, 1006 and 1015 when no close frame came.
    """
    return 1000 <= close_code <= 1003 or 1007 <= close_code <= 1014 or 3000 <= close_code <= 4999


XOR_BYTES: Final = 700
"""Payloads up to this size are unmasked as one big integer, longer ones with four translation tables.

Microseconds on CPython 3.11, integer / tables: 100 B 0.5 / 1.2, 300 B 0.9 / 1.4, 700 B 1.7 / 1.8, 4 KiB 7.6 / 5.3,
64 KiB 182 / 73.
"""

_XOR: Final = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))
"""Byte of a mask -> table for `translate`."""

_to_int: Final = int.from_bytes


def _unmasked(data: bytes | bytearray, start: int, stop: int) -> bytes:
    """The payload from `start` to `stop`, whose mask precedes it (RFC 6455, section 5.3).

    A bytearray is our own and may be unmasked in place: else a long message would be in memory three times.
    """
    size = stop - start
    mask = data[start - 4 : start]
    if size <= XOR_BYTES:
        key = (mask * ((size + 3) >> 2))[:size]
        return (_to_int(data[start:stop], "little") ^ _to_int(key, "little")).to_bytes(size, "little")
    if isinstance(data, bytes):
        data = bytearray(memoryview(data)[start:stop])
        start, stop = 0, size
    for offset, byte in enumerate(mask, start):
        data[offset:stop:4] = data[offset:stop:4].translate(_XOR[byte])
    return bytes(memoryview(data)[start:stop])


def binary_header(size: int) -> bytes:
    """The header of a whole binary message of `size` bytes, unmasked as a server's are (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((FINAL_BINARY, size))
    if size < 65536:
        return b"\x82\x7e" + size.to_bytes(2, "big")
    return b"\x82\x7f" + size.to_bytes(8, "big")


def close_frame(code: int, reason: str) -> bytes:
    """A close frame, with as many whole characters of the reason as fit into a control frame (RFC 6455, section
    5.5)."""
    payload = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return _control_frame(CLOSE, code.to_bytes(2, "big") + payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """
    :raises LocalProtocolError: if the payload is longer than 125 bytes.
    """
    return _control_frame(PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a `Ping`, whose payload it repeats.

    :raises LocalProtocolError: if the payload is longer than 125 bytes.
    """
    return _control_frame(PONG, payload)


def _control_frame(opcode: int, payload: bytes) -> bytes:
    if len(payload) > MAX_CONTROL_BYTES:
        raise LocalProtocolError(f"a control frame has at most {MAX_CONTROL_BYTES} bytes, not {len(payload)}")
    return bytes((FINAL | opcode, len(payload))) + payload
