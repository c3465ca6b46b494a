"""The tokens of devices: looking up, renewing, forgetting. Only their hashes are stored.

A token is 24 characters that all tokens of a device share, its family, and 40 of its own. A device has one token, and
renews it every day; a token that has ended is known by its family, and a program that shows it is
one of two that have the device's tokens (decision 35).
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from msgspec import Struct

from store import sql
from store.errors import (
    AccountSuspended,
    DeviceRevoked,
    StoreError,
    TokenExpired,
    TokenRenewed,
    TokenReused,
    TokenUnknown,
)
from store.postgres.columns import BYTEA
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("tokens")
_DEVICE_BY_TOKEN: Final = Statement(_sql.device_by_token, {"family_hash": BYTEA, "token_hash": BYTEA})

_GREETED_DEVICE: Final = Statement(
    f"select d.*, array({_sql.low_kinds}), exists ({_sql.has_reports}) from ({_sql.device_by_token}) d",  # noqa: S608  (ours)
    {"family_hash": BYTEA, "token_hash": BYTEA},
    label="tokens.greeted_device",
)

TOKEN_PREFIX: Final = "alo_"  # noqa: S105
"""All tokens begin with it, those in mails too: programs that look for secrets in logs and source text know them by it
(`runtime.redaction`)."""

FAMILY_CHARACTERS: Final = len(TOKEN_PREFIX) + 24
"""The prefix, and 144 random bits: no stranger can name a family, and so none can end another device's session."""

TOKEN_CHARACTERS: Final = FAMILY_CHARACTERS + 40
"""A text of another length is no token, and ends no session: a header may hold more than the token by mistake."""

OVERLAP_S: Final = 60.0
"""How long a token stays good once the one after it has been shown: requests with it may be under way."""

MAX_NEXT: Final = 4
"""New tokens of a device that are kept until one is shown. Replies are lost, and renewals overtake each other."""

TOKEN_KEPT_DAYS: Final = 30
"""How long after their end a device's tokens are still recognised, so that the client is told why (`token_expired`,
`device_revoked`, `token_reused`); later they are as unknown as any other text."""


class Identity(Struct, frozen=True, gc=False):
    """The owner of a token; times by Postgres' clock, in microseconds since 1970.

    :ivar expires: until when the device's tokens are good.
    :ivar confirmed: when the user last showed the password on this device.
    """

    user: bytes
    device: bytes
    now: int
    expires: int
    confirmed: int


async def device_by_token(pool: Pool, token: str) -> Identity:
    """The owner of this token.

    :raises TokenUnknown: if no device has tokens of its family.
    :raises TokenExpired, DeviceRevoked, TokenReused, AccountSuspended: why it is not good.
    """
    rows = await pool.read(_DEVICE_BY_TOKEN, hashes(token))
    if not rows:
        raise TokenUnknown
    return await admitted(pool, token, *rows[0])


class GreetedDevice(Struct, frozen=True, gc=False):
    """The owner of a token, and what the device is told with its welcome.

    :ivar low_kinds: of one-time keys that the device is low on (`store.keys`).
    :ivar has_reports: devices cannot decrypt messages of the user (`store.undecryptable`).
    """

    identity: Identity
    low_kinds: list[str]
    has_reports: bool


async def greeted_device(pool: Pool, token: str) -> GreetedDevice:
    """As `device_by_token`, with what the device is told with its welcome."""
    rows = await pool.read(_GREETED_DEVICE, hashes(token))
    if not rows:
        raise TokenUnknown
    *device, low_kinds, has_reports = rows[0]
    return GreetedDevice(await admitted(pool, token, *device), low_kinds, has_reports)


async def device_known_by(pool: Pool, token: str) -> tuple[bytes, bytes] | None:
    """(user, device) of a token that is good, or was until its device expired, at most `TOKEN_KEPT_DAYS` ago.

    None for any other text, and if the device was revoked: a stolen one is no longer its owner's.
    """
    rows = await pool.read(_DEVICE_BY_TOKEN, hashes(token))
    if not rows:
        return None
    user, device, *_, state = rows[0]
    return None if state in ("revoked", "reused", "ended") else (user, device)


async def admitted(
    pool: Pool, token: str, user: bytes, device: bytes, now: int, expires: int, confirmed: int, state: str
) -> Identity:
    """The owner of a token, of the columns of `device_by_token` in tokens.sql. A token that is new, or has ended, has
    the consequences of `show_token` in a transaction of its own.

    :raises TokenExpired, DeviceRevoked, TokenReused, AccountSuspended: why it is not good.
    """
    if state in ("next", "ended"):
        [(state,)] = await pool.fetch(_sql.show_token, {**hashes(token), "overlap_s": OVERLAP_S})
    if state not in ("current", "former"):
        raise _REFUSALS[state]
    return Identity(user, device, now, expires, confirmed)


async def renew_token(pool: Pool, device: bytes, token: str, *, lifetime_s: float) -> tuple[str, int, int]:
    """Give a device a new token for the one that it shows; return it, its expiry, and the current time (microseconds).

    The token shown stays good until the new one is shown, and may be renewed again until then: the reply to this may
    be lost.

    :raises TokenUnknown: if the token is not of the device's family.
    :raises TokenRenewed: if the token after this one has been shown already.
    :raises TokenExpired, DeviceRevoked, TokenReused, AccountSuspended: why it is not good.
    """
    new = _new_token(token[:FAMILY_CHARACTERS])
    parameters = {
        **hashes(token),
        "device": uuid(device),
        "new_hash": token_hash(new),
        "lifetime_s": lifetime_s,
        "overlap_s": OVERLAP_S,
        "most": MAX_NEXT,
    }
    [(state, expires, now)] = await pool.fetch(_sql.renew_token, parameters)
    if state != "renewed":
        raise _REFUSALS[state]
    return new, expires, now


async def forget_tokens(pool: Pool, *, limit: int) -> int:
    """Forget the tokens of devices that ended more than `TOKEN_KEPT_DAYS` ago, and the names of these devices; return
    how many devices, 0 at the end. The devices stay: other rows may refer to them.

    :param limit: at most so many devices.
    """
    [(count,)] = await pool.fetch(_sql.forget_tokens, {"days": TOKEN_KEPT_DAYS, "limit": limit})
    return int(count)


def first_token() -> str:
    """The first token of a new family."""
    return _new_token(TOKEN_PREFIX + secrets.token_urlsafe(18))


def _new_token(family: str) -> str:
    return family + secrets.token_urlsafe(30)


def hashes(token: str) -> dict[str, bytes]:
    """The form of a token in the store."""
    # Not even the text of a family alone is of the family.
    family = f"family {token[:FAMILY_CHARACTERS]}" if len(token) == TOKEN_CHARACTERS else token
    return {"family_hash": token_hash(family), "token_hash": token_hash(token)}


def token_hash(token: str) -> bytes:
    """The hash of a token, or of the text of its family."""
    # Both are random bits: no search can find one from its hash, so a slow hash would only cost time.
    return sha256(token.encode()).digest()


_REFUSALS: Final[dict[str, type[StoreError]]] = {
    "unknown": TokenUnknown,
    "expired": TokenExpired,
    "revoked": DeviceRevoked,
    "reused": TokenReused,
    "suspended": AccountSuspended,
    "former": TokenRenewed,
}
"""States of a token that is not good -> the error. The former token is good for all but a renewal."""
