"""Contacts of a user, and the users that a user blocks."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protocol import frames
from protocol.frames import Avatar
from store import sql
from store.avatars import avatar_of
from store.conversations import participants_versions
from store.errors import UnknownUser
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool

_sql = sql.load("contacts")


class ListedContact(Struct, frozen=True):
    """A user whom another user knows or blocks; `created` in microseconds since 1970."""

    user: bytes
    username: str
    display_name: str | None
    avatar: Avatar | None
    is_blocked: bool
    created: int


class ContactsPage(Struct, frozen=True):
    """A page of a user's contacts.

    :ivar revision: how often the contacts have changed; pages with different revisions do not fit together.
    """

    revision: int
    contacts: list[ListedContact]


class AddedContact(Struct, frozen=True):
    """The outcome of adding a contact: whether it is new, and the contact's requests, which it accepts."""

    is_new: bool
    accepted: list[bytes]


class BlockChange(Struct, frozen=True):
    """The outcome of blocking or unblocking, if it changed something.

    :ivar shown: the user's conversations where the other user looks different now, to the user alone.
    :ivar declined: requests of the other user, which the user leaves by this; the others are not told. Each with the
        version of its list of participants.
    """

    shown: list[bytes]
    declined: list[tuple[bytes, int]]


async def add(pool: Pool, user: bytes, other: bytes) -> AddedContact:
    """Add a contact; the contact's requests are accepted by it.

    :raises UnknownUser: if the user does not exist, or is the same one.
    """
    [(outcome, accepted)] = await pool.fetch(_sql.add, {"user": uuid(user), "other": uuid(other)})
    if outcome == "unknown":
        raise UnknownUser
    return AddedContact(outcome == "added", accepted)


async def remove(pool: Pool, user: bytes, other: bytes) -> None:
    """Remove a contact; a blocked user stays blocked. Repeating it changes nothing."""
    await pool.fetch(_sql.remove, {"user": uuid(user), "other": uuid(other)})


async def set_blocked(
    pool: Pool, user: bytes, other: bytes, *, is_blocked: bool, is_online: bool = True
) -> BlockChange | None:
    """Block or unblock a user; None if nothing changed.

    From the commit on, all that the blocked user does to reach this user is answered as usual, and does not reach this
    user (`docs/blocking.md`).

    :param is_online: whether other users see the user online; the blocked user then sees the user go offline.
    :raises UnknownUser: if the other user does not exist, or is the same one.
    """
    parameters = {"user": uuid(user), "other": uuid(other), "is_blocked": is_blocked, "is_online": is_online}
    [(outcome, shown, declined)] = await pool.fetch(_sql.set_blocked, parameters)
    if outcome == "unknown":
        raise UnknownUser
    if outcome == "again":
        return None
    return BlockChange(shown or [], await participants_versions(pool, declined) if declined else [])


async def blockers(pool: Pool, user: bytes, users: Sequence[bytes]) -> set[bytes]:
    """The users among these who block a user."""
    return {row[0] for row in await pool.fetch(_sql.blockers, {"user": uuid(user), "users": uuids(users)})}


async def contact_of(pool: Pool, user: bytes, other: bytes) -> frames.Contact:
    """A contact, or a former contact, as the user's devices are told of it.

    :raises UnknownUser: if there is no such user.
    """
    rows = await pool.fetch(_sql.one, {"user": uuid(user), "other": uuid(other)})
    if not rows:
        raise UnknownUser
    username, name, revision, is_contact, is_blocked, avatar = rows[0]
    return frames.Contact(other, username, name, revision, is_contact, is_blocked, avatar_of(avatar))


async def list_of(pool: Pool, user: bytes, *, limit: int, after: bytes = bytes(16)) -> ContactsPage:
    """A page of a user's contacts in one query, by their ids.

    :param after: the last id of the page before.
    """
    parameters = {"user": uuid(user), "after": uuid(after), "limit": limit}
    rows = await pool.fetch(_sql.list, parameters)
    listed = [
        ListedContact(user_, username, name, avatar_of(avatar), *rest)
        for _, user_, username, name, avatar, *rest in rows
        if user_ is not None
    ]
    return ContactsPage(rows[0][0] if rows else 0, listed)
