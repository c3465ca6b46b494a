"""Profiles of users, and how each looks to other users."""

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
    :ivar shows_presence: others see whether this user is online, and when last.
    :ivar messages_from, groups_from: users from whom this user accepts first messages, and groups.
    """

    username: str
    display_name: str | None
    revision: int
    gives_receipts: bool
    shows_presence: bool
    messages_from: AcceptedFrom
    groups_from: AcceptedFrom


class ShownProfile(Struct, frozen=True):
    """A user's profile as another user sees it."""

    username: str
    display_name: str | None
    revision: int


class ProfileChange(Struct, frozen=True):
    """The outcome of a change: what changed, and the settings after it."""

    is_renamed: bool
    is_shown_otherwise: bool
    settings: ProfileSettings


async def profile_of(pool: Pool, user: bytes) -> ProfileSettings:
    """
    :raises UnknownUser: if the user does not exist.
    """
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    return ProfileSettings(*rows[0])


async def shown_to(pool: Pool, user: bytes, viewer: bytes) -> ShownProfile:
    """A user's profile as another user sees it, without the display name of a user whom the viewer blocks.

    :raises UnknownUser: if the user does not exist.
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
    """Change a profile; None leaves a field unchanged.

    If the user stops giving receipts, reading moves no marks that others see from the commit on; earlier marks stay.

    :param display_name: an empty one removes it.
    :raises UnknownUser: if the user does not exist.
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
