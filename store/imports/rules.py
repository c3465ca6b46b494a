"""What the rules of this service make of a user and of a title. `store` has no rules: the command hands them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct


class OldUser(NamedTuple):
    """A user of the source.

    :ivar password_hash: as Supabase's auth stores it.
    :ivar has_login: `auth.users` has the user.
    :ivar is_known: an earlier run has taken the user.
    """

    id: bytes
    username: str | None
    display_name: str | None
    email: str | None
    password_hash: str | None
    is_banned: bool
    is_deleted: bool
    has_login: bool
    has_avatar: bool
    is_known: bool


class TakenUser(Struct, frozen=True):
    """A user as this service takes it.

    :ivar username: canonical; None if the rules allow no form of the old one.
    :ivar username_reason: why, one of `REASONS`.
    :ivar other_username: the one that the user gets if `username` is None or taken.
    :ivar password_hash: empty if no password fits.
    :ivar notes: (reason, detail).
    """

    id: str
    username: str | None
    username_reason: str | None
    other_username: str
    password_hash: str
    display_name: str | None
    email: str | None
    notes: list[tuple[str, str | None]]


class Title(Struct, frozen=True):
    """The name of a conversation.

    :ivar reason: why it is not the old one.
    """

    id: str
    title: str
    reason: str | None


class Rules(NamedTuple):
    """The rules."""

    person: Callable[[OldUser], TakenUser]
    title: Callable[[bytes, str | None], Title]
