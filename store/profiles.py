"""What users show of themselves, and what of it to whom."""

from __future__ import annotations

from msgspec import Struct

from store import sql
from store.errors import UnknownUser
from store.pool import Pool
from store.postgres import uuid

_sql = sql.load("profiles")


class Settings(Struct, frozen=True):
    """A user's profile.

    :ivar revision: how often the display name was changed.
    :ivar gives_receipts: others see how far this user has read.
    :ivar shows_presence: others see whether, and when last, this user is online.
    """

    username: str
    display_name: str | None
    revision: int
    gives_receipts: bool
    shows_presence: bool


class Change(Struct, frozen=True):
    """The outcome of a change: how it is now, and what of it is new."""

    is_renamed: bool
    is_shown_otherwise: bool
    settings: Settings


async def settings_of(pool: Pool, user: bytes) -> Settings:
    """
    :raises UnknownUser: if there is none.
    """
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    return Settings(*rows[0])


async def change(
    pool: Pool, user: bytes, *, display_name: str | None, gives_receipts: bool | None, shows_presence: bool | None
) -> Change:
    """Change some of it; None leaves as it is.

    From its commit on, reading moves no mark that others see if the user gives no receipts; marks from before stay.

    :param display_name: an empty one takes it away.
    :raises UnknownUser: if there is no such user.
    """
    former = await settings_of(pool, user)
    parameters = {
        "user": uuid(user),
        "display_name": display_name,
        "gives_receipts": gives_receipts,
        "shows_presence": shows_presence,
    }
    [(name, revision, receipts, presence, is_renamed, is_shown_otherwise)] = await pool.fetch(_sql.set, parameters)
    return Change(is_renamed, is_shown_otherwise, Settings(former.username, name, revision, receipts, presence))
