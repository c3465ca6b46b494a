"""An HTTP load: connections that each have one request in flight, as cheap as it can be in Python.

The connections read only the status and length of answers, so that the benchmark measures the server, not the
generator.
"""

from __future__ import annotations

import math
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, cast

from bench.processes import LOOPBACK

TIMEOUT_S: Final = 30.0

MAX_REQUESTS: Final = 900
"""Requests on one connection. Hypercorn closes a connection after 1,000, and only its headers announce that."""


@dataclass
class HttpRun:
    """The results: seconds of each answer, seconds of all together, and the error of the first bad answer."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answer_bytes: int = 0
    first_error: str = ""


class HttpClientConnection:
    """A keep-alive connection with one request in flight.

    :param address: that it comes from.
    :ivar asked: requests so far.
    :ivar answer_bytes: size of the last whole answer.
    """

    def __init__(self, port: int, address: str = LOOPBACK) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), TIMEOUT_S, (address, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.asked = 0
        self.answer_bytes = 0
        self._status = b""
        self._received = bytearray()
        self._body = self._end = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: bytes, status: int = 200) -> None:
        """Send a request whose good answer has this status."""
        self.asked += 1
        self._status = b"HTTP/1.1 %d" % status
        self._received.clear()
        self._body = self._end = 0
        self.sent_at = time.perf_counter()
        self._socket.sendall(request)

    def read(self) -> str | None:
        """Read what has come of the answer. Returns None until it is whole, then its error, empty if it is good."""
        data = self._socket.recv(1 << 18)
        if not data:
            return "the server closed the connection"
        self._received += data
        if not self._body and (error := self._read_head()):
            return error
        if not self._body or not self._is_whole():
            return None
        self.answer_bytes = self._end
        return ""

    def headers(self) -> dict[str, str]:
        """The headers of the answer; their names in small letters."""
        _, *lines = self._received[: self._body].decode("latin-1").rstrip().split("\r\n")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _read_head(self) -> str:
        """Find out where the body begins and ends, if the whole head has come. Returns an error, or nothing."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return ""
        head = bytes(self._received[:end])
        if not head.startswith(self._status):
            return bytes(self._received[:200]).decode(errors="replace")
        self._body = end + 4
        head = head.lower()
        at = head.find(b"content-length:")
        if self._status.endswith(b"304"):
            self._end = self._body
        elif at >= 0:
            self._end = self._body + int(head[at + 15 :].split(b"\r\n", 1)[0])
        elif b"transfer-encoding: chunked" not in head:
            return "an answer without Content-Length"
        return ""

    def _is_whole(self) -> bool:
        return len(self._received) >= self._end if self._end else self._has_last_chunk()

    def _has_last_chunk(self) -> bool:
        """Go from chunk to chunk. The servers send no trailers."""
        at = self._body
        while (line := self._received.find(b"\r\n", at)) >= 0:
            size = int(self._received[at:line], 16)
            at = line + 2 + size + 2
            if not size:
                self._end = at
                return len(self._received) >= at
        return False


def request(path: str, **headers: str) -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {LOOPBACK}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def headers_of(port: int, request: bytes) -> dict[str, str]:
    """The headers of the answer to one request.

    :raises ConnectionError: if the answer is not good.
    """
    with closing(HttpClientConnection(port)) as connection:
        connection.ask(request)
        while (error := connection.read()) is None:
            pass
        if error:
            raise ConnectionError(error)
        return connection.headers()


def load(
    port: int,
    requests: Iterable[bytes],
    connections: int,
    *,
    seconds: float = math.inf,
    status: int = 200,
    before: Callable[[], None] = lambda: None,
) -> HttpRun:
    """Make the requests one after the other, each once, until this number of seconds has passed.

    :param status: of a good answer.
    :param before: called before each request; the run's seconds leave the time out that it takes.
    """
    return _Load(port, status, before).run(iter(requests), connections, seconds)


class _Load:
    def __init__(self, port: int, status: int, before: Callable[[], None]) -> None:
        self._port, self._status, self._before = port, status, before
        self._selector = selectors.DefaultSelector()
        self._run = HttpRun()

    def run(self, todo: Iterator[bytes], connections: int, seconds: float) -> HttpRun:
        run, began = self._run, time.perf_counter()
        for first in islice(todo, connections):
            self._ask(self._connect(), first)
        while self._selector.get_map() and not run.first_error:
            ready = self._selector.select(TIMEOUT_S)
            if not ready:
                run.first_error = f"no answer within {TIMEOUT_S:g} s"
            for key, _ in ready:
                connection = cast(HttpClientConnection, key.fileobj)
                if self._is_answered(connection):
                    following = None if time.perf_counter() - began > seconds else next(todo, None)
                    self._go_on(connection, following)
        run.seconds += time.perf_counter() - began
        for key in list(self._selector.get_map().values()):
            self._close(cast(HttpClientConnection, key.fileobj))
        self._selector.close()
        return run

    def _is_answered(self, connection: HttpClientConnection) -> bool:
        error = connection.read()
        if error is None:
            return False
        run = self._run
        run.first_error = run.first_error or error
        run.latencies.append(time.perf_counter() - connection.sent_at)
        run.answer_bytes += connection.answer_bytes
        return True

    def _go_on(self, connection: HttpClientConnection, request: bytes | None) -> None:
        """Make the next request on this connection, or on a new one if it has served its time; close it without one."""
        if request is None:
            self._close(connection)
            return
        if connection.asked >= MAX_REQUESTS:
            self._close(connection)
            connection = self._connect()
        self._ask(connection, request)

    def _ask(self, connection: HttpClientConnection, request: bytes) -> None:
        since = time.perf_counter()
        self._before()
        self._run.seconds -= time.perf_counter() - since
        connection.ask(request, self._status)

    def _connect(self) -> HttpClientConnection:
        connection = HttpClientConnection(self._port)
        self._selector.register(connection, selectors.EVENT_READ)
        return connection

    def _close(self, connection: HttpClientConnection) -> None:
        self._selector.unregister(connection)
        connection.close()
