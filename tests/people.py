"""Users with devices, straight into the store: registering over HTTP hashes passwords, which takes its time."""

from __future__ import annotations

from client.http import Credentials
from store import accounts, conversations
from store.pool import Pool

TOKEN_LIFETIME_S = 90 * 24 * 3600.0


async def new_device(
    pool: Pool, user: bytes, name: str = "test", *, lifetime_s: float = TOKEN_LIFETIME_S
) -> Credentials:
    device, token, _ = await accounts.add_device(pool, user, name, lifetime_s=lifetime_s)
    return Credentials(user, device, token)


async def new_user(pool: Pool, username: str) -> Credentials:
    return await new_device(pool, await accounts.add_user(pool, username, "no password"))


async def new_direct(pool: Pool, one: Credentials, other: Credentials) -> bytes:
    conversation, _ = await conversations.add_direct(pool, one.user, other.user)
    return conversation


async def new_group(pool: Pool, *members: Credentials) -> bytes:
    users = [member.user for member in members]
    return await conversations.add_group(pool, "Group", users, admin=users[0])
