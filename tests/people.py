"""Users with devices, straight into the store: registering over HTTP hashes passwords, which takes long."""

from __future__ import annotations

import time

from client.http import Credentials
from store import accounts, conversations, devices
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool

TOKEN_LIFETIME_S = 90 * 24 * 3600.0


async def new_device(
    pool: Pool, user: bytes, name: str = "test", *, lifetime_s: float = TOKEN_LIFETIME_S
) -> Credentials:
    device, token, _ = await devices.add_device(pool, user, name, lifetime_s=lifetime_s)
    return Credentials(user, device, token, renewed=time.time())


async def new_user(pool: Pool, username: str) -> Credentials:
    return await new_device(pool, await accounts.add_user(pool, username, "no password"))


async def make_contacts(pool: Pool, one: Credentials, *others: Credentials) -> None:
    """Make the first user and each of the others contacts: conversations that they begin are not requests."""
    await pool.fetch(
        "insert into contacts (user_id, contact_id) select %(one)s::uuid, o from unnest(%(others)s::uuid[]) o"
        " union all select o, %(one)s::uuid from unnest(%(others)s::uuid[]) o on conflict do nothing",
        {"one": uuid(one.user), "others": uuids([other.user for other in others if other.user != one.user])},
    )


async def new_direct(pool: Pool, one: Credentials, other: Credentials) -> bytes:
    """The direct conversation of two contacts."""
    await make_contacts(pool, one, other)
    conversation, _ = await conversations.add_direct(pool, one.user, other.user)
    return conversation


async def new_group(pool: Pool, *participants: Credentials) -> bytes:
    """A group that the first user makes; the others are the first user's contacts, and the other way round."""
    await make_contacts(pool, *participants)
    users = [participant.user for participant in participants]
    return await conversations.add_group(pool, "Group", users, admin=users[0])
