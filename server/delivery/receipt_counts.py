"""Receipts in large conversations: a message's author gets counts of the participants that have it and have read it.

The counter gathers the moved marks of such a conversation for `INTERVAL_S`. Then one query counts, for the latest of
the messages that the marks have passed. So the cost of a message to 1,000 participants grows with the time that they
take to read it, not with their number.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from protocol.codec import encode
from protocol.frames import ReceiptCounts
from server.delivery.broadcast import Broadcast
from store.errors import StoreError
from store.marks import MovedMarks, receipt_counts
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 2.0
"""The author hears of the first reader at once, and of later ones after this: no person follows a faster number."""

MAX_MESSAGES: Final = 20
"""Messages that one query counts, the latest that marks have passed; a client asks for earlier ones (`status`)."""


class ReceiptCounter:
    """The large conversations whose marks have moved here, each with the messages that the marks have passed since the
    last count."""

    def __init__(self, pool: Pool, broadcast: Broadcast) -> None:
        self._pool = pool
        self._broadcast = broadcast
        self._spans: dict[bytes, tuple[int, int]] = {}
        self._moved = trio.Event()

    def note(self, moved: MovedMarks) -> None:
        """Marks have moved in a large conversation. Atomic (no checkpoint)."""
        self._note(moved.conversation, moved.after, moved.delivered)

    def note_latest(self, conversation: bytes, upto: int) -> None:
        """Marks may have moved in a large conversation, by an unknown distance. Atomic (no checkpoint)."""
        self._note(conversation, 0, upto)

    async def run(self) -> None:
        """Count and push, at most once per `INTERVAL_S`, until cancelled."""
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            spans, self._spans = self._spans, {}
            for conversation, (after, upto) in spans.items():
                try:
                    await self._tell(conversation, after, upto)
                except StoreError as error:
                    log.warning("receipts_not_counted", conversation=conversation.hex(), error=str(error))
                    self._note(conversation, after, upto)
            await trio.sleep(INTERVAL_S)

    def _note(self, conversation: bytes, after: int, upto: int) -> None:
        first, last = self._spans.get(conversation, (after, upto))
        self._spans[conversation] = (min(after, first), max(upto, last))
        self._moved.set()

    async def _tell(self, conversation: bytes, after: int, upto: int) -> None:
        found = await receipt_counts(self._pool, conversation, after=after, upto=upto, limit=MAX_MESSAGES)
        for author, told in found.items():
            frame = encode(ReceiptCounts(conversation, told))
            self._broadcast.push(AddressedPush(conversation, 0, frame, (author,)))
        self._broadcast.flush()
