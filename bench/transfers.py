"""Clients that upload and download files, as a process of the lowest priority: in life they are other machines.

    python -m bench.transfers --seconds 6 REQUESTS

REQUESTS is a file of JSON: for each client the method, the URL and the size of its request, which it repeats until the
time is over. The program prints what all have moved, in one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 1024 * 1024

TIMEOUT_S: Final = 60.0


class TransferError(Exception):
    """A server did not do what it was asked to."""


def connect(url: str) -> socket.socket:
    """A connection to the host of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), TIMEOUT_S)


def head_of(method: str, url: str, size_bytes: int | None = None) -> bytes:
    """The head of a request.

    :param size_bytes: of its body; None: it has none.
    """
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    length = "" if size_bytes is None else f"content-length: {size_bytes}\r\n"
    return f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n{length}\r\n".encode()


def read_head(connection: socket.socket) -> tuple[dict[str, str], int]:
    """The headers of an answer, and the number of bytes of its body that came with them.

    :raises TransferError: if the status is none of success.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise TransferError("the server has closed the connection")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split()[1] not in ("200", "206"):
        raise TransferError(f"{status} {body[:200]!r}")
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}, len(body)


def download(connection: socket.socket, url: str, buffer: memoryview) -> int:
    """Download once; the size of the file."""
    connection.sendall(head_of("GET", url))
    headers, got = read_head(connection)
    size_bytes = int(headers["content-length"])
    while got < size_bytes:
        count = connection.recv_into(buffer[: size_bytes - got])
        if not count:
            raise TransferError(f"{got} of {size_bytes} bytes")
        got += count
    return size_bytes


def upload(connection: socket.socket, url: str, body: bytes) -> int:
    """Upload once; the size."""
    connection.sendall(head_of("PUT", url, len(body)))
    connection.sendall(body)
    read_head(connection)
    return len(body)


class Client(threading.Thread):
    """Repeats one request until a moment.

    :ivar moved: bytes so far.
    """

    def __init__(self, method: str, url: str, size_bytes: int, until: float) -> None:
        super().__init__(daemon=True)
        self.moved = 0
        self.error = ""
        self._method = method
        self._url = url
        self._body = bytes(size_bytes) if method == "PUT" else b""
        self._until = until

    def run(self) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        try:
            with connect(self._url) as connection:
                while time.monotonic() < self._until:
                    if self._method == "PUT":
                        self.moved += upload(connection, self._url, self._body)
                    else:
                        self.moved += download(connection, self._url, buffer)
        except (OSError, TransferError) as error:
            self.error = f"{type(error).__name__}: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.transfers", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("requests", type=Path)
    options = parser.parse_args()
    os.nice(19)
    began = time.monotonic()
    requests: list[dict[str, Any]] = json.loads(options.requests.read_text())
    clients = [Client(**request, until=began + options.seconds) for request in requests]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(
        json.dumps(
            {
                "moved_mb_per_s": round(sum(client.moved for client in clients) / (time.monotonic() - began) / 1e6, 1),
                "errors": [client.error for client in clients if client.error],
            }
        )
    )


if __name__ == "__main__":
    main()
