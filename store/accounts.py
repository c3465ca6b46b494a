"""Users. Passwords arrive here hashed."""

from __future__ import annotations

import os

from msgspec import Struct

from store import sql
from store.errors import DatabaseError, UnknownUser, UsernameTaken
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("accounts")


class Account(Struct, frozen=True):
    """A user, for the login."""

    user: bytes
    username: str
    password_hash: str


async def add_user(pool: Pool, username: str, password_hash: str) -> bytes:
    """Add a user; return the new id.

    :raises UsernameTaken: if another user has that name.
    """
    user = os.urandom(16)
    try:
        await pool.fetch(_sql.add_user, {"user": uuid(user), "username": username, "password_hash": password_hash})
    except DatabaseError as error:
        if error.constraint != "users_username":
            raise
        raise UsernameTaken from None
    return user


async def password_hash_of(pool: Pool, user: bytes) -> str:
    """
    :raises UnknownUser: if no user has this id.
    """
    rows = await pool.fetch(_sql.password_hash_of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    return str(rows[0][0])


async def user_by_name(pool: Pool, username: str) -> Account:
    """
    :raises UnknownUser: if no user has this name.
    """
    rows = await pool.fetch(_sql.user_by_name, {"username": username})
    if not rows:
        raise UnknownUser
    return Account(*rows[0])
