"""A nursery for an `async with` whose user should not have to know that there is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncGenerator[trio.Nursery]:
    """A nursery that is cancelled when its body ends, and out of which a single exception comes as itself.

    Trio wraps whatever leaves a nursery in a group, even what the body raised: an `except RequestRefused` around
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
