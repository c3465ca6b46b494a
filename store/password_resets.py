"""Another password for users who do not know theirs, by a mail to their verified address.

The token in a mail is computed from a key in Postgres when the mail is written, as those of other mails
(`store.emails`); only its hash is stored.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from store import sql
from store.emails import AccountNotice, token_text
from store.emails import token_hash as mail_token_hash
from store.errors import ResetExpired, ResetUnknown
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import SYSTEM, Source

_sql = sql.load("password_resets")

LIFETIME_S: Final = 3600.0
"""The time for which the link in a mail is good, at least: the user that asks for it waits for it. Mails lie in
mailboxes for years."""

MARGIN_S: Final = 900.0
"""While a link is good for so much longer, strangers cause no other mail: the user has time to follow it."""

WINDOW_S: Final = 86400.0
VOIDED_S: Final = WINDOW_S
"""How long the link is good that an operator makes and hands to the user; no row outlives the window."""

MAX_OWN: Final = 5
"""Mails in one window that the devices of a user may ask for, by their tokens: enough for a user who looks for the mail
in vain. Those of strangers are bounded by the time for which links are good (ask_password_reset)."""

MAX_ACCOUNTS: Final = 3
"""Accounts with one address that get a mail: each mail names its account."""


class ResetMail(Struct, frozen=True):
    """A mail with a link that sets another password.

    :ivar at: when the link ends, as text, in `zone`.
    """

    address: str
    username: str
    token: str
    at: str
    zone: str


async def ask(
    pool: Pool, *, username: str | None = None, address: str | None = None, known: bytes | None = None
) -> None:
    """Have a mail sent to each account with this name or this verified address. It takes as long if there is none, and
    tells nothing.

    :param address: in the spelling of `runtime.email_address.normal`.
    :param known: the user whose device asks: strangers do not use up the mails of that user.
    """
    parameters = {
        "username": username,
        "address": address,
        "known": known and uuid(known),
        "lifetime_s": LIFETIME_S,
        "margin_s": MARGIN_S,
        "window_s": WINDOW_S,
        "most": MAX_OWN,
        "accounts": MAX_ACCOUNTS,
    }
    await pool.fetch(_sql.ask, parameters)


async def mail(pool: Pool, reset: bytes) -> ResetMail | None:
    """The mail to send; None if it is not wanted any longer, or was asked for nobody."""
    rows = await pool.fetch(_sql.mail, {"reset": uuid(reset)})
    if not rows:
        return None
    [(address, username, token, at, zone)] = rows
    return ResetMail(address, username, token_text(token), at, zone)


async def check(pool: Pool, token: str) -> str:
    """The username of the account whose password the token sets.

    :raises ResetUnknown: if the token is unknown or void.
    :raises ResetExpired: if the mail is too old.
    """
    rows = await pool.fetch(_sql.state, {"token_hash": mail_token_hash(token)})
    if not rows:
        raise ResetUnknown
    [(is_good, username)] = rows
    if not is_good:
        raise ResetExpired
    return str(username)


async def reset(pool: Pool, token: str, password_hash: str, *, source: Source = SYSTEM) -> None:
    """Set another password, once: the token is void then, like all others of the user. All devices are logged out, and
    a mail tells the user.

    :raises ResetUnknown, ResetExpired: as `check`.
    """
    parameters = {
        "token_hash": mail_token_hash(token),
        "password_hash": password_hash,
        "source": source.encoded(),
    }
    [(outcome,)] = await pool.fetch(_sql.reset, parameters)
    if outcome == "unknown":
        raise ResetUnknown
    if outcome == "expired":
        raise ResetExpired


async def void(pool: Pool, user: bytes, *, source: Source) -> str | None:
    """Void the password of a user and log out all devices; return the token with which the user sets another one, good
    for `VOIDED_S`. None, and nothing is changed, if the user has no password.
    """
    parameters = {"user": uuid(user), "lifetime_s": VOIDED_S, "source": source.encoded()}
    [(token,)] = await pool.fetch(_sql.void, parameters)
    return None if token is None else token_text(token)


async def changed_notice(pool: Pool, user: bytes) -> AccountNotice | None:
    """The mail that the password was changed; None if it is not wanted. `at` is when the mail is written."""
    rows = await pool.fetch(_sql.changed_notice, {"user": uuid(user)})
    return AccountNotice(*rows[0]) if rows else None


async def forget_resets(pool: Pool, *, limit: int) -> int:
    """Forget what was asked for before the present window; return how many, 0 at the end."""
    [(gone,)] = await pool.fetch(_sql.forget, {"window_s": WINDOW_S, "limit": limit})
    return int(gone)
