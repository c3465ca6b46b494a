"""Users whom operators suspend."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from client.http import Credentials
from store import devices, notifiers, security_events
from store.accounts import add_user
from store.devices import EndedDevice, add_device, ended_since
from store.errors import AccountClosed, AccountSuspended, DeviceRevoked, PasswordChanged, TokenReused
from store.notifiers import WebhookTarget
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import is_suspended, set_suspended
from store.tokens import device_by_token, device_known_by, renew_token
from tests.people import new_device
from tests.store.store_world import is_waiting_for
from tests.store.test_tokens import DAY_S, end_overlap
from tests.waiting import wait_until

OPERATOR = Source("operator", operator="ops")


async def suspend(pool: Pool, user: bytes) -> None:
    assert await set_suspended(pool, user, is_suspended=True, source=OPERATOR)


async def lift(pool: Pool, user: bytes) -> None:
    assert await set_suspended(pool, user, is_suspended=False, source=OPERATOR)


async def test_tokens_are_refused_by_name_and_are_good_again_afterwards(pool: Pool, alice: Credentials) -> None:
    await suspend(pool, alice.user)
    assert await is_suspended(pool, alice.user)
    with pytest.raises(AccountSuspended):
        await device_by_token(pool, alice.token)
    with pytest.raises(AccountSuspended):
        await renew_token(pool, alice.device, alice.token, lifetime_s=DAY_S)
    # Guesses of the password from this device count apart from those of strangers, as before.
    assert await device_known_by(pool, alice.token) == (alice.user, alice.device)
    await lift(pool, alice.user)
    assert (await device_by_token(pool, alice.token)).device == alice.device
    assert not await is_suspended(pool, alice.user)


async def test_a_token_that_has_ended_is_found_out_once_the_suspension_is_lifted(
    pool: Pool, alice: Credentials
) -> None:
    new, _, _ = await renew_token(pool, alice.device, alice.token, lifetime_s=DAY_S)
    await device_by_token(pool, new)
    await end_overlap(pool)
    await suspend(pool, alice.user)
    with pytest.raises(AccountSuspended):
        await device_by_token(pool, alice.token)
    await lift(pool, alice.user)
    with pytest.raises(TokenReused):
        await device_by_token(pool, alice.token)


async def test_a_revoked_device_stays_revoked(pool: Pool, alice: Credentials) -> None:
    await devices.revoke_device(pool, alice.user, alice.device)
    await suspend(pool, alice.user)
    await lift(pool, alice.user)
    with pytest.raises(DeviceRevoked):
        await device_by_token(pool, alice.token)


async def test_no_device_logs_in_also_not_at_the_same_moment(pool: Pool, alice: Credentials) -> None:
    """A login that waits for the suspension finds it; one that comes before is suspended by it."""
    tokens: list[str] = []

    async def log_in() -> None:
        try:
            tokens.append((await add_device(pool, alice.user, "x", lifetime_s=DAY_S))[1])
        except AccountSuspended:
            tokens.append("")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(log_in)
        nursery.start_soon(suspend, pool, alice.user)
        for _ in range(3):
            nursery.start_soon(log_in)
    assert len(tokens) == 6
    for token in filter(None, tokens):
        with pytest.raises(AccountSuspended):
            await device_by_token(pool, token)
    with pytest.raises(AccountSuspended):
        await add_device(pool, alice.user, "x", lifetime_s=DAY_S)


WAITED_FOR = {
    'set_suspended(%s, true, \'{"actor": "system"}\')': AccountSuspended,
    'close_account(%s, 60, false, \'{"actor": "system"}\')': AccountClosed,
    "change_password(%s, null, 'x', 'y', false)": PasswordChanged,
}
"""A change of a user, and what a login is told that has waited for it."""


@pytest.mark.parametrize("change", WAITED_FOR, ids=[change.partition("(")[0] for change in WAITED_FOR])
async def test_a_login_that_waits_for_a_change_of_the_user_is_told_the_reason(pool: Pool, change: str) -> None:
    user = await add_user(pool, "alice", "x")

    async def log_in() -> None:
        with pytest.raises(WAITED_FOR[change]):
            await add_device(pool, user, "x", lifetime_s=DAY_S, password_hash="x")

    async with connected(pool.url) as operator, trio.open_nursery() as nursery:
        await operator.query("begin")
        await operator.query(f"select {change}", (uuid(user),))
        nursery.start_soon(log_in)
        await wait_until(lambda: is_waiting_for(pool, "Lock", "with owner as"), "the login waits")
        await operator.query("commit")


async def test_the_gateways_are_told_of_all_connections_of_the_user(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    await new_device(pool, alice.user)
    await suspend(pool, alice.user)
    assert await ended_since(pool, ago_s=60) == [EndedDevice(alice.user, None, "suspended")]
    assert await ended_since(pool, ago_s=0) == []
    await lift(pool, alice.user)
    assert await ended_since(pool, ago_s=60) == []
    assert (await device_by_token(pool, bob.token)).user == bob.user


async def test_a_suspended_user_gets_no_notice(pool: Pool, alice: Credentials) -> None:
    await notifiers.add(pool, alice.user, WebhookTarget("https://hooks.example.org/"))
    context = partial(notifiers.notice_context, pool, alice.user, read_after_s=1, to_deployment=True)
    assert await context() is not None
    await suspend(pool, alice.user)
    assert await context() is None
    await lift(pool, alice.user)
    found = await context()
    assert found is not None
    assert len(found.notifiers) == 2


async def test_each_change_is_one_event_with_the_name_of_the_operator(pool: Pool, alice: Credentials) -> None:
    await suspend(pool, alice.user)
    assert not await set_suspended(pool, alice.user, is_suspended=True, source=OPERATOR)
    await lift(pool, alice.user)
    assert not await set_suspended(pool, alice.user, is_suspended=False, source=OPERATOR)
    events = await security_events.events_of(pool, alice.user, limit=2)
    assert [(each.kind, each.actor, each.operator) for each in events] == [
        ("account_unsuspended", "operator", "ops"),
        ("account_suspended", "operator", "ops"),
    ]


async def test_a_deleted_user_is_not_suspended(pool: Pool, alice: Credentials) -> None:
    await pool.fetch(
        "update users set is_closed = true, deleted = now(), password_hash = '' where id = %s", (uuid(alice.user),)
    )
    assert not await set_suspended(pool, alice.user, is_suspended=True, source=OPERATOR)
