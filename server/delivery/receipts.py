"""Receipts: the authors of a conversation's messages get one push for all marks that have passed them in a while.

The sender gathers the moved marks of each conversation for `INTERVAL_S`, and keeps the last ones of each participant.
So the pushes that a message causes grow with the time that its recipients take to read it, not with their number. In a
conversation of many participants, marks are counted instead (`server.delivery.receipt_counts`).
"""

from __future__ import annotations

from typing import Final

import trio

from protocol.codec import encode
from protocol.frames import Receipts
from server.delivery.broadcast import Broadcast
from store.marks import MovedMarks
from store.redis.entries import AddressedPush

INTERVAL_S: Final = 0.5
"""An author hears of the first mark at once, and of later ones after this: no person follows faster ticks."""


class ReceiptSender:
    """The conversations whose marks have moved here since the last push: each with its marks, and the authors."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._waiting: dict[bytes, tuple[dict[bytes, tuple[int, int]], set[bytes]]] = {}
        self._moved = trio.Event()

    def note(self, moved: MovedMarks) -> None:
        """Tell the authors of these marks, which others may see, soon. Atomic (no checkpoint)."""
        assert moved.authors is not None
        marks, authors = self._waiting.setdefault(moved.conversation, ({}, set()))
        marks[moved.user] = (moved.delivered, moved.read)
        authors.update(moved.authors)
        self._moved.set()

    async def run(self) -> None:
        """Push, at most once per `INTERVAL_S`, until cancelled. First `push_now`: otherwise marks may remain untold."""
        while True:
            await self._moved.wait()
            self.push_now()
            await trio.sleep(INTERVAL_S)

    def push_now(self) -> None:
        """Push all that waits. Atomic (no checkpoint)."""
        self._moved = trio.Event()
        waiting, self._waiting = self._waiting, {}
        for conversation, (marks, authors) in waiting.items():
            frame = encode(Receipts(conversation, None, [(user, *mark) for user, mark in marks.items()]))
            # Marks of several users; the conversation stands for them.
            self._broadcast.push(AddressedPush(conversation, 0, frame, authors, cause=conversation))
        self._broadcast.flush()
