"""The opening handshake for requests of the form that all our clients use, by RFC 6455, section 4.2; no I/O.

When thousands of clients reconnect at once, the handshake is their greatest cost: a general parser of HTTP takes a
millisecond for a request that every client of ours writes alike. `server.transport.handshake` leaves requests of any
other form to such a parser.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from typing import Final, NamedTuple

from protocol import limits

_REQUEST: Final = re.compile(
    rb"GET %s(?:\?[!-~]*)? HTTP/1\.1\r\n((?:[!#-'*+.^-z|~\w-]+:[\t -~]*\r\n)+)\r\n"
    % re.escape(limits.SOCKET_PATH.encode())
)
"""A request line and headers in one line each, of visible ASCII."""

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: " + limits.SUBPROTOCOL.encode() + b"\r\n\r\n"
)
_ONCE: Final = frozenset(
    (b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol")
)


class Upgrade(NamedTuple):
    """A request that can be accepted.

    :ivar answer: the bytes to write.
    :ivar forwarded_for: the values of X-Forwarded-For, in order.
    """

    answer: bytes
    forwarded_for: list[str]


def plain_upgrade(head: bytes) -> Upgrade | None:
    """The answer to a request, from its line to the empty line; None if it is not of the form that all clients use."""
    request = _REQUEST.fullmatch(head)
    if request is None:
        return None
    headers: dict[bytes, bytes] = {}
    forwarded_for: list[str] = []
    for line in request[1].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"x-forwarded-for":
            forwarded_for.append(value.decode("ascii"))
        elif name in _ONCE:
            if name in headers:
                return None
            headers[name] = value
        elif name in (b"content-length", b"transfer-encoding"):
            return None
    if headers.keys() != _ONCE or not _asks_for_us(headers):
        return None
    accept = b64encode(sha1(headers[b"sec-websocket-key"] + _GUID, usedforsecurity=False).digest())
    return Upgrade(_ANSWER % accept, forwarded_for)


def _asks_for_us(headers: dict[bytes, bytes]) -> bool:
    return (
        bool(headers[b"host"])
        and headers[b"upgrade"].lower() == b"websocket"
        and b"upgrade" in _tokens(headers[b"connection"].lower())
        and headers[b"sec-websocket-version"] == b"13"
        and _KEY.fullmatch(headers[b"sec-websocket-key"]) is not None
        and limits.SUBPROTOCOL.encode() in _tokens(headers[b"sec-websocket-protocol"])
    )


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.split(b",")]
