"""Accepting sockets. The listener logs the failure of one connection, and goes on with the others."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from array import array
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog
import trio

from runtime.open_files import AcceptFailures

log = structlog.get_logger(__name__)

BACKLOG: Final = 1024
"""Connections that the kernel accepts ahead of us: thousands of reconnecting clients come faster than tasks switch."""

AT_ONCE: Final = 4
"""Connections that are accepted before the other tasks run: 10,000 clients that are accepted together are served
together, all of them too late."""

REST_S: Final = 0.1
"""From the last request to connect that the kernel takes until the end of its handshake: a round trip."""

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; the module `socket` does not have it
_NO_REQUESTS_TO_CONNECT: Final = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # take it
)
"""A classic BPF program (Linux, Documentation/networking/filter.rst): code, jump if true, jump if false, value."""

Serve = Callable[[socket.socket, str], Awaitable[None]]


class PortTaken(Exception):
    """Another process listens on the port; the text says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket.

    :raises PortTaken: if the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"Port {port} is taken: stop what is using it, or set another port."
                " A second process of the same kind on this machine needs INSTANCE=2."
            ) from None
        raise
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


async def accept_connections(
    listening: socket.socket, nursery: trio.Nursery, serve: Serve, wait_calm: Callable[[], Awaitable[None]]
) -> None:
    """Start `serve(socket, address)` in `nursery` for each connection, until cancelled.

    :param wait_calm: awaited before each `AT_ONCE` connections; the others wait in the kernel.
    """
    failures = AcceptFailures(trio.current_time)
    while True:
        await trio.lowlevel.wait_readable(listening)
        await wait_calm()
        try:
            for _ in range(AT_ONCE):
                sock, address = listening.accept()
                _configure(sock)
                nursery.start_soon(_serve_guarded, serve, sock, address[0])
        except BlockingIOError:
            continue
        except ConnectionError:
            continue  # The client closed the connection before we accepted it.
        except OSError as error:
            # Out of file descriptors or memory: open connections matter more than new ones.
            failures.note(error)
            await trio.sleep(0.1)


async def accept_rest(listening: socket.socket, nursery: trio.Nursery, serve: Serve) -> None:
    """Close the socket without losing a connection: start `serve` in `nursery` for those that the kernel holds.

    A socket that is closed at once resets them, and their clients may have sent a request. So the kernel first drops
    further requests to connect, on Linux; their clients repeat them after a second, and are refused.
    """
    with listening:
        _drop_requests_to_connect(listening)
        await trio.sleep(REST_S)
        with suppress(OSError):  # BlockingIOError: there is none left. With no file left, the others cannot be served.
            while True:
                sock, address = listening.accept()
                _configure(sock)
                nursery.start_soon(_serve_guarded, serve, sock, address[0])


def _drop_requests_to_connect(listening: socket.socket) -> None:
    if sys.platform != "linux":
        return
    program = array("B", b"".join(struct.pack("HBBI", *each) for each in _NO_REQUESTS_TO_CONNECT))
    described = struct.pack("HP", len(_NO_REQUESTS_TO_CONNECT), program.buffer_info()[0])
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    except OSError as error:  # a sandbox that emulates Linux may not have it
        log.warning("filter_refused", error=str(error))


async def _serve_guarded(serve: Serve, sock: socket.socket, address: str) -> None:
    try:
        await serve(sock, address)
    except Exception:
        log.exception("connection_failed")
    finally:
        sock.close()


def _configure(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel finds a peer that vanished without closing, at no cost to us.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
