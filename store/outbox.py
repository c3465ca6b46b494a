"""The outbox: what must follow from a commit, kept in Postgres until it has been decided.

A message's own commit appends a row. `decide` turns rows that have waited through the debounce window into one job
`offline_notice` for each recipient who has not marked them delivered. What others have delivered and not read waits on,
and `end_read_windows` does the same for those who have still not read it.
"""

from __future__ import annotations

from typing import Final

from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("outbox")

BATCH: Final = 1000
"""Rows of one pass; more wait for the next, which follows at once."""


async def decide(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the debounce window of what has waited through it: (messages decided, users to be notified).

    Any number of workers may call it at once; a crash in it changes nothing.
    """
    [(decided, noticed)] = await pool.fetch(_sql.decide, {"window_s": window_s, "limit": BATCH})
    return decided, noticed


async def end_read_windows(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the read window of what has waited through it: (messages looked at, users who have not read them).

    As `decide`, any number of workers may call it at once.
    """
    [(ended, noticed)] = await pool.fetch(_sql.end_read_windows, {"window_s": window_s, "limit": BATCH})
    return ended, noticed


async def wait_for_read(pool: Pool, user: bytes, *, window_s: float) -> None:
    """Something was delivered to a user before a notice of it was given: the read window is to decide.

    Does nothing where nothing is unread, or has been for as long as that already.
    """
    await pool.fetch(_sql.wait_for_read, {"user": uuid(user), "window_s": window_s})
