"""Up-to marks that the server does not know yet. Sans-IO."""

from __future__ import annotations

from protocol import limits


class MarkTracker:
    """One kind of marks of all conversations: those that are due, and those that the server has noted. They never go
    back during a stay."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, int] = {}
        self._known: dict[bytes, int] = {}

    def lift(self, conversation: bytes, seq: int) -> None:
        """Mark the conversation up to `seq`, unless it is already."""
        if seq > max(self._known.get(conversation, 0), self._wanted.get(conversation, 0)):
            self._wanted[conversation] = seq

    def forget(self, conversation: bytes) -> None:
        """The user no longer takes part; the next stay has marks of its own."""
        self._wanted.pop(conversation, None)
        self._known.pop(conversation, None)

    def due(self, most: int = limits.MAX_MARKS) -> list[tuple[bytes, int]]:
        """Pairs (conversation, seq) above the confirmed ones; those due longest first."""
        return list(self._wanted.items())[:most]

    def confirm(self, marks: list[tuple[bytes, int]]) -> None:
        """The server has noted these, or never will."""
        for conversation, seq in marks:
            self._known[conversation] = max(seq, self._known.get(conversation, 0))
            if self._wanted.get(conversation, 0) <= seq:
                self._wanted.pop(conversation, None)
