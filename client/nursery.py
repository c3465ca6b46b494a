"""A nursery for context managers that hide it from their users."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncGenerator[trio.Nursery]:
    """A nursery that is cancelled when its body ends, and that raises a single exception without a group.

    Trio wraps every exception that leaves a nursery in a group, even one of the body: an `except RequestRefused` around
    `async with connect(...)` would never match.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        [error] = group.exceptions
        raise error from error.__cause__
