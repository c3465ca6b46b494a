"""The tokens of devices: expiry, renewal, and tokens that are shown after their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from store import devices, emails, notifiers, tokens
from store.accounts import add_user
from store.devices import add_device, revoke_device
from store.errors import DeviceRevoked, StoreError, TokenExpired, TokenRenewed, TokenReused, TokenUnknown
from store.list_pages import list_state_for
from store.notifiers import FcmTarget
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.tokens import FAMILY_CHARACTERS, OVERLAP_S, TOKEN_CHARACTERS, device_by_token
from tests.waiting import wait_until

DAY_S = 86400.0


async def expire(pool: Pool, device: bytes) -> None:
    await pool.fetch("update devices set expires = clock_timestamp() - interval '1 us' where id = %s", (uuid(device),))


async def renewed(pool: Pool, device: Credentials, token: str | None = None) -> str:
    new, _, _ = await tokens.renew_token(pool, device.device, token or device.token, lifetime_s=90 * DAY_S)
    return new


async def end_overlap(pool: Pool) -> None:
    """Let the time pass in which the former token of each device is good."""
    await pool.fetch("update devices set former_until = former_until - make_interval(secs => %s)", (OVERLAP_S + 1,))


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


async def test_a_token_that_is_cut_or_followed_by_more_is_unknown_and_ends_nothing(
    pool: Pool, alice: Credentials
) -> None:
    for mistaken in (alice.token[:-1], alice.token + "=", f"{alice.token}, Bearer {alice.token}", alice.token[:24]):
        with pytest.raises(TokenUnknown):
            await device_by_token(pool, mistaken)
    assert (await device_by_token(pool, alice.token)).device == alice.device


async def test_a_token_that_has_expired_is_told_from_one_that_was_revoked(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, _ = await add_device(pool, user, "Phone", lifetime_s=DAY_S)
    await expire(pool, device)
    with pytest.raises(TokenExpired):
        await device_by_token(pool, token)
    await revoke_device(pool, user, device)
    with pytest.raises(DeviceRevoked):
        await device_by_token(pool, token)


async def test_a_renewal_makes_a_token_of_the_same_family_and_puts_off_the_expiry(pool: Pool) -> None:
    user = await add_user(pool, "alice", "x")
    device, token, before = await add_device(pool, user, "Phone", lifetime_s=2 * DAY_S)
    new, expires, now = await tokens.renew_token(pool, device, token, lifetime_s=3 * DAY_S)
    assert new != token
    assert len(new) == len(token) == TOKEN_CHARACTERS
    assert new[:FAMILY_CHARACTERS] == token[:FAMILY_CHARACTERS]
    assert expires > before
    assert abs(expires - now - 3 * DAY_S * 1e6) < 1e6
    assert (await device_by_token(pool, new)).expires == expires


async def test_a_token_ends_a_minute_after_the_first_use_of_the_new_one(pool: Pool, alice: Credentials) -> None:
    new = await renewed(pool, alice)
    await end_overlap(pool)
    for _ in range(2):
        assert (await device_by_token(pool, alice.token)).device == alice.device, "the reply may be lost"
    assert (await device_by_token(pool, new)).device == alice.device
    assert (await device_by_token(pool, alice.token)).device == alice.device, "a request may be under way"
    [(left_s,)] = await pool.fetch("select extract(epoch from former_until - now())::float8 from devices")
    assert OVERLAP_S - 5 < left_s < OVERLAP_S
    await device_by_token(pool, new)
    assert await pool.fetch("select extract(epoch from former_until - now())::float8 <= %s from devices", (left_s,))
    await end_overlap(pool)
    with pytest.raises(TokenReused):
        await device_by_token(pool, alice.token)
    with pytest.raises(TokenReused):
        await device_by_token(pool, new)


async def test_the_first_token_that_is_shown_counts_after_several_renewals(pool: Pool, alice: Credentials) -> None:
    """The reply to the first may be lost, or the second may overtake it: any of them may be the one that came."""
    for chosen in range(tokens.MAX_NEXT):
        device = await _device(pool, alice.user)
        new = [await renewed(pool, device) for _ in range(tokens.MAX_NEXT)]
        await device_by_token(pool, new[chosen])
        await device_by_token(pool, device.token)
        with pytest.raises(TokenReused):
            await device_by_token(pool, new[chosen - 1])


async def test_the_newest_of_too_many_renewals_are_kept(pool: Pool, alice: Credentials) -> None:
    new = [await renewed(pool, alice) for _ in range(tokens.MAX_NEXT + 1)]
    assert await pool.fetch("select cardinality(next_hashes) from devices") == [(tokens.MAX_NEXT,)]
    await device_by_token(pool, new[1])
    for_first = await _device(pool, alice.user)
    new = [await renewed(pool, for_first) for _ in range(tokens.MAX_NEXT + 1)]
    with pytest.raises(TokenReused):
        await device_by_token(pool, new[0])


async def test_renewals_at_the_same_time_raise_no_alarm(pool: Pool, alice: Credentials) -> None:
    new: list[str] = []

    async def renew() -> None:
        new.append(await renewed(pool, alice))

    async with trio.open_nursery() as nursery:
        for _ in range(tokens.MAX_NEXT):
            nursery.start_soon(renew)
    async with trio.open_nursery() as nursery:
        for token in (new[0], alice.token) * 4:
            nursery.start_soon(device_by_token, pool, token)
    assert await pool.fetch("select revoked, cardinality(next_hashes) from devices") == [(None, 0)]


async def test_a_former_token_is_not_renewed_and_that_raises_no_alarm(pool: Pool, alice: Credentials) -> None:
    new = await renewed(pool, alice)
    newer = await renewed(pool, alice, new)
    with pytest.raises(TokenRenewed):
        await renewed(pool, alice)
    assert (await device_by_token(pool, newer)).device == alice.device


async def test_a_token_that_is_not_good_or_not_this_devices_is_not_renewed(pool: Pool, alice: Credentials) -> None:
    other = await _device(pool, alice.user)
    for presented in ("x", other.token):
        with pytest.raises(TokenUnknown):
            await renewed(pool, alice, presented)
    await expire(pool, alice.device)
    with pytest.raises(TokenExpired):
        await renewed(pool, alice)
    await revoke_device(pool, alice.user, other.device)
    with pytest.raises(DeviceRevoked):
        await renewed(pool, other)


SHOWN: dict[str, Callable[[Pool, Credentials, str], Awaitable[object]]] = {
    "by itself": lambda pool, device, token: device_by_token(pool, token),
    "with a read": lambda pool, device, token: list_state_for(pool, token, limit=2),
    "to be renewed": lambda pool, device, token: renewed(pool, device, token),
}
"""The ways in which a token is shown."""


@pytest.mark.parametrize("way", SHOWN)
async def test_a_new_token_counts_however_it_is_shown(pool: Pool, alice: Credentials, way: str) -> None:
    new = await renewed(pool, alice)
    await SHOWN[way](pool, alice, new)
    assert await pool.fetch(
        "select token_hash = %s, former_hash = %s from devices",
        (tokens.token_hash(new), tokens.token_hash(alice.token)),
    ) == [(True, True)]


@pytest.mark.parametrize("way", SHOWN)
@pytest.mark.parametrize("age", [1, 40])
async def test_a_token_that_has_ended_revokes_its_device_and_tells_the_user(
    pool: Pool, alice: Credentials, way: str, age: int
) -> None:
    await emails.put(
        pool, alice.user, "a@example.org", wants_digest=False, wants_device_notice=True, digest_hour=8, zone="UTC"
    )
    await pool.fetch("update emails set verified = now()")
    await pool.fetch("delete from jobs")
    other = await _device(pool, alice.user)
    for each in (alice, other):
        await notifiers.add(pool, alice.user, FcmTarget(each.token), device=each.device)
    await pool.fetch("delete from jobs")
    token = alice.token
    for _ in range(age):
        token = await renewed(pool, alice, token)
    await device_by_token(pool, token)
    await end_overlap(pool)
    for _ in range(2):
        with pytest.raises(TokenReused):
            await SHOWN[way](pool, alice, alice.token)
    with pytest.raises(TokenReused):
        await device_by_token(pool, token)
    assert (await device_by_token(pool, other.token)).device == other.device
    assert [row[0] for row in await pool.fetch("select device_id from notifiers")] == [other.device]
    assert await devices.ended_since(pool, ago_s=60) == [devices.EndedDevice(alice.user, alice.device, "reused")]
    ids = {"user": str(UUID(bytes=alice.user)), "device": str(UUID(bytes=alice.device))}
    assert await pool.fetch("select task, payload from jobs") == [("token_reused", ids)]
    events = await pool.fetch("select kind, user_id, detail from security_events where kind = 'token_reused'")
    assert events == [("token_reused", alice.user, {"device": ids["device"], "name": "test"})]


async def test_a_user_who_wants_no_device_notices_gets_no_mail(pool: Pool, alice: Credentials) -> None:
    await device_by_token(pool, await renewed(pool, alice))
    await end_overlap(pool)
    with pytest.raises(TokenReused):
        await device_by_token(pool, alice.token)
    assert await pool.fetch("select task from jobs") == []


async def test_a_device_is_revoked_once_by_requests_at_the_same_time(pool: Pool, alice: Credentials) -> None:
    await device_by_token(pool, await renewed(pool, alice))
    await end_overlap(pool)
    outcomes: list[type[BaseException]] = []

    async def show() -> None:
        try:
            await device_by_token(pool, alice.token)
        except StoreError as error:
            outcomes.append(type(error))

    async with connected(pool.url) as connection, trio.open_nursery() as nursery:
        await connection.query("begin")
        await connection.query("select 1 from devices for update")
        for _ in range(2):
            nursery.start_soon(show)
        await wait_until(
            lambda: pool.fetch("select 1 from pg_locks where not granted having count(*) = 2"), "both wait"
        )
        await connection.query("commit")
    assert outcomes == [TokenReused] * 2
    assert await pool.fetch("select count(*) from security_events where kind = 'token_reused'") == [(1,)]


async def test_after_a_restore_the_first_token_of_a_family_that_is_shown_counts_and_no_other(
    pool: Pool, alice: Credentials
) -> None:
    """The database has forgotten the renewals since the back-up. They must not log everybody out."""
    kept = await _device(pool, alice.user)
    first = await renewed(pool, alice)
    await device_by_token(pool, first)
    back_up = await pool.fetch(
        "select token_hash, next_hashes, former_hash, former_until from devices where id = %s", (uuid(alice.device),)
    )
    lost = await renewed(pool, alice, first)
    await device_by_token(pool, lost)
    await pool.fetch(
        "update devices set token_hash = %s, next_hashes = %s, former_hash = %s, former_until = %s where id = %s",
        (*back_up[0], uuid(alice.device)),
    )
    await pool.fetch("update history set id = gen_random_uuid()")
    assert (await device_by_token(pool, lost)).device == alice.device
    assert (await device_by_token(pool, kept.token)).device == kept.device
    await end_overlap(pool)
    for token in (first, alice.token):
        with pytest.raises(TokenReused):
            await device_by_token(pool, token)


async def test_in_another_history_a_device_has_its_rules_back_once_it_has_renewed(
    pool: Pool, alice: Credentials
) -> None:
    await device_by_token(pool, await renewed(pool, alice))
    await end_overlap(pool)
    await pool.fetch("update history set id = gen_random_uuid()")
    other = await _device(pool, alice.user)
    await device_by_token(pool, await renewed(pool, other))
    await end_overlap(pool)
    with pytest.raises(TokenReused):
        await device_by_token(pool, other.token)


async def _device(pool: Pool, user: bytes) -> Credentials:
    device, token, _ = await add_device(pool, user, "test", lifetime_s=DAY_S)
    return Credentials(user, device, token)
