"""The outbox: what must follow from a commit, kept in Postgres until it has been decided.

A message's own commit appends a row. `decide` turns rows that have waited through the debounce window into one job
`offline_notice` for each recipient who has not marked them delivered.
"""

from __future__ import annotations

from typing import Final

from store import sql
from store.pool import Pool

_sql = sql.load("outbox")

BATCH: Final = 1000
"""Rows of one pass; more wait for the next, which follows at once."""


async def decide(pool: Pool, *, window_s: float) -> tuple[int, int]:
    """End the debounce window of what has waited through it: (messages decided, users to be notified).

    Any number of workers may call it at once; a crash in it changes nothing.
    """
    [(decided, noticed)] = await pool.fetch(_sql.decide, {"window_s": window_s, "limit": BATCH})
    return decided, noticed
