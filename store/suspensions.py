"""Users whom operators suspend: no device logs in, and tokens are refused, until that is lifted. Nothing is deleted.

The gateways close the connections of such users within a second (`store.devices.ended_since`).
"""

from __future__ import annotations

from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import Source

_sql = sql.load("suspensions")


async def set_suspended(pool: Pool, user: bytes, *, is_suspended: bool, source: Source) -> bool:
    """Suspend a user, or lift that, with its security event; False, if it is so already or the account was deleted."""
    parameters = {"user": uuid(user), "is_suspended": is_suspended, "source": source.encoded()}
    [(is_changed,)] = await pool.fetch(_sql.set_suspended, parameters)
    return bool(is_changed)


async def is_suspended(pool: Pool, user: bytes) -> bool:
    """Whether the user is suspended now; False for an unknown user."""
    return bool(await pool.fetch(_sql.is_suspended, {"user": uuid(user)}))
