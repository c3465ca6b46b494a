"""The devices of users: listing and revocation."""

from __future__ import annotations

import pytest

from store import devices, notifiers
from store.accounts import add_user
from store.devices import EndedDevice, add_device, devices_of, ended_since, revoke_device
from store.errors import UnknownDevice
from store.notifiers import FcmTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.tokens import device_by_token
from tests.store.test_tokens import DAY_S, expire


async def test_a_user_sees_the_devices_whose_tokens_are_good(pool: Pool) -> None:
    user, somebody = await add_user(pool, "alice", "x"), await add_user(pool, "bob", "x")
    await add_device(pool, somebody, "Bob's", lifetime_s=DAY_S)
    phone, _, expires = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    laptop, *_ = await add_device(pool, user, "Laptop", lifetime_s=DAY_S)
    old, *_ = await add_device(pool, user, "Old", lifetime_s=DAY_S)
    await expire(pool, old)
    assert [(each.device, each.name) for each in await devices_of(pool, user, limit=9)] == [
        (laptop, "Laptop"),
        (phone, "Phone"),
    ]
    assert (await devices_of(pool, user, limit=9))[1].expires == expires
    [newest] = await devices_of(pool, user, limit=1)
    assert newest.device == laptop
    [next_one] = await devices_of(pool, user, limit=9, before=(newest.created, laptop))
    assert next_one.device == phone
    await revoke_device(pool, user, laptop)
    assert [each.device for each in await devices_of(pool, user, limit=9)] == [phone]


async def test_a_user_has_a_bounded_number_of_devices_and_the_least_used_goes(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MAX_DEVICES", 3)
    user, other = await add_user(pool, "alice", "x"), await add_user(pool, "bob", "x")
    await add_device(pool, other, "Bob's", lifetime_s=DAY_S)
    made = [(await add_device(pool, user, name, lifetime_s=DAY_S))[0] for name in ("one", "two", "three")]
    await notifiers.add(pool, user, FcmTarget("target"), device=made[1])
    await pool.fetch("update devices set last_used = now() - interval '1 day' where id = %s", (uuid(made[1]),))
    await add_device(pool, user, "four", lifetime_s=DAY_S)
    assert [each.name for each in await devices_of(pool, user, limit=9)] == ["four", "three", "one"]
    assert await pool.fetch("select 1 from notifiers") == []
    assert len(await devices_of(pool, other, limit=9)) == 1


async def test_only_the_user_revokes_and_once_is_as_good_as_twice(pool: Pool) -> None:
    user, somebody = await add_user(pool, "alice", "x"), await add_user(pool, "bob", "x")
    device, token, _ = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    for who, what in ((somebody, device), (user, user)):
        with pytest.raises(UnknownDevice):
            await revoke_device(pool, who, what)
    assert await ended_since(pool, ago_s=60) == []
    await device_by_token(pool, token)
    await revoke_device(pool, user, device)
    first = await pool.fetch("select revoked from devices where revoked is not null")
    await revoke_device(pool, user, device)
    assert await pool.fetch("select revoked from devices where revoked is not null") == first
    assert await ended_since(pool, ago_s=60) == [EndedDevice(user, device, "revoked")]
    assert await ended_since(pool, ago_s=0) == []
