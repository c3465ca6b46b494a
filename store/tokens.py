"""The tokens of devices: looking up, refreshing, forgetting. Only their hashes are stored."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from msgspec import Struct

from store import sql
from store.errors import DeviceRevoked, TokenExpired, TokenUnknown
from store.postgres.columns import BYTEA
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("tokens")
_DEVICE_BY_TOKEN: Final = Statement(_sql.device_by_token, {"token_hash": BYTEA})

GRACE_S: Final = 86400.0
"""How long the token before a refresh stays valid: the reply may be lost, and a phone may be off for a night."""

TOKEN_KEPT_DAYS: Final = 30
"""How long after its end a token is still recognised, so that the client is told why (`token_expired`,
`device_revoked`); later it is as unknown as any other text."""


class Identity(Struct, frozen=True, gc=False):
    """The owner of a token; times by Postgres' clock, in microseconds since 1970.

    :ivar expires: until when the token is good.
    :ivar confirmed: when the user last showed the password on this device.
    """

    user: bytes
    device: bytes
    now: int
    expires: int
    confirmed: int


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


async def device_known_by(pool: Pool, token: str) -> tuple[bytes, bytes] | None:
    """(user, device) of a token that is good, or was until at most `TOKEN_KEPT_DAYS` ago.

    None for any other text, and if the device was revoked: a stolen one is no longer its owner's.
    """
    rows = await pool.read(_DEVICE_BY_TOKEN, {"token_hash": token_hash(token)})
    if not rows:
        return None
    user, device, _, _, is_revoked, _ = rows[0]
    return None if is_revoked else (user, device)


def identity_of(user: bytes, device: bytes, now: int, expires: int, is_revoked: bool, confirmed: int) -> Identity:
    """The owner of a token, of the columns of `device_by_token` in tokens.sql.

    :raises DeviceRevoked: if its device was revoked.
    :raises TokenExpired: if it has expired.
    """
    if is_revoked:
        raise DeviceRevoked
    if expires <= now:
        raise TokenExpired
    return Identity(user, device, now, expires, confirmed)


async def refresh_token(pool: Pool, device: bytes, token: str, *, lifetime_s: float) -> tuple[str, int, int]:
    """Give a device a new token; return it, its expiry, and the current time (microseconds).

    The presented token stays valid for `GRACE_S`, and may be presented again in that time.

    :raises TokenUnknown: if the device does not have this token, or not any longer.
    """
    new = new_token()
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


async def forget_tokens(pool: Pool, *, limit: int) -> int:
    """Forget tokens that ended more than `TOKEN_KEPT_DAYS` ago, and the names of their devices; return how many, 0 at
    the end. The devices stay: other rows may refer to them.

    :param limit: at most so many current tokens, and as many tokens from before a refresh.
    """
    parameters = {"days": TOKEN_KEPT_DAYS, "limit": limit}
    [(current,)] = await pool.fetch(_sql.forget_tokens, parameters)
    [(former,)] = await pool.fetch(_sql.forget_former_tokens, parameters)
    return int(current) + int(former)


def new_token() -> str:
    """A token, of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """The form of a token in the store."""
    # Tokens are 256 random bits: no search can find one from its hash, so a slow hash would only cost time.
    return sha256(token.encode()).digest()
