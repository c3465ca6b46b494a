"""When users were last online, and on which days (UTC), written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from store import sql
from store.errors import StoreError
from store.postgres.columns import BIGINTS, UUIDS
from store.postgres.pool import Pool
from store.postgres.statement import Statement

log = structlog.get_logger(__name__)
_sql = sql.load("last_seen")
_TOUCH: Final = Statement(_sql.touch, {"users": UUIDS, "ago_us": BIGINTS})
_OF: Final = Statement(_sql.of, {"users": UUIDS})


async def touch(pool: Pool, users: Sequence[bytes], ago_us: Sequence[int] = ()) -> list[bool]:
    """Note that these users were online, and so active on that day, by Postgres' clock; for each, whether it was
    stored.

    Unknown users are skipped. A failure is logged, and the caller may try again.

    :param ago_us: how long ago each of them was online, in microseconds; by default now.
    """
    try:
        await pool.run(_TOUCH, {"users": users, "ago_us": ago_us or [0] * len(users)})
    except StoreError as error:
        log.warning("last_seen_not_stored", users=len(users), error=str(error))
        return [False] * len(users)
    return [True] * len(users)


async def last_seen(pool: Pool, users: Sequence[bytes]) -> dict[bytes, int]:
    """When these users were last online, in microseconds since 1970; leaves out users who never were."""
    return dict(await pool.read(_OF, {"users": users}))
