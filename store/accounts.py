"""Users and their devices. Passwords arrive here hashed, tokens are kept as hashes only."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from typing import Final

from msgspec import Struct

from store import sql
from store.columns import BIGINT, BYTEA, UUID
from store.errors import UnknownUser, UsernameTaken
from store.pool import Pool
from store.postgres import UniqueViolation, uuid
from store.statement import Statement

_sql = sql.load("accounts")
_DEVICE_BY_TOKEN: Final = Statement(_sql.device_by_token, {"token_hash": BYTEA}, (UUID, UUID, BIGINT))


class Account(Struct, frozen=True):
    """A user as the login sees it."""

    user: bytes
    username: str
    password_hash: str


class Identity(Struct, frozen=True, gc=False):
    """Whose token it is; `now` is Postgres' clock, in microseconds since 1970."""

    user: bytes
    device: bytes
    now: int


async def add_user(pool: Pool, username: str, password_hash: str) -> bytes:
    """A new user's id.

    :raises UsernameTaken: if another user has that name.
    """
    user = os.urandom(16)
    try:
        await pool.fetch(_sql.add_user, {"user": uuid(user), "username": username, "password_hash": password_hash})
    except UniqueViolation as error:
        if error.diag.constraint_name != "users_username":
            raise
        raise UsernameTaken from None
    return user


async def user_by_name(pool: Pool, username: str) -> Account:
    """
    :raises UnknownUser: if there is none.
    """
    rows = await pool.fetch(_sql.user_by_name, {"username": username})
    if not rows:
        raise UnknownUser
    return Account(*rows[0])


async def add_device(pool: Pool, user: bytes, name: str) -> tuple[bytes, str]:
    """A new device of a user: its id and its token, which nobody can read again."""
    device, token = os.urandom(16), secrets.token_urlsafe(32)
    parameters = {"device": uuid(device), "user": uuid(user), "name": name, "token_hash": _hash(token)}
    await pool.fetch(_sql.add_device, parameters)
    return device, token


async def device_by_token(pool: Pool, token: str) -> Identity | None:
    """Who has this token; None if nobody, or no longer."""
    rows = await pool.run(_DEVICE_BY_TOKEN, {"token_hash": _hash(token)})
    return Identity(*rows[0]) if rows else None


def _hash(token: str) -> bytes:
    # Tokens are 256 random bits: a plain hash cannot be searched, so a slow one would only cost time.
    return sha256(token.encode()).digest()
