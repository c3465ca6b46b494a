"""A client of the hub without a socket."""

from __future__ import annotations

from typing import Any

import trio


class _Outbox:
    is_lagging = False


class IdleDevice:
    """A client of the hub that gets no frames."""

    def __init__(self, user: bytes, *, since_s: float = 3600.0) -> None:
        self.user = user
        self.device = user
        self.outbox: Any = _Outbox()
        self.registered_at = trio.current_time() - since_s

    def close(self, code: Any, detail: str) -> None:
        raise AssertionError("nothing is closed here")
