"""Profiles of users, and how each looks to other users."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from protocol.frames import Avatar
from store import sql
from store.avatars import avatar_of
from store.errors import ATTACHMENT_OUTCOMES, UnknownUser
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("profiles")

AcceptedFrom: TypeAlias = Literal["everybody", "contacts", "nobody"]


class ProfileSettings(Struct, frozen=True):
    """A user's profile.

    :ivar revision: how often the display name or the avatar was changed.
    :ivar gives_receipts: others see how far this user has read.
    :ivar shows_presence: others see whether this user is online, and when last.
    :ivar messages_from, groups_from: users from whom this user accepts first messages, and groups.
    """

    username: str
    display_name: str | None
    avatar: Avatar | None
    revision: int
    gives_receipts: bool
    shows_presence: bool
    messages_from: AcceptedFrom
    groups_from: AcceptedFrom


class ShownProfile(Struct, frozen=True):
    """A user's profile as another user sees it."""

    username: str
    display_name: str | None
    avatar: Avatar | None
    revision: int


class ProfileChange(Struct, frozen=True):
    """The outcome of a change: what changed, and the settings after it.

    :ivar is_profile_changed: the display name or the avatar.
    """

    is_profile_changed: bool
    is_shown_otherwise: bool
    settings: ProfileSettings


async def profile_of(pool: Pool, user: bytes) -> ProfileSettings:
    """
    :raises UnknownUser: if the user does not exist.
    """
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    username, name, avatar, *rest = rows[0]
    return ProfileSettings(username, name, avatar_of(avatar), *rest)


async def shown_to(pool: Pool, user: bytes, viewer: bytes) -> ShownProfile:
    """A user's profile as another user sees it, without display name and avatar of a user whom the viewer blocks.

    :raises UnknownUser: if the user does not exist.
    """
    rows = await pool.fetch(_sql.shown, {"user": uuid(user), "viewer": uuid(viewer)})
    if not rows:
        raise UnknownUser
    username, name, avatar, revision = rows[0]
    return ShownProfile(username, name, avatar_of(avatar), revision)


async def change(
    pool: Pool,
    user: bytes,
    *,
    display_name: str | None = None,
    avatar: bytes | None = None,
    gives_receipts: bool | None = None,
    shows_presence: bool | None = None,
    messages_from: AcceptedFrom | None = None,
    groups_from: AcceptedFrom | None = None,
) -> ProfileChange:
    """Change a profile; None leaves a field unchanged.

    If the user stops giving receipts, reading moves no marks that others see from the commit on; earlier marks stay.

    :param display_name: an empty one removes it.
    :param avatar: an upload of the user's own that was declared as an avatar and is complete, and that neither a user
        nor a group shows. `store.avatars.NO_AVATAR` removes it. The former one is orphaned.
    :raises UnknownUser: if the user does not exist.
    :raises UnknownAttachment, AttachmentIncomplete, AttachmentUsed: if the user cannot have the avatar; then nothing
        is changed.
    """
    former = await profile_of(pool, user)
    parameters = {
        "user": uuid(user),
        "display_name": display_name,
        "avatar": None if avatar is None else uuid(avatar),
        "gives_receipts": gives_receipts,
        "shows_presence": shows_presence,
        "messages_from": messages_from,
        "groups_from": groups_from,
    }
    [(outcome, is_changed, is_shown_otherwise, name, told, *rest)] = await pool.fetch(_sql.set, parameters)
    if outcome is not None:
        raise ATTACHMENT_OUTCOMES[outcome]
    settings = ProfileSettings(former.username, name, avatar_of(told), *rest)
    return ProfileChange(is_changed, is_shown_otherwise, settings)
