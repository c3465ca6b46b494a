"""The devices of users: logging in, listing, revoking."""

from __future__ import annotations

import os
from typing import Final, Literal

from msgspec import Struct

from store import sql
from store.errors import AccountClosed, AccountSuspended, DeviceRevoked, PasswordChanged, UnknownDevice, UnknownUser
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import SYSTEM, Source
from store.tokens import first_token, hashes

_sql = sql.load("devices")


MAX_DEVICES: Final = 100
"""Devices of a user that are logged in; a further login revokes the one that was used least recently. So logging out
everywhere is a bounded transaction. Users have a handful; programs that log in at each start have no end."""


class Device(Struct, frozen=True):
    """A device, for its user; times in microseconds since 1970.

    :ivar last_used: up to `device_uses.ACCURACY_S` too early.
    :ivar client: name and version, as the client has told it last; None: it has told none.
    """

    device: bytes
    name: str
    created: int
    expires: int
    last_used: int
    client: str | None


class EndedDevice(Struct, frozen=True):
    """A device whose connections are to be closed.

    :ivar device: None: all devices of the user.
    :ivar why: it was revoked, a token of it was shown that had ended, or an operator has suspended the user.
    """

    user: bytes
    device: bytes | None
    why: Literal["revoked", "reused", "suspended"]


async def add_device(
    pool: Pool,
    user: bytes,
    name: str,
    *,
    lifetime_s: float,
    password_hash: str | None = None,
    authenticated: float | None = None,
    client: str | None = None,
    source: Source = SYSTEM,
) -> tuple[bytes, str, int]:
    """Add a device of a user; return its id, its token, and when the token expires (microseconds). The token cannot be
    read again.

    If the user has `MAX_DEVICES` already, the same transaction revokes the one that was used least recently. It
    enqueues the job that tells the user by mail, if the user wants that.

    :param client: name and version of the program, if it tells them.
    :param password_hash: the one that the shown password fits; None: the user has shown none.
    :param authenticated: when the user logged in at an external issuer, in seconds since 1970; None: the login is not
        by its token. The device is confirmed then, and not now.
    :raises PasswordChanged: if the user has another password by now.
    :raises AccountClosed: if the user has asked to delete the account.
    :raises AccountSuspended: if an operator has suspended the user.
    """
    device, token = os.urandom(16), first_token()
    parameters = {
        "device": uuid(device),
        "user": uuid(user),
        "name": name,
        "password_hash": password_hash,
        "authenticated": authenticated,
        "client": client,
        "most": MAX_DEVICES,
        **hashes(token),
        "lifetime_s": lifetime_s,
        "source": source.encoded(),
    }
    rows = await pool.fetch(_sql.add_device, parameters)
    if not rows:
        raise UnknownUser
    [(expires, is_closed, is_suspended)] = rows
    if expires is None:
        if is_suspended:
            raise AccountSuspended
        raise AccountClosed if is_closed else PasswordChanged
    return device, token, expires


async def devices_of(pool: Pool, user: bytes, *, limit: int, before: tuple[int, bytes] | None = None) -> list[Device]:
    """A page of a user's devices with a valid token, the newest first.

    :param before: `created` and id of the last device of the page before.
    """
    created, device = before or (2**63 - 1, bytes(16))
    parameters = {"user": uuid(user), "before": created, "before_id": uuid(device), "limit": limit}
    return [Device(*row) for row in await pool.fetch(_sql.devices_of, parameters)]


async def revoke_device(pool: Pool, user: bytes, device: bytes, *, source: Source = SYSTEM) -> None:
    """Make a device's tokens void from now on; repeating it changes nothing.

    :raises UnknownDevice: if the user has no such device.
    """
    parameters = {"user": uuid(user), "device": uuid(device), "source": source.encoded()}
    if not await pool.fetch(_sql.revoke_device, parameters):
        raise UnknownDevice


async def revoke_devices(pool: Pool, user: bytes, *, keep: bytes | None = None, source: Source = SYSTEM) -> None:
    """Make the tokens of all devices of a user void from now on, in one transaction.

    :param keep: the device that stays; None: none.
    """
    parameters = {"user": uuid(user), "except": None if keep is None else uuid(keep), "source": source.encoded()}
    await pool.fetch(_sql.revoke_devices, parameters)


async def ended_since(pool: Pool, *, ago_s: float) -> list[EndedDevice]:
    """The devices whose connections are to be closed, since something happened in the last `ago_s` seconds, by
    Postgres' clock."""
    return [EndedDevice(*row) for row in await pool.fetch(_sql.ended_since, {"ago_s": ago_s})]


async def confirm(pool: Pool, user: bytes, device: bytes, password_hash: str) -> int:
    """Note that the user has shown the password on this device; return the time (microseconds since 1970).

    :param password_hash: the one that the shown password fits.
    :raises PasswordChanged: if the user has another password by now, or the device was revoked.
    """
    parameters = {"user": uuid(user), "device": uuid(device), "password_hash": password_hash}
    rows = await pool.fetch(_sql.confirm, parameters)
    if not rows:
        raise PasswordChanged
    return int(rows[0][0])


async def confirm_externally(pool: Pool, user: bytes, device: bytes, authenticated: float) -> int:
    """Note on this device that the user has logged in at an external issuer; return when the user has shown that last
    (microseconds since 1970). To show the same token again changes nothing.

    :param authenticated: when that was, in seconds since 1970.
    :raises DeviceRevoked: if the device was revoked.
    """
    parameters = {"user": uuid(user), "device": uuid(device), "authenticated": authenticated}
    rows = await pool.fetch(_sql.confirm_externally, parameters)
    if not rows:
        raise DeviceRevoked
    return int(rows[0][0])
