"""Waits before another attempt."""

from __future__ import annotations

from random import SystemRandom
from typing import Final

FIRST_S: Final = 0.5
MOST_S: Final = 60.0
"""`protocol/SPEC.md`, 13.3: a server that comes back must not meet everyone at once."""

uniform: Final = SystemRandom().uniform


def delay_s(failures: int, first_s: float = FIRST_S, most_s: float = MOST_S) -> float:
    """A random wait ("full jitter": Brooker, AWS Architecture Blog, 2015) whose range doubles with each failure.

    :param failures: the number of failures right before this one, from 0.
    :param first_s: the range after the first one.
    :param most_s: the longest range; `first_s` if that is longer, as a server may have asked for it.
    """
    return uniform(0, min(max(most_s, first_s), first_s * 2 ** min(failures, 16)))


def after_s(retry_after_ms: int, failures: int) -> float:
    """A wait of at least the time that the server asked for, and some jitter."""
    return retry_after_ms / 1000 + delay_s(failures) / 2
