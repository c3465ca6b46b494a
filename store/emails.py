"""E-mail addresses of users: their verification, the mails that users want, and the data for these mails.

A token in a mail is computed from a key in Postgres each time that a mail is written. Only hashes of tokens are stored
(`docs/decisions/0021-mail.md`).
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
from store.security_events import SYSTEM, Source
from store.tokens import TOKEN_PREFIX

_sql = sql.load("emails")

VERIFICATION_S: Final = 86400.0
"""How long the link in a verification mail is valid: people read their mail once a day."""

WINDOW_S: Final = 3600.0
MAX_ASKED: Final = 5
"""Mails to unverified addresses that one user may ask for in one window: enough for a user who mistypes the address and
looks for the mail in vain, and too few to annoy another person with."""

MAILBOX_WINDOW_S: Final = 86400.0
MAX_TO_MAILBOX: Final = 8
"""Mails to unverified addresses of one mailbox in one window, whichever users ask for them: more than its owner needs,
and too few for many users to annoy the owner with. The plain spelling of the mailbox has one more."""

MARGIN_S: Final = 900.0
"""A token that went to an address and is good for so much longer takes the place of another mail."""

LATE_S: Final = 6 * 3600.0
"""A digest that is later than this, as after an outage, is skipped: the next one comes at its hour."""

APART_S: Final = 6 * 3600.0
"""The least time between two digests: a job that runs again sends no second one."""


class EmailSettings(Struct, frozen=True):
    """The mails that a user wants, and the address.

    :ivar address: None if the user has none.
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
    """A mail that asks a user to verify an address."""

    address: str
    token: str


class AccountNotice(Struct, frozen=True):
    """A mail about an account.

    :ivar at: a time, as text, in `zone`; the function that returns the mail says which.
    """

    address: str
    username: str
    at: str
    zone: str


class DeviceNotice(Struct, frozen=True):
    """A mail about a new device, or one that was revoked since a token was reused.

    :ivar at: the time of that, as text, in `zone`.
    """

    address: str
    username: str
    device_name: str
    at: str
    zone: str


class Digest(Struct, frozen=True):
    """A mail with the number of unread messages, without their contents.

    :ivar token: for the link to unsubscribe.
    """

    address: str
    username: str
    token: str
    unread: int
    conversations: int


async def email_settings_of(pool: Pool, user: bytes) -> EmailSettings:
    """A user's settings, or the defaults."""
    rows = await pool.fetch(_sql.of, {"user": uuid(user)})
    return EmailSettings(*rows[0]) if rows else EmailSettings()


async def put(
    pool: Pool,
    user: bytes,
    address: str,
    *,
    mailbox: str | None = None,
    wants_digest: bool,
    wants_device_notice: bool,
    digest_hour: int,
    zone: str,
    source: Source = SYSTEM,
) -> bool:
    """Set a user's address and the mails that go there. Unless it is verified, the same transaction enqueues the job
    that sends the verification mail.

    Returns whether a mail follows. None does if the address is verified; or if the mails to its mailbox are used up,
    and a token that went to the address is good: the user shows that one (`verify`).

    :param address: in the spelling of `runtime.email_address.normal`.
    :param mailbox: the text under which mails to the address are counted (`runtime.email_address.mailbox`); by
        default the address.
    :raises TooManyMails: if the user asked too often for such mails, or the mails to the mailbox are used up and the
        address is not its plain spelling; nothing was set.
    :raises UnknownZone: if Postgres does not know the time zone; nothing was set.
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
        "mailbox": sha256((mailbox or address).encode()).digest(),
        "mailbox_window_s": MAILBOX_WINDOW_S,
        "most_to_mailbox": MAX_TO_MAILBOX,
        "margin_s": MARGIN_S,
        "source": source.encoded(),
    }
    [(outcome, wait_s, sends_mail)] = await pool.fetch(_sql.put, parameters)
    if outcome == "too_many":
        raise TooManyMails(wait_s)
    if outcome == "unknown":
        raise UnknownZone
    return bool(sends_mail)


async def remove(pool: Pool, user: bytes, *, source: Source = SYSTEM) -> None:
    """Remove the user's address; the links of mails that were sent there have no effect any longer."""
    await pool.fetch(_sql.remove, {"user": uuid(user), "source": source.encoded()})


