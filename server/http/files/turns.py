"""Turns of the threads that copy: few of them use the cores, and one the disk, so that others find both free."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

COPY_TURN_S: Final = 0.05
DISK_TURN_S: Final = 0.5
"""The longest wait for a turn: a disk that does not answer one thread stops no other."""

REST: Final = 3.0
"""Times as long as a write took does the disk rest from uploads: they have a quarter of it (measured: 220 MB/s of
900), and an fsync such as that of Postgres' log seldom meets them."""

MAX_REST_S: Final = 0.1


class CopyTurns:
    """Lets few threads copy at a time, so that cores stay free for others: a process that wakes up finds one at once.

    :param at_once: threads; by default as many as half of the cores.
    """

    def __init__(self, at_once: int = max(1, (os.cpu_count() or 1) // 2)) -> None:
        self._free = threading.Semaphore(at_once)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The block copies some bytes. It waits `COPY_TURN_S` at most."""
        with _turn(self._free, COPY_TURN_S):
            yield


class DiskTurns:
    """Lets one thread write to the disk at a time, and then lets the disk rest."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(1)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The block writes some bytes to the disk, and waits until it has them. It waits `DISK_TURN_S` at most before,
        and `MAX_REST_S` after."""
        with _turn(self._free, DISK_TURN_S):
            began = time.monotonic()
            yield
            time.sleep(min(MAX_REST_S, REST * (time.monotonic() - began)))


class TransferTurns:
    """The turns of all transfers of a process.

    :ivar copies: between a socket and a file.
    :ivar disk: from a file to the disk.
    """

    def __init__(self) -> None:
        self.copies: Final = CopyTurns()
        self.disk: Final = DiskTurns()


@contextmanager
def _turn(free: threading.Semaphore, longest_s: float) -> Iterator[None]:
    is_held = free.acquire(timeout=longest_s)
    try:
        yield
    finally:
        if is_held:
            free.release()
