"""What no server can avoid for a send and a delivery, on this machine: system calls, and the flush of Postgres' log.

Each is a bare loop: processor time of this thread on TCP connections of the loopback interface, whose other ends wait
for nothing. A process that has to be woken for the bytes makes a system call dearer still.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import Final

REQUEST: Final = bytes(310)
REPLY: Final = bytes(45)
PUSH: Final = bytes(360)
"""WebSocket messages of a send of 200 bytes, of its acknowledgement, and of its push."""

_CONNECTIONS: Final = 64
_WAL_PAGE: Final = bytes(8192)


def system_calls_us(rounds: int = 200) -> dict[str, float]:
    """Processor time of one system call each, in microseconds: `recv` of a request, `send` of a reply and of a push,
    and `epoll` for each socket that is ready, with many ready at once."""
    took: dict[str, list[float]] = {"recv": [], "reply": [], "push": [], "epoll": []}
    with _connections() as (ours, theirs), closing(select.epoll()) as epoll:
        for each in ours:
            epoll.register(each.fileno(), select.EPOLLIN)
        for _ in range(rounds):
            for each in theirs:
                each.send(REQUEST)
            began = time.thread_time_ns()
            epoll.poll(0, _CONNECTIONS)
            took["epoll"].append(_us_each(began))
            began = time.thread_time_ns()
            for each in ours:
                each.recv(65536)
            took["recv"].append(_us_each(began))
            for name, data in (("reply", REPLY), ("push", PUSH)):
                began = time.thread_time_ns()
                for each in ours:
                    each.send(data)
                took[name].append(_us_each(began))
                for each in theirs:
                    each.recv(65536)
    return {name: round(median(each), 2) for name, each in took.items()}


def flush_ms(folder: Path, rounds: int = 50) -> float:
    """The time in which the disk of this folder takes a page of Postgres' log, in milliseconds."""
    took = []
    with NamedTemporaryFile(dir=folder) as file:
        for _ in range(rounds):
            began = time.perf_counter()
            os.pwrite(file.fileno(), _WAL_PAGE, 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return round(median(took), 3)


def _us_each(began_ns: int) -> float:
    return (time.thread_time_ns() - began_ns) / _CONNECTIONS / 1e3


@contextmanager
def _connections() -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Both ends of some TCP connections, non-blocking."""
    ours: list[socket.socket] = []
    theirs: list[socket.socket] = []
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(_CONNECTIONS):
                theirs.append(socket.create_connection(listener.getsockname()))
                ours.append(listener.accept()[0])
        for each in (*ours, *theirs):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs
    finally:
        for each in (*ours, *theirs):
            each.close()