async def verify(pool: Pool, token: str, *, user: bytes | None = None, source: Source = SYSTEM) -> None:
    """Verify the address that this token was sent to. Repeating it changes nothing.

    :param user: who shows the token, if that is known. If the token went to the address of this user, it verifies that,
        whoever has asked for the mail; so no stranger who uses up the mails to a mailbox keeps its owner from this.

    :raises VerificationUnknown: if the token is unknown, or the address has changed since.
    :raises VerificationExpired: if the mail is too old.
    """
    parameters = {"token_hash": token_hash(token), "user": user and uuid(user), "source": source.encoded()}
    [(outcome,)] = await pool.fetch(_sql.verify, parameters)
    if outcome == "unknown":
        raise VerificationUnknown
    if outcome == "expired":
        raise VerificationExpired


async def unsubscribe(pool: Pool, token: str) -> None:
    """End the digests to the address that this token was sent to.

    :raises UnsubscribeUnknown: if the token is unknown, or the address has changed since.
    """
    if not await pool.fetch(_sql.unsubscribe, {"token_hash": token_hash(token)}):
        raise UnsubscribeUnknown


async def take_verification(pool: Pool, user: bytes) -> Verification | None:
    """The verification mail to send, which counts for its mailbox from now on; None if it is not wanted any longer, or
    the mails to the mailbox are used up. Repeating it counts one mail once."""
    parameters = {
        "user": uuid(user),
        "window_s": MAILBOX_WINDOW_S,
        "most": MAX_TO_MAILBOX,
        "margin_s": MARGIN_S,
    }
    rows = await pool.fetch(_sql.take_verification, parameters)
    return Verification(rows[0][0], token_text(rows[0][1])) if rows else None


async def device_notice(pool: Pool, user: bytes, device: bytes) -> DeviceNotice | None:
    """The mail about a new device to send; None if it is not wanted."""
    rows = await pool.fetch(_sql.device_notice, {"user": uuid(user), "device": uuid(device)})
    return DeviceNotice(*rows[0]) if rows else None


async def reuse_notice(pool: Pool, user: bytes, device: bytes) -> DeviceNotice | None:
    """The mail to send about a token that was shown after its end; None if it is not wanted. `at` is that time."""
    rows = await pool.fetch(_sql.reuse_notice, {"user": uuid(user), "device": uuid(device)})
    return DeviceNotice(*rows[0]) if rows else None


async def ask_digests(pool: Pool, *, limit: int) -> tuple[int, int]:
    """Enqueue jobs for digests that are due; return how many users it looked at, and how many jobs it enqueued.

    Any number of workers may do this at once.

    :param limit: the most users to look at; if it looked at that many, there may be more.
    """
    [(looked_at, asked)] = await pool.fetch(_sql.ask_digests, {"limit": limit, "late_s": LATE_S})
    return looked_at, asked


async def digest(pool: Pool, user: bytes) -> Digest | None:
    """The digest to send; None if it is not wanted, all messages are read, or one was sent a short time ago."""
    rows = await pool.fetch(_sql.digest, {"user": uuid(user), "apart_s": APART_S})
    if not rows:
        return None
    [(address, username, token, unread, conversations)] = rows
    return Digest(address, username, token_text(token), unread, conversations)


async def digest_sent(pool: Pool, user: bytes, address: str) -> None:
    """Note that a digest was sent; the next one waits for `APART_S`."""
    await pool.fetch(_sql.digest_sent, {"user": uuid(user), "address": address})


async def forget_mailboxes(pool: Pool, *, limit: int) -> int:
    """Forget at most `limit` mailboxes that had their mails before the window; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.forget_mailboxes, {"window_s": MAILBOX_WINDOW_S, "limit": limit})
    return int(count)


async def forget_sent(pool: Pool, *, limit: int) -> int:
    """Forget at most `limit` tokens of verification mails that ended a day ago; return how many, 0 at the end."""
    parameters = {"window_s": MAILBOX_WINDOW_S, "limit": limit}
    [(count,)] = await pool.fetch(_sql.forget_sent_verifications, parameters)
    return int(count)


def token_text(token: bytes) -> str:
    """The form of a token in a link."""
    return TOKEN_PREFIX + urlsafe_b64encode(token).rstrip(b"=").decode()


def token_hash(text: str) -> bytes:
    """The hash by which a token is found; for a text that cannot be a token, a hash that matches no row."""
    coded = text.removeprefix(TOKEN_PREFIX)
    try:
        token = urlsafe_b64decode(coded + "=" * (-len(coded) % 4)) if coded != text else b""
    except ValueError:
        token = b""
    return sha256(token).digest()
