"""Users and their devices. Passwords arrive here hashed; tokens are stored as hashes only."""

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
from store.postgres.columns import BYTEA
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("accounts")
_DEVICE_BY_TOKEN: Final = Statement(_sql.device_by_token, {"token_hash": BYTEA})

GRACE_S: Final = 86400.0
"""How long the token before a refresh stays valid: the reply may be lost, and a phone may be off for a night."""

TOKEN_KEPT_DAYS: Final = 30
"""How long after its end a token is still recognised, so that the client is told why (`token_expired`,
`device_revoked`); later it is as unknown as any other text."""


class Account(Struct, frozen=True):
    """A user, for the login."""

    user: bytes
    username: str
    password_hash: str


class Device(Struct, frozen=True):
    """A device, for its user; times in microseconds since 1970."""

    device: bytes
    name: str
    created: int
    expires: int


class Identity(Struct, frozen=True, gc=False):
    """The owner of a token; `now` and `expires` by Postgres' clock, in microseconds since 1970."""

    user: bytes
    device: bytes
    now: int
    expires: int


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


async def user_by_name(pool: Pool, username: str) -> Account:
    """
    :raises UnknownUser: if no user has this name.
    """
    rows = await pool.fetch(_sql.user_by_name, {"username": username})
    if not rows:
        raise UnknownUser
    return Account(*rows[0])


async def add_device(pool: Pool, user: bytes, name: str, *, lifetime_s: float) -> tuple[bytes, str, int]:
    """Add a device of a user; return its id, its token, and when the token expires (microseconds). The token cannot be
    read again.

    The same transaction enqueues the job that tells the user by mail, if the user wants that.
    """
    device, token = os.urandom(16), _new_token()
    parameters = {
        "device": uuid(device),
        "user": uuid(user),
        "name": name,
        "token_hash": token_hash(token),
        "lifetime_s": lifetime_s,
    }
    [(expires,)] = await pool.fetch(_sql.add_device, parameters)
    return device, token, expires


async def device_by_token(pool: Pool, token: str) -> Identity:
    """The owner of this token.

    :raises TokenUnknown: if no device has it.
    :raises DeviceRevoked: if its device was revoked.
    :raises TokenExpired: if it has expired.
    """
    rows = await pool.read(_DEVICE_BY_TOKEN, {"token_hash": token_hash(token)})
    if not rows:
        raise TokenUnknown
    return identity_of(*rows[0])


def identity_of(user: bytes, device: bytes, now: int, expires: int, is_revoked: bool) -> Identity:
    """The owner of a token, of the columns of `device_by_token` in accounts.sql.

    :raises DeviceRevoked: if its device was revoked.
    :raises TokenExpired: if it has expired.
    """
    if is_revoked:
        raise DeviceRevoked
    if expires <= now:
        raise TokenExpired
    return Identity(user, device, now, expires)


async def refresh_token(pool: Pool, device: bytes, token: str, *, lifetime_s: float) -> tuple[str, int, int]:
    """Give a device a new token; return it, its expiry, and the current time (microseconds).

    The presented token stays valid for `GRACE_S`, and may be presented again in that time.

    :raises TokenUnknown: if the device does not have this token, or not any longer.
    """
    new = _new_token()
    parameters = {
        "device": uuid(device),
        "token_hash": token_hash(token),
        "new_hash": token_hash(new),
        "lifetime_s": lifetime_s,
        "grace_s": GRACE_S,
    }
    rows = await pool.fetch(_sql.refresh_token, parameters)
    if not rows:
        raise TokenUnknown
    [(expires, now)] = rows
    return new, expires, now


async def devices_of(pool: Pool, user: bytes, *, limit: int, before: tuple[int, bytes] | None = None) -> list[Device]:
    """A page of a user's devices with a valid token, the newest first.

    :param before: `created` and id of the last device of the page before.
    """
    created, device = before or (2**63 - 1, bytes(16))
    parameters = {"user": uuid(user), "before": created, "before_id": uuid(device), "limit": limit}
    return [Device(*row) for row in await pool.fetch(_sql.devices_of, parameters)]


async def revoke_device(pool: Pool, user: bytes, device: bytes) -> None:
    """Make a device's tokens void from now on; repeating it changes nothing.

    :raises UnknownDevice: if the user has no such device.
    """
    if not await pool.fetch(_sql.revoke_device, {"user": uuid(user), "device": uuid(device)}):
        raise UnknownDevice


async def revoked_since(pool: Pool, *, ago_s: float) -> list[tuple[bytes, bytes]]:
    """(user, device) for devices that were revoked in the last `ago_s` seconds, by Postgres' clock."""
    return [(user, device) for user, device in await pool.fetch(_sql.revoked_since, {"ago_s": ago_s})]


async def forget_tokens(pool: Pool, *, limit: int) -> int:
    """Forget tokens that ended more than `TOKEN_KEPT_DAYS` ago, and the names of their devices; return how many, 0 at
    the end. The devices stay: other rows may refer to them.

    :param limit: at most so many current tokens, and as many tokens from before a refresh.
    """
    parameters = {"days": TOKEN_KEPT_DAYS, "limit": limit}
    [(current,)] = await pool.fetch(_sql.forget_tokens, parameters)
    [(former,)] = await pool.fetch(_sql.forget_former_tokens, parameters)
    return int(current) + int(former)


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """The form of a token in the store."""
    # Tokens are 256 random bits: no search can find one from its hash, so a slow hash would only cost time.
    return sha256(token.encode()).digest()
