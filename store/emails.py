"""E-mail addresses of users: whether they are theirs, what they want to be told by mail, and what such mails need.

Tokens in mails are made from a key in Postgres each time that a mail is written, and are kept nowhere; what is kept is
their hashes (`docs/decisions/0021-mail.md`).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final

from msgspec import Struct

from store import sql
from store.errors import TooManyMails, UnknownZone, UnsubscribeUnknown, VerificationExpired, VerificationUnknown
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("emails")

VERIFICATION_S: Final = 86400.0
"""For so long the link in a verification mail is good: people read their mail once a day."""

WINDOW_S: Final = 3600.0
MAX_ASKED: Final = 5
"""Mails to addresses that are not verified, asked for by one user in one window: enough for somebody who mistypes
theirs and looks for the mail in vain, and no tool to annoy somebody else with."""

MAX_OTHERS: Final = 3
"""Other users who may wait for the verification of the same address in one window, or nobody more is sent one there."""

LATE_S: Final = 6 * 3600.0
"""A digest that is later than this, as after an outage, is left out: the next one comes at its hour."""

APART_S: Final = 6 * 3600.0
"""No two digests come closer together: a job that runs once more sends no second one."""


class EmailSettings(Struct, frozen=True):
    """What a user wants to be told, and where.

    :ivar address: None for none.
    :ivar digest_hour: of the day, 0 to 23, in `zone`.
    :ivar zone: of the IANA database.
    """

    address: str | None = None
    is_verified: bool = False
    wants_digest: bool = False
    wants_device_notice: bool = True
    digest_hour: int = 8
    zone: str = "UTC"


class Verification(Struct, frozen=True):
    """A mail that asks whether an address is its user's."""

    address: str
    token: str


class DeviceNotice(Struct, frozen=True):
    """A mail that tells of a new device.

    :ivar at: when it was logged in with, as text, by the clocks of `zone`.
    """

    address: str
    username: str
    device_name: str
    at: str
    zone: str


class Digest(Struct, frozen=True):
    """A mail that tells how much is unread, and nothing of what.

    :ivar token: to unsubscribe with.
    """

    address: str
    username: str
    token: str
    unread: int
    conversations: int


async def email_settings_of(pool: Pool, user: bytes) -> EmailSettings:
    """What a user has said, or the defaults."""
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    return EmailSettings(*rows[0]) if rows else EmailSettings()


async def put(
    pool: Pool,
    user: bytes,
    address: str,
    *,
    wants_digest: bool,
    wants_device_notice: bool,
    digest_hour: int,
    zone: str,
) -> None:
    """Set a user's address, and what is wanted there. Unless it is verified, the job that sends a mail there is
    enqueued in the same transaction.

    :param address: in the spelling of `runtime.email_address.normal`.
    :raises TooManyMails: if such mails were asked for too often; nothing was set.
    :raises UnknownZone: if Postgres knows no such time zone; nothing was set.
    """
    parameters = {
        "user": uuid(user),
        "address": address,
        "wants_digest": wants_digest,
        "wants_device_notice": wants_device_notice,
        "digest_hour": digest_hour,
        "zone": zone,
        "lifetime_s": VERIFICATION_S,
        "window_s": WINDOW_S,
        "most": MAX_ASKED,
        "most_others": MAX_OTHERS,
    }
    [(outcome, wait_s)] = await pool.fetch(_sql.put, parameters)
    if outcome == "too_many":
        raise TooManyMails(wait_s)
    if outcome == "unknown":
        raise UnknownZone


async def remove(pool: Pool, user: bytes) -> None:
    """The user has no address any more, and the links of mails that were sent there do nothing."""
    await pool.fetch(_sql.remove, {"user": uuid(user)})


async def verify(pool: Pool, token: str) -> None:
    """The address that this token was sent to is its user's; to say so again changes nothing.

    :raises VerificationUnknown: if nobody has that address any more, or it never was a token.
    :raises VerificationExpired: if the mail is too old.
    """
    [(outcome,)] = await pool.fetch(_sql.verify, {"token_hash": _hash(token)})
    if outcome == "unknown":
        raise VerificationUnknown
    if outcome == "expired":
        raise VerificationExpired


async def unsubscribe(pool: Pool, token: str) -> None:
    """No more digests to whoever has this token.

    :raises UnsubscribeUnknown: if nobody has.
    """
    if not await pool.fetch(_sql.unsubscribe, {"token_hash": _hash(token)}):
        raise UnsubscribeUnknown


async def verification(pool: Pool, user: bytes) -> Verification | None:
    """The mail that is to be sent; None if it is wanted no more."""
    rows = await pool.fetch(_sql.verification, {"user": uuid(user)})
    return Verification(rows[0][0], _text(rows[0][1])) if rows else None


async def device_notice(pool: Pool, user: bytes, device: bytes) -> DeviceNotice | None:
    """The mail that is to be sent; None if it is not wanted."""
    rows = await pool.fetch(_sql.device_notice, {"user": uuid(user), "device": uuid(device)})
    return DeviceNotice(*rows[0]) if rows else None


async def ask_digests(pool: Pool, *, limit: int) -> tuple[int, int]:
    """Make jobs of digests that are due: how many were looked at, and how many became jobs.

    Any number of workers may do this at once.

    :param limit: of those that are looked at; as many as that means that there may be more.
    """
    [(looked_at, asked)] = await pool.fetch(_sql.ask_digests, {"limit": limit, "late_s": LATE_S})
    return looked_at, asked


async def digest(pool: Pool, user: bytes) -> Digest | None:
    """The mail that is to be sent; None if it is not wanted, or there is nothing to tell, or it was sent just now."""
    rows = await pool.fetch(_sql.digest, {"user": uuid(user), "apart_s": APART_S})
    if not rows:
        return None
    [(address, username, token, unread, conversations)] = rows
    return Digest(address, username, _text(token), unread, conversations)


async def digest_sent(pool: Pool, user: bytes, address: str) -> None:
    """The digest was sent: there is none for a while."""
    await pool.fetch(_sql.digest_sent, {"user": uuid(user), "address": address})


def _text(token: bytes) -> str:
    return urlsafe_b64encode(token).rstrip(b"=").decode()


def _hash(text: str) -> bytes:
    """What a token is found by; of what is none, something by which nothing is found."""
    try:
        token = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        token = b""
    return sha256(token).digest()
