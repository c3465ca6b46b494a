"""Looks in Postgres for what has happened lately, again and again.

No message between nodes can be lost that way. It does not matter which process has made a change, and whether it has
died since. After an outage a node asks for all the time that it missed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
import trio

from store.errors import StoreError

log = structlog.get_logger(__name__)
Change = TypeVar("Change")

MARGIN_S: Final = 15.0
"""Postgres takes the time of a change before its commit, which may take as long as a query, 10 s. So looks overlap, and
a change is found several times."""


async def follow_changes(
    read: Callable[[float], Awaitable[list[Change]]],
    take: Callable[[list[Change]], Awaitable[None]],
    *,
    poll_s: float,
    failed: str,
) -> None:
    """Until cancelled, look every `poll_s` seconds.

    :param read: finds the changes of the last so many seconds, by Postgres' clock.
    :param take: gets what each look has found.
    :param failed: the log event for a look that Postgres did not answer; the next one makes up for it.
    """
    asked_at = trio.current_time()
    while True:
        await trio.sleep(poll_s)
        now = trio.current_time()
        try:
            found = await read(now - asked_at + MARGIN_S)
        except StoreError as error:
            log.warning(failed, error=str(error))
            continue
        asked_at = now
        await take(found)
