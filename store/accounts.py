"""Users. Passwords arrive here hashed."""

from __future__ import annotations

import os

from msgspec import Struct

from store import sql
from store.errors import DatabaseError, IdentityTaken, InvitationVoid, PasswordChanged, UnknownUser, UsernameTaken
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import SYSTEM, Source
from store.tokens import token_hash

_sql = sql.load("accounts")


class Account(Struct, frozen=True):
    """A user, for the login.

    :ivar password_hash: None: the user has no password.
    """

    user: bytes
    username: str
    password_hash: str | None


class ExternalIdentity(Struct, frozen=True):
    """A user of an external issuer, as its tokens name them (`iss`, `sub`)."""

    issuer: str
    subject: str


async def add_user(
    pool: Pool,
    username: str,
    password_hash: str | None,
    *,
    identity: ExternalIdentity | None = None,
    invitation: str | None = None,
    source: Source = SYSTEM,
) -> bytes:
    """Add a user; return the new id.

    :param password_hash: None: the user has no password.
    :param identity: with which the user logs in.
    :param invitation: its code; the same transaction takes one use of it. None: the user needs none.
    :raises UsernameTaken: if another user has that name, or had it when the account was deleted, a short time ago.
    :raises InvitationVoid: if there is no such invitation, or it has expired or has no use left.
    :raises IdentityTaken: if a user has that identity.
    """
    user = os.urandom(16)
    parameters = {
        "user": uuid(user),
        "username": username,
        "password_hash": password_hash,
        "code_hash": None if invitation is None else token_hash(invitation),
        "issuer": identity and identity.issuer,
        "subject": identity and identity.subject,
        "source": source.encoded(),
    }
    try:
        [(outcome,)] = await pool.fetch(_sql.add_user, parameters)
    except DatabaseError as error:
        match error.constraint:
            case "users_username":
                raise UsernameTaken from None
            case "external_identities_pkey":
                raise IdentityTaken from None
        raise
    if outcome == "taken":
        raise UsernameTaken
    if outcome == "void":
        raise InvitationVoid
    return user


async def password_hash_of(pool: Pool, user: bytes) -> str | None:
    """
    :returns: None if the user has no password.
    :raises UnknownUser: if no user has this id.
    """
    rows = await pool.fetch(_sql.password_hash_of, {"user": uuid(user)})
    if not rows:
        raise UnknownUser
    [(password_hash,)] = rows
    return None if password_hash is None else str(password_hash)


async def replace_hash(pool: Pool, user: bytes, old_hash: str, new_hash: str) -> bool:
    """Put another hash of the same password in place of the old one; return False if the user has another one by
    now."""
    parameters = {"user": uuid(user), "old_hash": old_hash, "new_hash": new_hash}
    return bool(await pool.fetch(_sql.replace_hash, parameters))


async def change_password(
    pool: Pool,
    user: bytes,
    device: bytes,
    old_hash: str,
    new_hash: str,
    *,
    ends_others: bool,
    source: Source = SYSTEM,
) -> None:
    """Change a user's password, in one transaction with the end of the user's other devices, if that is asked for.

    :param device: on which the user has shown the old password.
    :param old_hash: the one that the shown password fits.
    :raises PasswordChanged: if the user has another password by now; nothing was changed.
    """
    parameters = {
        "user": uuid(user),
        "device": uuid(device),
        "old_hash": old_hash,
        "new_hash": new_hash,
        "ends_others": ends_others,
        "source": source.encoded(),
    }
    [(is_changed,)] = await pool.fetch(_sql.change_password, parameters)
    if not is_changed:
        raise PasswordChanged


async def user_by_name(pool: Pool, username: str) -> Account:
    """
    :raises UnknownUser: if no user has this name.
    """
    # Postgres takes no text with NUL, and so no user has such a name.
    rows = await pool.fetch(_sql.user_by_name, {"username": username}) if "\0" not in username else []
    if not rows:
        raise UnknownUser
    return Account(*rows[0])


async def user_by_identity(pool: Pool, identity: ExternalIdentity) -> tuple[bytes, str] | None:
    """The user who has this identity, and the username; None if no user has it."""
    rows = await pool.fetch(_sql.user_by_identity, {"issuer": identity.issuer, "subject": identity.subject})
    return (rows[0][0], rows[0][1]) if rows else None
