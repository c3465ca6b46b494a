"""The identities of devices, which others need in order to encrypt for them. The store never looks into the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from protocol.frames import ListedDevice
from protocol.limits import MAX_LISTED_DEVICES, MAX_PAGE_BYTES
from store import sql
from store.errors import DeviceRevoked
from store.postgres.columns import BIGINT, UUID, UUIDS
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("keys")
_DEVICES: Final = Statement(
    _sql.devices, {"user": UUID, "users": UUIDS, "after": UUID, "bytes": BIGINT, "limit": BIGINT}
)


class Published(Struct, frozen=True):
    """What a device has published.

    :ivar identity: None: nothing yet.
    :ivar identity_revision: how often it was another one.
    """

    identity: bytes | None
    identity_revision: int


class DevicesPage(Struct, frozen=True):
    """A page of devices, in the order of their ids.

    :ivar more: there are devices with greater ids.
    """

    devices: list[ListedDevice]
    more: bool


async def put(pool: Pool, device: bytes, identity: bytes | None) -> Published:
    """Publish the identity of a device; to do so again changes nothing.

    :param identity: 1 to `limits.MAX_IDENTITY_BYTES`; None: it stays as it is.
    :raises DeviceRevoked: if the device was revoked.
    """
    rows = await pool.fetch(_sql.put_identity, {"device": uuid(device), "identity": identity})
    if not rows:
        raise DeviceRevoked
    return Published(*rows[0])


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

    Only devices that have an identity and are logged in, of users who are not suspended.

    :param after: only devices with greater ids; None: all.
    :param max_bytes: of all identities together; the first device is listed even if it has more.
    """
    values = {"user": user, "users": users, "after": after or bytes(16), "bytes": max_bytes, "limit": limit + 1}
    rows = await pool.read(_DEVICES, values)
    page = [ListedDevice(*row) for row in rows[:limit] if row[2] is not None]
    return DevicesPage(page, len(page) < len(rows))
