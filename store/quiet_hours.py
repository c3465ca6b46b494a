"""The hours of the day in which a user wants no notices."""

from __future__ import annotations

from msgspec import Struct

from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("quiet_hours")


class QuietHours(Struct, frozen=True):
    """From one minute of the day to another, possibly across midnight, by local time in a zone.

    :ivar zone: a name of the IANA database, such as "Europe/Berlin".
    """

    from_minute: int
    until_minute: int
    zone: str


async def quiet_hours_of(pool: Pool, user: bytes) -> QuietHours | None:
    """None if the user has no quiet hours."""
    rows = await pool.fetch(_sql.of_user, {"user": uuid(user)})
    return QuietHours(*rows[0]) if rows else None


async def set_quiet_hours(pool: Pool, user: bytes, quiet: QuietHours | None) -> None:
    """Set quiet hours from now on; a notice that waits for the end of the former ones is looked at again at once.

    :param quiet: None for no quiet hours.
    """
    if quiet is None:
        await pool.fetch(_sql.remove, {"user": uuid(user)})
        return
    parameters = {
        "user": uuid(user),
        "from_minute": quiet.from_minute,
        "until_minute": quiet.until_minute,
        "zone": quiet.zone,
    }
    await pool.fetch(_sql.set, parameters)
