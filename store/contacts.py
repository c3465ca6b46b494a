"""Whom a user knows, and whom they block."""

from __future__ import annotations

from msgspec import Struct

from protocol import frames
from store import sql
from store.errors import UnknownUser
from store.pool import Pool
from store.postgres import uuid

_sql = sql.load("contacts")


class Contact(Struct, frozen=True):
    """Somebody whom a user knows or blocks; `created` in microseconds since 1970."""

    user: bytes
    username: str
    display_name: str | None
    is_blocked: bool
    created: int


class Contacts(Struct, frozen=True):
    """Some of a user's contacts.

    :ivar revision: how often the contacts have changed; pages of another one are of another list.
    """

    revision: int
    contacts: list[Contact]


async def add(pool: Pool, user: bytes, other: bytes) -> bool:
    """Know somebody; whether that is new.

    :raises UnknownUser: if there is no such user, or it is the same one.
    """
    pair = {"user": uuid(user), "other": uuid(other)}
    if await pool.fetch(_sql.add, pair):
        return True
    if not await pool.fetch(_sql.exists, pair):
        raise UnknownUser
    return False


async def remove(pool: Pool, user: bytes, other: bytes) -> None:
    """Know somebody no more; who is blocked stays so. To do it again changes nothing."""
    await pool.fetch(_sql.remove, {"user": uuid(user), "other": uuid(other)})


async def set_blocked(pool: Pool, user: bytes, other: bytes, *, is_blocked: bool) -> bool:
    """Block somebody, or no more; whether that is new.

    From the commit on, what the other sends into their direct conversation is acknowledged as ever, and reaches nobody.

    :raises UnknownUser: if there is no such user, or it is the same one.
    """
    parameters = {"user": uuid(user), "other": uuid(other), "is_blocked": is_blocked}
    [(outcome,)] = await pool.fetch(_sql.set_blocked, parameters)
    if outcome == "unknown":
        raise UnknownUser
    return bool(outcome == "changed")


async def told(pool: Pool, user: bytes, other: bytes) -> frames.Contact:
    """Somebody as the user's devices are told: as a contact, or as none any more.

    :raises UnknownUser: if there is no such user.
    """
    rows = await pool.fetch(_sql.one, {"user": uuid(user), "other": uuid(other)})
    if not rows:
        raise UnknownUser
    return frames.Contact(other, *rows[0])


async def list_of(pool: Pool, user: bytes, *, limit: int, after: bytes = bytes(16)) -> Contacts:
    """A page of a user's contacts in one query, by their ids.

    :param after: the last id of the page before.
    """
    parameters = {"user": uuid(user), "after": uuid(after), "limit": limit}
    rows = await pool.fetch(_sql.list, parameters)
    return Contacts(rows[0][0] if rows else 0, [Contact(*row) for _, *row in rows if row[0] is not None])
