"""What users show of themselves, and what of it to whom."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from store import sql
from store.errors import UnknownUser
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("profiles")

AcceptedFrom: TypeAlias = Literal["everybody", "contacts", "nobody"]


class ProfileSettings(Struct, frozen=True):
    """A user's profile.

    :ivar revision: how often the display name was changed.
    :ivar gives_receipts: others see how far this user has read.
    :ivar shows_presence: others see whether, and when last, this user is online.
    :ivar messages_from, groups_from: from whom a first message, or a place in a group, is taken.
    """

    username: str
    display_name: str | None
    revision: int
    gives_receipts: bool
    shows_presence: bool
    messages_from: AcceptedFrom
    groups_from: AcceptedFrom


class ShownProfile(Struct, frozen=True):
    """What a user shows to another one."""

    username: str
    display_name: str | None
    revision: int


class ProfileChange(Struct, frozen=True):
    """The outcome of a change: how it is now, and what of it is new."""

    is_renamed: bool
    is_shown_otherwise: bool
    settings: ProfileSettings


async def profile_of(pool: Pool, user: bytes) -> ProfileSettings:
    """
    :raises UnknownUser: if there is none.
    """
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    return ProfileSettings(*rows[0])


async def shown_to(pool: Pool, user: bytes, viewer: bytes) -> ShownProfile:
    """What a user shows to another one, who is not shown the display name of whom they block.

    :raises UnknownUser: if there is none.
    """
    rows = await pool.fetch(_sql.shown, {"user": uuid(user), "viewer": uuid(viewer)})
    if not rows:
        raise UnknownUser
    return ShownProfile(*rows[0])


async def change(
    pool: Pool,
    user: bytes,
    *,
    display_name: str | None = None,
    gives_receipts: bool | None = None,
    shows_presence: bool | None = None,
    messages_from: AcceptedFrom | None = None,
    groups_from: AcceptedFrom | None = None,
) -> ProfileChange:
    """Change some of it; None leaves as it is.

    From its commit on, reading moves no mark that others see if the user gives no receipts; marks from before stay.

    :param display_name: an empty one takes it away.
    :raises UnknownUser: if there is no such user.
    """
    former = await profile_of(pool, user)
    parameters = {
        "user": uuid(user),
        "display_name": display_name,
        "gives_receipts": gives_receipts,
        "shows_presence": shows_presence,
        "messages_from": messages_from,
        "groups_from": groups_from,
    }
    [(name, revision, *settings, is_renamed, is_shown_otherwise)] = await pool.fetch(_sql.set, parameters)
    return ProfileChange(is_renamed, is_shown_otherwise, ProfileSettings(former.username, name, revision, *settings))
