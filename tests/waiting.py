"""Waiting for a condition, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

PATIENCE_S = 5.0
"""For anything that takes milliseconds; only a fault makes a test wait for it."""


async def wait_for(condition: Callable[[], Any], *, what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; it is asked again and again, with time for others in between."""
    deadline = trio.current_time() + timeout_s
    while not condition():
        assert trio.current_time() < deadline, f"not within {timeout_s:g} s: {what}"
        await trio.sleep(0.005)
