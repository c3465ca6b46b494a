"""The identities and the one-time keys of devices, which others need in order to encrypt for them (decision 55).

The store never looks into the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from protocol.frames import KeyPool, ListedDevice, OneTimeKey
from protocol.limits import (
    FEW_KEYS,
    KEY_KINDS_PER_DEVICE,
    MAX_LISTED_DEVICES,
    MAX_PAGE_BYTES,
    MAX_POOL_KEYS,
    MAX_SHOWN,
)
from store import sql
from store.errors import DeviceRevoked, ForeignKeyHistory, QuotaExceeded
from store.postgres.columns import BIGINT, BIGINTS, BOOL, BYTEA, BYTEAS, INT, TEXTS, UUID, UUIDS
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("keys")
_DEVICES: Final = Statement(
    _sql.devices, {"user": UUID, "users": UUIDS, "after": UUID, "bytes": BIGINT, "limit": BIGINT}
)
_PUT: Final = Statement(
    _sql.put_keys,
    {
        "device": UUID,
        "identity": BYTEA,
        "history": BIGINT,
        "kinds": TEXTS,
        "numbers": BIGINTS,
        "keys": BYTEAS,
        "last_kinds": TEXTS,
        "last_numbers": BIGINTS,
        "last_keys": BYTEAS,
        "is_anew": BOOL,
        "most": INT,
        "most_kinds": INT,
        "few": INT,
    },
)


class DeviceKeys(Struct, frozen=True):
    """What the server holds of a device.

    :ivar identity: None: the device has published none.
    :ivar identity_revision: how often it was another one.
    :ivar history: of the database: keys are stored under it alone.
    :ivar pools: of one-time keys, by kind.
    """

    identity: bytes | None
    identity_revision: int
    history: bytes
    pools: list[KeyPool]


class DevicesPage(Struct, frozen=True):
    """A page of devices, in the order of their ids.

    :ivar more: there are devices with greater ids.
    """

    devices: list[ListedDevice]
    more: bool


class LowDevice(Struct, frozen=True):
    """A device that is low on one-time keys, or whose last-resort key was handed out.

    :ivar kinds: of these keys.
    :ivar since: when that was noted last, in microseconds since 1970.
    """

    user: bytes
    device: bytes
    kinds: list[str]
    since: int


async def put(
    pool: Pool,
    device: bytes,
    identity: bytes | None = None,
    keys: Sequence[OneTimeKey] = (),
    last_resort: Sequence[OneTimeKey] = (),
    *,
    is_anew: bool = False,
    history: bytes | None = None,
) -> DeviceKeys:
    """Publish what a device gives; to do so again changes nothing. Returns what the server holds after that.

    Keys whose numbers the server has stored before are skipped, and so are those beyond `limits.MAX_POOL_KEYS` of a
    kind, the greatest numbers first.

    :param identity: 1 to `limits.MAX_IDENTITY_BYTES`; None: it stays as it is. Another one drops all keys before.
    :param keys: to be handed out once each, in the order of their numbers.
    :param last_resort: one of a kind, to be handed out when there is no other.
    :param is_anew: `keys` take the place of those of their kinds that have lesser numbers and were not claimed.
    :param history: of `DeviceKeys`, as the device was told it; for uploads of keys.
    :raises DeviceRevoked: if the device was revoked.
    :raises ForeignKeyHistory: if `history` is another one, or is missing; nothing is stored.
    :raises QuotaExceeded: if the device would have keys of more than `limits.KEY_KINDS_PER_DEVICE` kinds.
    """
    values = {
        "device": device,
        "identity": identity,
        "history": _history_number(history),
        **_columns("", keys),
        **_columns("last_", last_resort),
        "is_anew": is_anew,
        "most": MAX_POOL_KEYS,
        "most_kinds": KEY_KINDS_PER_DEVICE.value,
        "few": FEW_KEYS,
    }
    rows = await pool.run(_PUT, values)
    match rows[0][0]:
        case "put":
            return _device_keys([row[1:] for row in rows])
        case "other_history":
            raise ForeignKeyHistory
        case "too_many_kinds":
            raise QuotaExceeded(KEY_KINDS_PER_DEVICE.name, KEY_KINDS_PER_DEVICE.value)
        case _:
            raise DeviceRevoked


async def status(pool: Pool, device: bytes) -> DeviceKeys:
    """What the server holds of a device.

    :raises DeviceRevoked: if the device was revoked.
    """
    rows = await pool.fetch(_sql.status, {"device": uuid(device)})
    if not rows:
        raise DeviceRevoked
    return _device_keys(rows)


async def devices_of(
    pool: Pool,
    user: bytes,
    users: Sequence[bytes],
    *,
    after: bytes | None = None,
    limit: int = MAX_LISTED_DEVICES,
    max_bytes: int = MAX_PAGE_BYTES,
) -> DevicesPage:
    """A page of the devices of those users, among some, whose devices a user may see.

    These are the user's own, and those of users who share a conversation with the user, or have the user as a contact.

    Only devices that have an identity: until they are revoked, or a worker has noted that they have expired
    (`end_expired_identities`). They are the device set of a conversation as of the present version or a later one.

    :param after: only devices with greater ids; None: all.
    :param max_bytes: of all identities together; the first device is listed even if it has more.
    """
    values = {
        "user": user,
        "users": list(dict.fromkeys(users)),
        "after": after or bytes(16),
        "bytes": max_bytes,
        "limit": limit + 1,
    }
    rows = await pool.read(_DEVICES, values)
    page = [ListedDevice(*row) for row in rows[:limit] if row[2] is not None]
    return DevicesPage(page, len(page) < len(rows))


async def low_since(pool: Pool, *, ago_s: float) -> list[LowDevice]:
    """The devices that were found to be low on keys in the last `ago_s` seconds, by Postgres' clock."""
    return [LowDevice(*row) for row in await pool.fetch(_sql.low_since, {"ago_s": ago_s})]


