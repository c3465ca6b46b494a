"""Calls of an object store for one request of a client, several at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import trio

from store.errors import StoreError

_T = TypeVar("_T")
_R = TypeVar("_R")

CALLS_AT_ONCE: Final = 4
"""Calls of the object store at the same time for one request, which may name ten files with thumbnails."""


async def at_once(call: Callable[[_T], Awaitable[_R]], items: Sequence[_T]) -> list[_R]:
    """The results of calls, of which `CALLS_AT_ONCE` run at a time.

    :raises StoreError: of the first that fails; the others are cancelled.
    """
    results: dict[int, _R] = {}
    errors: list[StoreError] = []
    left = iter(enumerate(items))

    async def work() -> None:
        for n, item in left:
            try:
                results[n] = await call(item)
            except StoreError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(CALLS_AT_ONCE, len(items))):
            nursery.start_soon(work)
    if errors:
        raise errors[0]
    return [results[n] for n in range(len(items))]
