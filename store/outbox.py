"""The outbox: messages whose recipients may need a notice, kept in Postgres until that is decided.

A message's own commit appends a row. `decide` turns rows that have waited through the debounce window into one job
`offline_notice` for each recipient who has not marked them delivered. Messages that are delivered and unread wait on,
and `end_read_windows` does the same for recipients who still have not read them.
"""

from __future__ import annotations

from typing import Final

from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("outbox")

BATCH: Final = 1000
"""Rows of one batch; the next batch follows at once if there are more."""


async def decide(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the debounce window of rows that have waited through it: (messages decided, users to be notified).

    Any number of workers may call it at once; a crash in it changes nothing.
    """
    [(decided, noticed)] = await pool.fetch(_sql.decide, {"window_s": window_s, "limit": BATCH})
    return decided, noticed


async def end_read_windows(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the read window of rows that have waited through it: (messages looked at, users who have not read them).

    Like `decide`, any number of workers may call it at once.
    """
    [(ended, noticed)] = await pool.fetch(_sql.end_read_windows, {"window_s": window_s, "limit": BATCH})
    return ended, noticed


async def wait_for_read(pool: Pool, user: bytes, *, window_s: float) -> None:
    """A message was delivered to a user before a notice about it was sent: leave the decision to the read window.

    Does nothing if the user has read everything, or if messages have been unread for as long as the window already.
    """
    await pool.fetch(_sql.wait_for_read, {"user": uuid(user), "window_s": window_s})


async def is_unread(pool: Pool, user: bytes, conversation: bytes, seq: int) -> bool:
    """Whether a user takes part in a conversation and has not read this message of it."""
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "seq": seq}
    return bool(await pool.fetch(_sql.is_unread, parameters))
