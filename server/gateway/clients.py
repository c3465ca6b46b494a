"""Counts open connections by the name of the client (`client` in `hello`), for the operator's metrics."""

from __future__ import annotations

from collections import Counter
from typing import Final

MAX_NAMES: Final = 64
"""Names that are counted apart at a time: a few programs in a few versions each. A client chooses its name freely, and
each name would be a label of a metric for ever; a user has at most half as many connections to a node."""

OTHER: Final = "other"
UNNAMED: Final = "unnamed"
"""Connections beyond `MAX_NAMES`, and connections without a name, are counted under these names."""


class ClientCounts:
    """Open connections by the name of their client. Atomic (no checkpoints)."""

    def __init__(self, most: int = MAX_NAMES) -> None:
        self._most = most
        self._connections: Counter[str] = Counter()

    def enter(self, name: str | None) -> str:
        """Count a connection; returns the name that it is counted under, which `leave` takes.

        When the last connection of a name has ended, its place is free for a new name.
        """
        counted = name or UNNAMED
        is_new = counted != UNNAMED and counted not in self._connections
        if is_new and len(self._connections.keys() - {OTHER, UNNAMED}) >= self._most:
            counted = OTHER
        self._connections[counted] += 1
        return counted

    def leave(self, counted: str) -> None:
        """Note that a connection that was counted under this name has ended."""
        self._connections[counted] -= 1
        if not self._connections[counted]:
            del self._connections[counted]

    def statistics(self) -> dict[str, int]:
        """Name -> open connections; at most `most` names, `OTHER` and `UNNAMED`."""
        return dict(self._connections)
