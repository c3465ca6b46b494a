"""The opening handshake of a WebSocket, as the server double answers it (RFC 6455, section 4.2). Sans-IO."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Final

from protocol import limits

MAX_HEAD_BYTES: Final = 16 * 1024
"""The most bytes of a request with its headers; clients send less than 1 KiB."""

END: Final = b"\r\n\r\n"
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class WrongHandshake(Exception):
    """The client does not begin as the specification says.

    :ivar status: of the HTTP answer.
    :ivar section: of the specification.
    """

    def __init__(self, status: int, detail: str, section: str = "1.1") -> None:
        super().__init__(f"SPEC {section}: {detail}")
        self.status = status
        self.section = section


def accept(head: bytes) -> bytes:
    """The answer to an opening request.

    :param head: up to the blank line.
    :raises WrongHandshake: if it is not one for a socket of this protocol.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    method, _, rest = first.partition(" ")
    path = rest.partition(" ")[0]
    if method != "GET" or path.partition("?")[0] != limits.SOCKET_PATH:
        raise WrongHandshake(404, f"the client asks for `{method} {path}`, not `GET {limits.SOCKET_PATH}`")
    if headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-key" not in headers:
        raise WrongHandshake(426, "the request asks for no WebSocket")
    offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]
    if limits.SUBPROTOCOL not in offered:
        raise WrongHandshake(400, f"the client does not offer the subprotocol `{limits.SUBPROTOCOL}`")
    key = headers["sec-websocket-key"].encode("latin-1")
    token = b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {token}\r\nSec-WebSocket-Protocol: {limits.SUBPROTOCOL}\r\n\r\n"
    ).encode()


def refusal(status: int, reason: str, retry_after_s: int | None = None) -> bytes:
    """An answer that ends the connection."""
    later = "" if retry_after_s is None else f"Retry-After: {retry_after_s}\r\n"
    body = reason.encode()
    head = f"HTTP/1.1 {status} Refused\r\n{later}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
