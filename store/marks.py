"""Up-to marks of participants, written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import Struct

from store import sql
from store.columns import BIGINTS, UUID, UUIDS
from store.errors import Locked, Overloaded, StoreError, Unavailable
from store.pool import Pool
from store.postgres import RETRYABLE, Error
from store.statement import Statement

log = structlog.get_logger(__name__)
_sql = sql.load("marks")
_COLUMNS: Final = {"conversation": UUIDS, "user": UUIDS, "delivered": BIGINTS, "read": BIGINTS}
_MARK: Final = Statement(_sql.mark, _COLUMNS)
_MARK_UNLOCKED: Final = Statement(_sql.mark.replace("/* skip locked */", "skip locked"), _COLUMNS)
_BEHIND: Final = Statement(_sql.behind, _COLUMNS, (UUID, UUID))

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
    statement, locked = _MARK, set[tuple[bytes, bytes]]()
    error: StoreError
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            await pool.run(statement, parameters)
            if statement is _MARK_UNLOCKED:
                locked = {(conversation, user) for conversation, user in await pool.run(_BEHIND, parameters)}
        except (Unavailable, Overloaded) as unavailable:
            return [unavailable] * len(batch)
        except (*RETRYABLE, Locked):
            # Once one of the rows has been locked for so long, it is passed over: the others go on.
            statement = _MARK_UNLOCKED
            if attempt < MAX_ATTEMPTS:
                continue
            error = Unavailable("Postgres", "", "the marks met others' locks too often")
            return [error] * len(batch)
        except Error:
            log.exception("marks_refused", rows=len(marks))
            error = StoreError("Postgres refused the marks")
            return [error] * len(batch)
        break
    return [
        Locked() if any((mark.conversation, mark.user) in locked for mark in request) else None for request in batch
    ]
