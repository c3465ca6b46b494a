"""Just enough of a WebSocket client (RFC 6455): the handshake, whole messages in, single frames out. No I/O.

Client frames must be masked (section 5.3). The masking key here is always zero, which is legal and makes masking free.
The server cannot tell, and does the same work as with any other key.
"""

from __future__ import annotations

from enum import IntEnum
from struct import pack, unpack_from
from typing import Final


class Opcode(IntEnum):
    """Types of frames (section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class ServerFault(Exception):
    """The server broke RFC 6455, or refused the handshake."""


_FIN: Final = 0x80
_MASKED: Final = 0x80
_NO_MASK: Final = bytes(4)
_RESERVED: Final = 0x70


def handshake(host: str, target: str, subprotocol: str | None) -> bytes:
    """The request that opens a connection. Its key is a constant: nothing here checks the server's answer to it."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


def handshake_end(data: bytes) -> int | None:
    """The offset where the server's answer ends and frames begin; None if more bytes have to be read.

    :raises ServerFault: if the server's status is not 101.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    status, _, _ = data.partition(b"\r\n")
    if status.split(b" ")[1:2] != [b"101"]:
        raise ServerFault(f"the server refused the handshake: {status.decode('latin-1')}")
    return end + 4


def encode(opcode: int, payload: bytes) -> bytes:
    """One unfragmented client frame."""
    size = len(payload)
    if size < 126:
        head = pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 2**16:
        head = pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    return head + _NO_MASK + payload


class MessageReader:
    """Turns bytes from the server into messages; joins fragments, and keeps incomplete frames for the next call."""

    __slots__ = ("_fragments", "_opcode", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._opcode = 0
        self._fragments: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages and control frames that are complete now, as (opcode, payload).

        :raises ServerFault: if a frame is masked or uses a reserved bit.
        """
        if self._rest:
            data = self._rest + data
        messages: list[tuple[int, bytes]] = []
        start, size = 0, len(data)
        while size - start >= 2:
            first, length = data[start], data[start + 1]
            body = start + 2
            if first & _RESERVED or length & _MASKED:
                raise ServerFault("a frame of the server is masked or uses an extension")
            if length > 125:
                wide = 2 if length == 126 else 8
                if size - body < wide:
                    break
                (length,) = unpack_from("!H" if wide == 2 else "!Q", data, body)
                body += wide
            end = body + length
            if end > size:
                break
            self._take(first, data[body:end], messages)
            start = end
        self._rest = data[start:]
        return messages

    def _take(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE or (first & _FIN and opcode):
            messages.append((opcode, payload))
            return
        if opcode:
            self._opcode = opcode
        self._fragments.append(payload)
        if first & _FIN:
            messages.append((self._opcode, b"".join(self._fragments)))
            self._fragments.clear()
