"""Counts of what passes between a node and its clients; all connections of a node share one object."""

from __future__ import annotations

from collections import Counter

from store.distribution import Distribution


class WireCounts:
    """Plain numbers, which the hot path adds to.

    :ivar offered: frames for clients by their `type_mark`, those that a slow reader misses included.
    :ivar dropped: offered frames that slow readers missed.
    :ivar sent_bytes: that the kernel has taken.
    :ivar send_calls: of the system.
    :ivar received_bytes: after the handshake.
    :ivar received: frames from clients by their class; refused ones by that of the error.
    :ivar refused: requests that were refused before they were served, by the name of the error.
    :ivar pauses: times that a connection was not read, since its user was deep in debt.
    :ivar lags: by reason.
    :ivar cuts: by reason.
    :ivar blocked_seconds: for which a client's full buffer held frames back.
    """

    __slots__ = (
        "blocked_seconds",
        "cuts",
        "dropped",
        "lags",
        "offered",
        "pauses",
        "received",
        "received_bytes",
        "refused",
        "send_calls",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.offered: Counter[bytes] = Counter()
        self.dropped = 0
        self.sent_bytes = 0
        self.send_calls = 0
        self.received_bytes = 0
        self.received: dict[type, int] = Counter()
        self.refused: Counter[str] = Counter()
        self.pauses = 0
        self.lags: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.blocked_seconds = Distribution()
