"""Up-to marks of participants, written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import Struct

from store import sql
from store.columns import BIGINTS, UUIDS
from store.errors import Overloaded, StoreError, Unavailable
from store.pool import Pool
from store.postgres import RETRYABLE, Error
from store.statement import Statement

log = structlog.get_logger(__name__)
_MARK: Final = Statement(
    sql.load("marks").mark, {"conversation": UUIDS, "user": UUIDS, "delivered": BIGINTS, "read": BIGINTS}
)

MAX_ATTEMPTS: Final = 3


class Mark(Struct, frozen=True, gc=False):
    """A user's devices have stored a conversation up to `delivered`, and the user has read it up to `read`."""

    user: bytes
    conversation: bytes
    delivered: int
    read: int = 0


async def mark(pool: Pool, batch: Sequence[Sequence[Mark]]) -> list[StoreError | None]:
    """Write the marks of many requests in one transaction; None, or an error, for each request.

    Marks only go up, never beyond the conversation's last message; marks on conversations that the user does not take
    part in are dropped, since to tell them apart would say which conversations exist.
    """
    marks = [mark for request in batch for mark in request]
    parameters = {
        "conversation": [mark.conversation for mark in marks],
        "user": [mark.user for mark in marks],
        "delivered": [mark.delivered for mark in marks],
        "read": [mark.read for mark in marks],
    }
    error: StoreError
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            await pool.run(_MARK, parameters)
        except (Unavailable, Overloaded) as unavailable:
            return [unavailable] * len(batch)
        except RETRYABLE:
            if attempt < MAX_ATTEMPTS:
                continue
            error = Unavailable("Postgres", "", "the marks met others' locks too often")
            return [error] * len(batch)
        except Error:
            log.exception("marks_refused", rows=len(marks))
            error = StoreError("Postgres refused the marks")
            return [error] * len(batch)
        break
    return [None] * len(batch)
