"""Users and their devices. Passwords arrive here hashed, tokens are kept as hashes only."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from typing import Final

from msgspec import Struct

from store import sql
from store.errors import (
    DatabaseError,
    DeviceRevoked,
    TokenExpired,
    TokenUnknown,
    UnknownDevice,
    UnknownUser,
    UsernameTaken,
)
from store.postgres.columns import BIGINT, BYTEA, UUID
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("accounts")
_DEVICE_BY_TOKEN: Final = Statement(_sql.device_by_token, {"token_hash": BYTEA}, (UUID, UUID, BIGINT, BIGINT, BIGINT))

GRACE_S: Final = 86400.0
"""For so long the token before a refresh stays good: the reply may be lost, and a phone be off for the night."""

TOKEN_KEPT_DAYS: Final = 30
"""For so long after a token has ended, whoever shows it is told why (`token_expired`, `device_revoked`); later it is
unknown, as any other."""


class Account(Struct, frozen=True):
    """A user as the login sees it."""

    user: bytes
    username: str
    password_hash: str


class Device(Struct, frozen=True):
    """A device as its user sees it; times in microseconds since 1970."""

    device: bytes
    name: str
    created: int
    expires: int


class Identity(Struct, frozen=True, gc=False):
    """Whose token it is; `now` and `expires` by Postgres' clock, in microseconds since 1970."""

    user: bytes
    device: bytes
    now: int
    expires: int


async def add_user(pool: Pool, username: str, password_hash: str) -> bytes:
    """A new user's id.

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


async def user_by_name(pool: Pool, username: str) -> Account:
    """
    :raises UnknownUser: if there is none.
    """
    rows = await pool.fetch(_sql.user_by_name, {"username": username})
    if not rows:
        raise UnknownUser
    return Account(*rows[0])


async def add_device(pool: Pool, user: bytes, name: str, *, lifetime_s: float) -> tuple[bytes, str, int]:
    """A new device of a user: its id, its token, which nobody can read again, and when that expires (microseconds).

    The job that tells the user by mail is enqueued in the same transaction, if it is wanted.
    """
    device, token = os.urandom(16), _new_token()
    parameters = {
        "device": uuid(device),
        "user": uuid(user),
        "name": name,
        "token_hash": _hash(token),
        "lifetime_s": lifetime_s,
    }
    [(expires,)] = await pool.fetch(_sql.add_device, parameters)
    return device, token, expires


async def device_by_token(pool: Pool, token: str) -> Identity:
    """Who has this token.

    :raises TokenUnknown: if nobody has it.
    :raises DeviceRevoked: if its device was revoked.
    :raises TokenExpired: if it is too old.
    """
    rows = await pool.read(_DEVICE_BY_TOKEN, {"token_hash": _hash(token)})
    if not rows:
        raise TokenUnknown
    [(user, device, now, expires, is_revoked)] = rows
    if is_revoked:
        raise DeviceRevoked
    if expires <= now:
        raise TokenExpired
    return Identity(user, device, now, expires)


async def refresh_token(pool: Pool, device: bytes, token: str, *, lifetime_s: float) -> tuple[str, int, int]:
    """Another token for a device: it, when it expires, and what time it is (microseconds).

    The token that was presented stays good for `GRACE_S`, and may be presented again meanwhile.

    :raises TokenUnknown: if the device has not this token, or no longer.
    """
    new = _new_token()
    parameters = {
        "device": uuid(device),
        "token_hash": _hash(token),
        "new_hash": _hash(new),
        "lifetime_s": lifetime_s,
        "grace_s": GRACE_S,
    }
    rows = await pool.fetch(_sql.refresh_token, parameters)
    if not rows:
        raise TokenUnknown
    [(expires, now)] = rows
    return new, expires, now


async def devices_of(pool: Pool, user: bytes) -> list[Device]:
    """A user's devices whose tokens are good, the newest first."""
    return [Device(*row) for row in await pool.fetch(_sql.devices_of, {"user": uuid(user)})]


async def revoke_device(pool: Pool, user: bytes, device: bytes) -> None:
    """A device's tokens are void from now on; to revoke it again changes nothing.

    :raises UnknownDevice: if the user has no such device.
    """
    if not await pool.fetch(_sql.revoke_device, {"user": uuid(user), "device": uuid(device)}):
        raise UnknownDevice


async def revoked_since(pool: Pool, *, ago_s: float) -> list[tuple[bytes, bytes]]:
    """(user, device) of those that were revoked in the last `ago_s` seconds, by Postgres' clock."""
    return [(user, device) for user, device in await pool.fetch(_sql.revoked_since, {"ago_s": ago_s})]


async def forget_tokens(pool: Pool, *, limit: int) -> int:
    """Forget tokens that ended more than `TOKEN_KEPT_DAYS` ago, with the names of their devices; how many, 0 if there
    are no more. The devices stay: others may refer to them.

    :param limit: at most so many of those that were current, and as many of those before a refresh.
    """
    parameters = {"days": TOKEN_KEPT_DAYS, "limit": limit}
    [(current,)] = await pool.fetch(_sql.forget_tokens, parameters)
    [(former,)] = await pool.fetch(_sql.forget_former_tokens, parameters)
    return int(current) + int(former)


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    # Tokens are 256 random bits: a plain hash cannot be searched, so a slow one would only cost time.
    return sha256(token.encode()).digest()