async def forget_claims(pool: Pool, *, limit: int) -> int:
    """Forget counts of claims from before the last hour; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.forget_claims, {"limit": limit})
    return int(count)


async def end_expired_identities(pool: Pool) -> int:
    """Take their identities from the expired devices of one user; return how many, 0 if there are none."""
    [(gone,)] = await pool.fetch(_sql.end_expired_identities)
    return int(gone)


class DeviceSetChange(Struct, frozen=True):
    """The device set of a conversation has changed by the devices of one user.

    :ivar since: the version of the last change before it by the devices of another user; 0: there was none.
    :ivar participants: of the conversation.
    """

    conversation: bytes
    user: bytes
    version: int
    since: int
    participants: list[bytes]


async def small_changes(pool: Pool, users: Sequence[bytes]) -> list[DeviceSetChange]:
    """The changes by the devices of some users in the last minute, in the conversations of at most `MAX_SHOWN`."""
    rows = await pool.fetch(_sql.small_changes, {"users": uuids(users), "most": MAX_SHOWN})
    return [DeviceSetChange(*row) for row in rows if row[4]]


def _columns(prefix: str, keys: Sequence[OneTimeKey]) -> dict[str, list[Any]]:
    return {
        f"{prefix}kinds": [kind for kind, _, _ in keys],
        f"{prefix}numbers": [number for _, number, _ in keys],
        f"{prefix}keys": [key for _, _, key in keys],
    }


def _device_keys(rows: Sequence[Sequence[Any]]) -> DeviceKeys:
    identity, revision, history, *_ = rows[0]
    pools: list[KeyPool] = [tuple(row[3:]) for row in rows if row[3] is not None]
    return DeviceKeys(identity, revision, history.to_bytes(HISTORY_BYTES, "big", signed=True), pools)


HISTORY_BYTES: Final = 8


def _history_number(history: bytes | None) -> int | None:
    """Bytes of another length are of no history."""
    if history is None or len(history) != HISTORY_BYTES:
        return None
    return int.from_bytes(history, "big", signed=True)
