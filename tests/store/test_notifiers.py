"""Notifiers of users: their number, owners, settings and removal."""

from __future__ import annotations

import pytest
import trio

from store import devices, notifiers
from store.errors import DeviceRevoked, TooManyNotifiers, UnknownNotifier
from store.notifiers import MAX_NOTIFIERS, ApnsTarget, EmailTarget, FcmTarget, Target, WebhookTarget, WebPushTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours, quiet_hours_of, set_quiet_hours
from tests.people import new_device, new_user

EACH: list[Target] = [
    WebhookTarget("https://hook.example/", "whsec_"),
    EmailTarget(),
    WebPushTarget("https://push.example/1", "point", "auth"),
    ApnsTarget("a1b2"),
    FcmTarget("device-1"),
]


async def targets(pool: Pool, user: bytes) -> list[Target]:
    return [each.target for each in await notifiers.notifiers_of(pool, user)]


async def test_each_kind_comes_back_as_it_was_given(pool: Pool) -> None:
    bob = await new_user(pool, "bob")
    for target in EACH:
        assert (await notifiers.add(pool, bob.user, target)).is_new
    assert await targets(pool, bob.user) == EACH


async def test_same_target_again_is_the_same_notifier_with_the_new_keys(pool: Pool) -> None:
    bob = await new_user(pool, "bob")
    first = await notifiers.add(pool, bob.user, WebhookTarget("https://hook.example/", "whsec_1"))
    await notifiers.note_failure(pool, first.notifier, "status 500")
    again = await notifiers.add(pool, bob.user, WebhookTarget("https://hook.example/", "whsec_2"))
    assert (again.notifier, again.is_new) == (first.notifier, False)
    [kept] = await notifiers.notifiers_of(pool, bob.user)
    assert (kept.target, kept.failing_since) == (WebhookTarget("https://hook.example/", "whsec_2"), None)


async def test_a_user_has_as_many_as_allowed_however_many_are_added_at_once(pool: Pool) -> None:
    bob, carol = await new_user(pool, "bob"), await new_user(pool, "carol")
    refused = []

    async def add(number: int) -> None:
        try:
            await notifiers.add(pool, bob.user, WebhookTarget(f"https://hook.example/{number}"))
        except TooManyNotifiers:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(MAX_NOTIFIERS + 4):
            nursery.start_soon(add, number)
    assert len(await targets(pool, bob.user)) == MAX_NOTIFIERS
    assert len(refused) == 4
    # An existing target adds no notifier; and other users have their own.
    [first, *_] = await targets(pool, bob.user)
    assert not (await notifiers.add(pool, bob.user, first)).is_new
    assert (await notifiers.add(pool, carol.user, first)).is_new


async def test_a_device_at_a_push_service_is_its_last_users(pool: Pool) -> None:
    """A user who logs in on another user's phone takes over its notifier; two users may have the same address."""
    bob, carol = await new_user(pool, "bob"), await new_user(pool, "carol")
    for user in (bob, carol):
        await notifiers.add(pool, user.user, ApnsTarget("a1b2"), device=user.device)
        await notifiers.add(pool, user.user, WebhookTarget("https://hook.example/"))
    assert await targets(pool, bob.user) == [WebhookTarget("https://hook.example/")]
    assert await targets(pool, carol.user) == [ApnsTarget("a1b2"), WebhookTarget("https://hook.example/")]


async def test_a_revoked_device_takes_its_notifiers_along_and_gets_none_again(pool: Pool) -> None:
    bob = await new_user(pool, "bob")
    phone = await new_device(pool, bob.user)
    await notifiers.add(pool, bob.user, ApnsTarget("a1b2"), device=phone.device)
    await notifiers.add(pool, bob.user, FcmTarget("device-1"), device=bob.device)
    await devices.revoke_device(pool, bob.user, phone.device)
    assert await targets(pool, bob.user) == [FcmTarget("device-1")]
    assert await pool.fetch("select count(*) from notifiers") == [(1,)]
    with pytest.raises(DeviceRevoked):
        await notifiers.add(pool, bob.user, ApnsTarget("a1b2"), device=phone.device)


async def test_each_kind_is_forgotten_with_its_target_and_not_with_another(pool: Pool) -> None:
    bob = await new_user(pool, "bob")
    for target in EACH:
        added = await notifiers.add(pool, bob.user, target)
        await notifiers.remove_target(pool, added.notifier, WebhookTarget("https://other.example/"))
        assert await targets(pool, bob.user) == [target]
        await notifiers.remove_target(
            pool, added.notifier, EmailTarget("b@h") if isinstance(target, EmailTarget) else target
        )
        assert await targets(pool, bob.user) == []


async def test_a_user_cannot_remove_another_users_notifier(pool: Pool) -> None:
    bob, carol = await new_user(pool, "bob"), await new_user(pool, "carol")
    added = await notifiers.add(pool, bob.user, EACH[0])
    with pytest.raises(UnknownNotifier):
        await notifiers.remove(pool, carol.user, added.notifier)
    await notifiers.remove(pool, bob.user, added.notifier)
    with pytest.raises(UnknownNotifier):
        await notifiers.remove(pool, bob.user, added.notifier)


async def test_quiet_hours_are_kept_replaced_and_taken_away(pool: Pool) -> None:
    bob = await new_user(pool, "bob")
    assert await quiet_hours_of(pool, bob.user) is None
    for quiet in (QuietHours(0, 1439, "UTC"), QuietHours(1380, 420, "Europe/Berlin"), None, None):
        await set_quiet_hours(pool, bob.user, quiet)
        assert await quiet_hours_of(pool, bob.user) == quiet


async def test_a_notice_context_has_the_user_s_own_facts_only(pool: Pool) -> None:
    bob, carol = await new_user(pool, "bob"), await new_user(pool, "carol")
    await set_quiet_hours(pool, carol.user, QuietHours(0, 1, "UTC"))
    seen = await notifiers.notice_context(pool, bob.user, read_after_s=60)
    assert seen is not None
    assert (seen.is_undelivered, seen.quiet) == (False, None)
    [(now,)] = await pool.fetch("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    assert 0 <= now - seen.now < 60_000_000
    assert await notifiers.notice_context(pool, bytes(16), read_after_s=60) is None
    assert await pool.fetch("select count(*) from quiet_hours where user_id = %s", (uuid(carol.user),)) == [(1,)]
