"""Waiting for a condition, with a deadline, and letting a time pass."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import trio

DEADLINE_S = 15.0
"""For conditions that take a second at most, with room for a busy machine. Only a fault makes a test wait for it."""

PATIENCE_S = 5.0
"""For conditions that take milliseconds, and that a slow repair, such as the end of a lease, must not fulfil."""

PAUSE_S = 0.005


async def let_pass(seconds: float, *, why: str) -> None:
    """Let this time pass, on the clock of the test, where the time itself is what the test is about.

    A test that waits for something to happen calls `wait_until`.

    :param why: what this time stands for.
    """
    await trio.sleep(seconds)


async def wait_until(condition: Callable[[], Any], what: str, *, timeout_s: float = DEADLINE_S) -> Any:
    """Ask until the condition holds, with time for others in between; return its value.

    :param condition: a function, or an asynchronous one.
    :param what: the missing fact, for the error.
    """
    with trio.move_on_after(timeout_s):
        while True:
            value = condition()
            if value := await value if inspect.isawaitable(value) else value:
                return value
            await trio.sleep(PAUSE_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


def wait_until_blocking(
    condition: Callable[[], Any], what: str | Callable[[], str], *, timeout_s: float = DEADLINE_S
) -> Any:
    """The same without Trio.

    :param what: a function if the fact is known only at the end.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what() if callable(what) else what}"
        time.sleep(PAUSE_S)
