"""The tokens of devices: expiry and refreshing."""

from __future__ import annotations

import pytest

from store import tokens
from store.accounts import add_user
from store.devices import add_device, revoke_device
from store.errors import DeviceRevoked, TokenExpired, TokenUnknown
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.tokens import device_by_token, refresh_token

DAY_S = 86400.0


async def expire(pool: Pool, device: bytes) -> None:
    await pool.fetch("update devices set expires = clock_timestamp() - interval '1 us' where id = %s", (uuid(device),))


async def test_a_token_identifies_a_user_until_it_expires(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, expires = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    identity = await device_by_token(pool, token)
    assert (identity.user, identity.device, identity.expires) == (user, device, expires)
    assert 0 <= DAY_S * 1e6 - (expires - identity.now) < 60e6


@pytest.mark.parametrize("token", ["", "x", "\0", "é" * 300])
async def test_an_unknown_token_is_refused(pool: Pool, token: str) -> None:
    with pytest.raises(TokenUnknown):
        await device_by_token(pool, token)


async def test_a_token_that_has_expired_is_told_from_one_that_was_revoked(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, _ = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    await expire(pool, device)
    with pytest.raises(TokenExpired):
        await device_by_token(pool, token)
    await revoke_device(pool, user, device)
    with pytest.raises(DeviceRevoked):
        await device_by_token(pool, token)


async def test_after_a_refresh_both_tokens_are_good_the_former_for_a_while(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, before = await add_device(pool, user, "Phone", lifetime_s=2 * DAY_S)
    new, expires, now = await refresh_token(pool, device, token, lifetime_s=2 * DAY_S)
    assert new != token
    assert expires > before
    assert abs(expires - now - 2 * DAY_S * 1e6) < 1e6
    assert (await device_by_token(pool, new)).expires == expires
    former = await device_by_token(pool, token)
    assert abs(former.expires - now - tokens.GRACE_S * 1e6) < 1e6
    assert former.device == device


async def test_the_former_token_is_good_no_longer_than_it_would_have_been(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, expires = await add_device(pool, user, "Phone", lifetime_s=60)
    await refresh_token(pool, device, token, lifetime_s=DAY_S)
    assert (await device_by_token(pool, token)).expires == expires


async def test_a_refresh_whose_reply_was_lost_is_done_again_with_the_former_token(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, _ = await add_device(pool, user, "Phone", lifetime_s=2 * DAY_S)
    lost, *_ = await refresh_token(pool, device, token, lifetime_s=DAY_S)
    grace = (await device_by_token(pool, token)).expires
    new, *_ = await refresh_token(pool, device, token, lifetime_s=DAY_S)
    assert (await device_by_token(pool, token)).expires == grace, "presenting a token again does not prolong it"
    assert (await device_by_token(pool, new)).device == device
    with pytest.raises(TokenUnknown):
        await device_by_token(pool, lost)


async def test_a_token_that_is_not_good_or_not_this_devices_is_not_refreshed(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, _ = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    other, others, _ = await add_device(pool, user, "Laptop", lifetime_s=DAY_S)
    new, *_ = await refresh_token(pool, other, others, lifetime_s=DAY_S)
    for presented in ("x", others, new):
        with pytest.raises(TokenUnknown):
            await refresh_token(pool, device, presented, lifetime_s=DAY_S)
    await expire(pool, device)
    with pytest.raises(TokenUnknown):
        await refresh_token(pool, device, token, lifetime_s=DAY_S)
    await revoke_device(pool, user, other)
    with pytest.raises(TokenUnknown):
        await refresh_token(pool, other, new, lifetime_s=DAY_S)
