"""The deadline of a transfer, by its progress: a large file may take hours, and a client that stalls is dropped."""

from __future__ import annotations

from typing import Final

import trio

WINDOW_S: Final = 30.0
LEAST_BYTES: Final = 32 * 1024
"""A client has to move so many bytes in each such time, 9 kbit/s; the last bytes of a transfer have it, too."""


class Stalled(Exception):
    """The client has moved too little."""


class Progress:
    """The progress of one transfer.

    :ivar deadline: by Trio's clock.
    """

    def __init__(self) -> None:
        self.deadline = trio.current_time() + WINDOW_S
        self._moved = 0
        self._noted = 0

    def note(self, moved: int) -> None:
        """So many bytes more have moved."""
        self._moved += moved
        self.note_total(self._moved)

    def note_total(self, moved: int) -> None:
        """So many bytes have moved since the beginning."""
        if moved - self._noted >= LEAST_BYTES:
            self._noted = moved
            self.deadline = trio.current_time() + WINDOW_S

    def check(self) -> None:
        """
        :raises Stalled: if the deadline has passed.
        """
        if trio.current_time() >= self.deadline:
            raise Stalled
