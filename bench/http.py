"""An HTTP load: connections that each have one request in flight, as cheap as it can be in Python.

The connections read only the status and length of answers, so that the benchmark measures the server, not the
generator.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

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


class _Connection:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((LOOPBACK, port), TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.received = bytearray()
        self.wanted = 0
        self.asked = 0

    def ask(self, request: bytes) -> None:
        self.asked += 1
        self.received.clear()
        self.wanted = 0
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def read(self) -> str | None:
        """Read what has come of the answer. Returns None until it is whole, then its error, empty if it is good."""
        data = self.sock.recv(1 << 18)
        if not data:
            return "the server closed the connection"
        self.received += data
        if not self.wanted:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = bytes(self.received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                return bytes(self.received[:200]).decode(errors="replace")
            at = head.find(b"content-length:")
            if at < 0:
                return "an answer without Content-Length"
            self.wanted = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        return "" if len(self.received) >= self.wanted else None


def request(path: str, **headers: str) -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {LOOPBACK}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def load(port: int, requests: Sequence[bytes], connections: int, *, seconds: float | None = None) -> HttpRun:
    """Make the requests one after the other: each request once, or again and again for this number of seconds."""
    run, todo = HttpRun(), _endless(requests) if seconds else iter(requests)
    selector = selectors.DefaultSelector()
    began = time.perf_counter()
    busy = 0
    for _ in range(connections):
        if (first := next(todo, None)) is None:
            break
        connection = _Connection(port)
        selector.register(connection.sock, selectors.EVENT_READ, connection)
        connection.ask(first)
        busy += 1
    while busy and not run.first_error:
        ready = selector.select(TIMEOUT_S)
        if not ready:
            run.first_error = f"no answer within {TIMEOUT_S:g} s"
        for key, _ in ready:
            connection = key.data
            error = connection.read()
            if error is None:
                continue
            now = time.perf_counter()
            run.first_error = run.first_error or error
            run.latencies.append(now - connection.sent_at)
            run.answer_bytes += connection.wanted
            following = None if seconds and now - began > seconds else next(todo, None)
            if following is None:
                selector.unregister(connection.sock)
                connection.sock.close()
                busy -= 1
            else:
                if connection.asked >= MAX_REQUESTS:
                    selector.unregister(connection.sock)
                    connection.sock.close()
                    connection = _Connection(port)
                    selector.register(connection.sock, selectors.EVENT_READ, connection)
                connection.ask(following)
    run.seconds = time.perf_counter() - began
    for key in list(selector.get_map().values()):
        key.data.sock.close()
    selector.close()
    return run


def _endless(requests: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from requests
