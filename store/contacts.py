"""Whom a user knows, and whom they block."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protocol import frames
from store import sql
from store.conversations import participants_versions
from store.errors import UnknownUser
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool

_sql = sql.load("contacts")


class ListedContact(Struct, frozen=True):
    """Somebody whom a user knows or blocks; `created` in microseconds since 1970."""

    user: bytes
    username: str
    display_name: str | None
    is_blocked: bool
    created: int


class ContactsPage(Struct, frozen=True):
    """Some of a user's contacts.

    :ivar revision: how often the contacts have changed; pages of another one are of another list.
    """

    revision: int
    contacts: list[ListedContact]


class AddedContact(Struct, frozen=True):
    """The outcome of knowing somebody: whether that is new, and the conversations that were requests of theirs."""

    is_new: bool
    accepted: list[bytes]


class BlockChange(Struct, frozen=True):
    """The outcome of blocking, or unblocking, that is new.

    :ivar shown: conversations of the user in which the other one is shown otherwise, to the user alone.
    :ivar declined: what the other one had asked: conversations in which the user takes part no more, which nobody else
        is told, each with the version of its list of participants.
    """

    shown: list[bytes]
    declined: list[tuple[bytes, int]]


async def add(pool: Pool, user: bytes, other: bytes) -> AddedContact:
    """Know somebody; what they have asked is accepted by that.

    :raises UnknownUser: if there is no such user, or it is the same one.
    """
    [(outcome, accepted)] = await pool.fetch(_sql.add, {"user": uuid(user), "other": uuid(other)})
    if outcome == "unknown":
        raise UnknownUser
    return AddedContact(outcome == "added", accepted)


async def remove(pool: Pool, user: bytes, other: bytes) -> None:
    """Know somebody no more; who is blocked stays so. To do it again changes nothing."""
    await pool.fetch(_sql.remove, {"user": uuid(user), "other": uuid(other)})


async def set_blocked(
    pool: Pool, user: bytes, other: bytes, *, is_blocked: bool, is_online: bool = True
) -> BlockChange | None:
    """Block somebody, or no more; None: it was so.

    From the commit on, whatever the other does that would reach this user is answered as ever, and reaches nobody
    (`docs/blocking.md`).

    :param is_online: whether the user is, as others see it; the other one is shown that it ends with the block.
    :raises UnknownUser: if there is no such user, or it is the same one.
    """
    parameters = {"user": uuid(user), "other": uuid(other), "is_blocked": is_blocked, "is_online": is_online}
    [(outcome, shown, declined)] = await pool.fetch(_sql.set_blocked, parameters)
    if outcome == "unknown":
        raise UnknownUser
    if outcome == "again":
        return None
    return BlockChange(shown or [], await participants_versions(pool, declined) if declined else [])


async def blockers(pool: Pool, user: bytes, users: Sequence[bytes]) -> set[bytes]:
    """Those of some users who block a user."""
    return {row[0] for row in await pool.fetch(_sql.blockers, {"user": uuid(user), "users": uuids(users)})}


async def contact_of(pool: Pool, user: bytes, other: bytes) -> frames.Contact:
    """Somebody as the user's devices are told: as a contact, or as none any more.

    :raises UnknownUser: if there is no such user.
    """
    rows = await pool.fetch(_sql.one, {"user": uuid(user), "other": uuid(other)})
    if not rows:
        raise UnknownUser
    return frames.Contact(other, *rows[0])


async def list_of(pool: Pool, user: bytes, *, limit: int, after: bytes = bytes(16)) -> ContactsPage:
    """A page of a user's contacts in one query, by their ids.

    :param after: the last id of the page before.
    """
    parameters = {"user": uuid(user), "after": uuid(after), "limit": limit}
    rows = await pool.fetch(_sql.list, parameters)
    return ContactsPage(rows[0][0] if rows else 0, [ListedContact(*row) for _, *row in rows if row[0] is not None])
