"""The opening handshake of a WebSocket, on the server's side: the one file here that uses trio-websocket.

`server.transport.upgrade` answers requests of the form that all clients use; trio-websocket checks and answers all
others. `protocol.websocket` reads the bytes after the request. So an open connection needs neither the task nor the
parsers of trio-websocket (docs/decisions/0008).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketRequest, wrap_server_stream
from wsproto.utilities import ProtocolError

from protocol import limits
from server.transport.admission import ADDRESS_RETRY_AFTER_S, UNWELCOMED_PER_S
from server.transport.upgrade import plain_upgrade

log = structlog.get_logger(__name__)

MAX_REQUEST_BYTES: Final = 16 * 1024
"""Request line and headers. Browsers and proxies send one or two KB; h11 has the same limit."""

_END: Final = b"\r\n\r\n"
_REQUEST: Final = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n")
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade[ \t]*:")

_NO_REQUEST_BODY: Final = b"This port speaks WebSocket over HTTP/1.1, and no other version of HTTP.\n"
_NO_REQUEST: Final = b"\r\n".join(
    (
        b"HTTP/1.1 400 Bad Request",
        b"Content-Type: text/plain",
        b"Connection: close",
        b"Content-Length: %d" % len(_NO_REQUEST_BODY),
        b"",
        _NO_REQUEST_BODY,
    )
)
"""The answer to a head that is no request of HTTP/1, such as the preface of HTTP/2. A client that begins thousands of
streams behind it costs this answer."""

_NO_UPGRADE_BODY: Final = (
    f"This port speaks WebSocket: connect to {limits.SOCKET_PATH} with the subprotocol {limits.SUBPROTOCOL}."
    " HTTP is at the port of web.\n"
).encode()
_NO_UPGRADE: Final = b"\r\n".join(
    (
        b"HTTP/1.1 426 Upgrade Required",
        b"Upgrade: websocket",
        b"Content-Type: text/plain",
        b"Connection: Upgrade, close",
        b"Content-Length: %d" % len(_NO_UPGRADE_BODY),
        b"",
        _NO_UPGRADE_BODY,
    )
)
"""The answer to a request of HTTP that asks for no upgrade (RFC 9110, section 15.5.22)."""


def refused_address(limit: int) -> bytes:
    """The answer to an address that has `limit` connections, whether or not its request was read."""
    return _refused(b"%d connections from one address to this node" % limit)


def refused_unwelcomed() -> bytes:
    """The answer to an address that has had too many connections without a hello that was accepted."""
    return _refused(b"%d connections a second from one address whose hello is not accepted" % UNWELCOMED_PER_S)


def _refused(shown: bytes) -> bytes:
    body = b"limit %s: %s.\n" % (limits.CONNECTIONS_PER_ADDRESS.name.encode(), shown)
    return b"\r\n".join(
        (
            b"HTTP/1.1 429 Too Many Requests",
            b"Retry-After: %d" % ADDRESS_RETRY_AFTER_S,
            b"Content-Type: text/plain",
            b"Connection: close",
            b"Content-Length: %d" % len(body),
            b"",
            body,
        )
    )


async def open_websocket(
    first: bytes,
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], None],
    admit: Callable[[list[str]], bytes | None],
    answer_plain: Callable[[bytes], Awaitable[bytes | None]],
) -> bytes | None:
    """Read the request, write the answer.

    :param first: the beginning of the request, as far as the caller has read it.
    :param read: returns the client's next bytes, b"" at their end; cancelled only while it waits.
    :param admit: called with the values of X-Forwarded-For; returns None, or the bytes that refuse the client.
    :param answer_plain: called with the head of a request that asks for no upgrade; returns its answer, if it has one.
    :returns: the bytes that the client sent after its request; None if the WebSocket was not opened, for any reason.
    :raises trio.BrokenResourceError: if the connection was lost meanwhile.
    """
    head, after = await _read_head(first, read)
    if not head:
        return None
    upgrade = plain_upgrade(head)
    if upgrade is not None:
        crowded = admit(upgrade.forwarded_for)
        write(upgrade.answer if crowded is None else crowded)
        return after if crowded is None else None
    if not _REQUEST.match(head):
        write(_NO_REQUEST)
        return None
    if not _UPGRADE.search(head):
        write(await answer_plain(head) or _NO_UPGRADE)
        return None
    stream = _RequestStream(head, write)
    is_open = False
    try:
        async with trio.open_nursery() as reading:
            stream.end = reading.cancel_scope.cancel
            request = await wrap_server_stream(reading, stream)
            refusal = _refusal(request)
            crowded = admit(_forwarded_for(request))
            if crowded is not None:
                write(crowded)
            elif refusal is None:
                await request.accept(subprotocol=limits.SUBPROTOCOL)
                is_open = True
            else:
                status, detail = refusal
                await request.reject(status, extra_headers=[(b"content-type", b"text/plain")], body=detail.encode())
            reading.cancel_scope.cancel()
    except* (ConnectionClosed, HandshakeError):
        pass  # The client sent an invalid handshake; trio-websocket has written the answer, if any.
    except* (ProtocolError, UnicodeError) as errors:
        log.info("handshake_failed", errors=[repr(error) for error in errors.exceptions])
    return after if is_open else None


async def _read_head(first: bytes, read: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bytes]:
    """A request up to its empty line, and the bytes after it; both empty if the client sent no HTTP request."""
    head = bytearray()
    while _END not in head:
        data, first = first or await read(), b""
        # An HTTP request begins with a letter, a TLS hello with the byte 22.
        if not data or (not head and not data[:1].isalpha()) or len(head) > MAX_REQUEST_BYTES:
            return b"", b""
        head += data
    end = head.index(_END) + len(_END)
    return bytes(head[:end]), bytes(head[end:])


class _RequestStream(trio.abc.Stream):
    """The stream that trio-websocket reads: one request, and nothing after it."""

    def __init__(self, head: bytes, write: Callable[[bytes], None]) -> None:
        self._head = head
        self._write = write
        self._is_read = False
        self.end: Callable[[], None] = lambda: None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._is_read:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self._is_read = True
        return self._head

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._write(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """trio-websocket gives up, and has written the reason; the connection closes the socket."""
        self.end()
        await trio.lowlevel.checkpoint()


def _refusal(request: WebSocketRequest) -> tuple[int, str] | None:
    if request.path.partition("?")[0] != limits.SOCKET_PATH:
        return 404, f"The WebSocket is at {limits.SOCKET_PATH}.\n"
    if limits.SUBPROTOCOL not in request.proposed_subprotocols:
        return 400, f"Ask for the subprotocol {limits.SUBPROTOCOL} (Sec-WebSocket-Protocol).\n"
    return None


def _forwarded_for(request: WebSocketRequest) -> list[str]:
    return [value.decode("latin-1") for name, value in request.headers if name.lower() == b"x-forwarded-for"]
