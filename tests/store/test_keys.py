"""Identities of devices: published, seen by those who may, gone with their devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import pytest

from client.http import Credentials
from protocol.limits import MAX_IDENTITY_BYTES
from store import contacts, conversations, devices, keys, participants, security_events
from store.errors import DeviceRevoked
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.suspensions import set_suspended
from store.tokens import TOKEN_KEPT_DAYS, forget_tokens
from tests.people import make_contacts, new_device, new_direct, new_group, new_user
from tests.store.key_world import IDENTITY


async def listed(pool: Pool, who: Credentials, *users: Credentials) -> list[bytes]:
    """The devices that a user sees, in the order of the pages."""
    found, after = [], None
    while True:
        page = await keys.devices_of(pool, who.user, [user.user for user in users], after=after, limit=2)
        found += [each.device for each in page.devices]
        if not page.more:
            return found
        after = found[-1]


async def test_an_identity_is_published_once_and_another_one_has_the_next_revision(
    pool: Pool, alice: Credentials
) -> None:
    longest = b"x" * MAX_IDENTITY_BYTES
    for identity, shown in (
        (None, (None, 0)),
        (IDENTITY, (IDENTITY, 1)),
        (IDENTITY, (IDENTITY, 1)),
        (longest, (longest, 2)),
        (None, (longest, 2)),
        (IDENTITY, (IDENTITY, 3)),
    ):
        held = await keys.put(pool, alice.device, identity)
        assert (held.identity, held.identity_revision, held.pools) == (*shown, [])
    [device] = (await keys.devices_of(pool, alice.user, [alice.user])).devices
    assert (device.user, device.device, device.identity, device.identity_revision) == (
        alice.user,
        alice.device,
        IDENTITY,
        3,
    )


async def test_devices_are_seen_from_their_first_identity_until_they_end(pool: Pool, alice: Credentials) -> None:
    silent, revoked, expired, left = [await new_device(pool, alice.user) for _ in range(4)]
    for each in (alice, revoked, expired, left):
        await keys.put(pool, each.device, IDENTITY)
    assert await listed(pool, alice, alice) == sorted(each.device for each in (alice, revoked, expired, left))
    await devices.revoke_device(pool, alice.user, revoked.device)
    await pool.fetch("update devices set expires = now() where id = %s", (uuid(expired.device),))
    # Until a worker has noted it, in the transaction that gives each conversation the next version of its device set.
    assert await listed(pool, alice, alice) == sorted([alice.device, expired.device, left.device])
    assert (await keys.end_expired_identities(pool), await keys.end_expired_identities(pool)) == (1, 0)
    assert await listed(pool, alice, alice) == sorted([alice.device, left.device])
    with pytest.raises(DeviceRevoked):
        await keys.put(pool, revoked.device, IDENTITY)
    await devices.revoke_devices(pool, alice.user, keep=alice.device)
    assert await listed(pool, alice, alice) == [alice.device]
    for is_suspended in (True, False):
        await set_suspended(pool, alice.user, is_suspended=is_suspended, source=security_events.SYSTEM)
        assert await listed(pool, alice, alice) == [alice.device]
    with pytest.raises(DeviceRevoked):
        await keys.put(pool, silent.device, None)


async def test_the_identity_of_a_device_goes_with_its_end(pool: Pool, alice: Credentials) -> None:
    """In the transaction of the revocation; of a device that has expired, at the latest with its tokens."""
    revoked, expired = await new_device(pool, alice.user), await new_device(pool, alice.user)
    for each in (alice, revoked, expired):
        await keys.put(pool, each.device, IDENTITY)
    await devices.revoke_device(pool, alice.user, revoked.device)
    assert await with_identity(pool) == {alice.device, expired.device}
    await pool.fetch(
        "update devices set expires = now() - make_interval(days => %s) where id = %s",
        (TOKEN_KEPT_DAYS + 1, uuid(expired.device)),
    )
    assert await forget_tokens(pool, limit=10) == 1
    assert await with_identity(pool) == {alice.device}


async def with_identity(pool: Pool) -> set[bytes]:
    return {row[0] for row in await pool.fetch("select id from devices where identity is not null")}


class Relation(NamedTuple):
    """What the asking user has to do with the other one, and whether the other's devices are listed then."""

    make: Callable[[Pool, Credentials, Credentials, Credentials], Awaitable[object]]
    is_listed: bool


async def nothing(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    pass


async def ask(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await conversations.add_direct(pool, one.user, other.user)


async def be_asked(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await conversations.add_direct(pool, other.user, one.user)


async def share_a_group(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await new_group(pool, third, one, other)


async def leave_the_group(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    group = await new_group(pool, third, one, other)
    await participants.remove(pool, one.user, group, one.user)


async def be_left(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    group = await new_group(pool, third, one, other)
    await participants.remove(pool, other.user, group, other.user)


async def know(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await contacts.add(pool, one.user, other.user)


async def be_known(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await contacts.add(pool, other.user, one.user)


async def be_blocked(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await contacts.set_blocked(pool, other.user, one.user, is_blocked=True)


async def be_declined(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    conversation, _ = await conversations.add_direct(pool, one.user, other.user)
    await participants.decline(pool, other.user, conversation)


async def be_blocked_in_a_conversation(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await new_direct(pool, one, other)
    await be_blocked(pool, one, other, third)


async def ask_while_blocked(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await be_blocked(pool, one, other, third)
    await ask(pool, one, other, third)


async def be_a_blocked_contact(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await be_known(pool, one, other, third)
    await be_blocked(pool, one, other, third)


async def block(pool: Pool, one: Credentials, other: Credentials, third: Credentials) -> None:
    await new_direct(pool, one, other)
    await contacts.set_blocked(pool, one.user, other.user, is_blocked=True)


RELATIONS: Final = {
    "strangers": Relation(nothing, False),
    "a request of one's own": Relation(ask, True),
    "a request of the other": Relation(be_asked, True),
    "a group of a third": Relation(share_a_group, True),
    "a group that one has left": Relation(leave_the_group, False),
    "a group that the other has left": Relation(be_left, False),
    "a contact of one's own": Relation(know, False),
    "being a contact": Relation(be_known, True),
    "a stranger's block": Relation(be_blocked, False),
    "a request that was declined": Relation(be_declined, True),
    "a conversation with a block": Relation(be_blocked_in_a_conversation, True),
    "a request to one who blocks": Relation(ask_while_blocked, True),
    "being a contact who is blocked": Relation(be_a_blocked_contact, True),
    "one whom one blocks": Relation(block, True),
}


@pytest.mark.parametrize("name", RELATIONS)
async def test_a_user_sees_the_devices_of_users_by_their_relation(
    pool: Pool, people: list[Credentials], name: str
) -> None:
    """Blocks change nothing of it, so they cannot be noticed."""
    one, other, third = people
    relation = RELATIONS[name]
    for each in people:
        await keys.put(pool, each.device, IDENTITY)
    await relation.make(pool, one, other, third)
    assert await listed(pool, one, other) == [other.device] * relation.is_listed
    # In a list with others, also with the user's own device, and with a user who does not exist.
    nobody = Credentials(b"n" * 16, b"", "")
    expected = sorted([one.device, *([other.device] * relation.is_listed)])
    assert [each for each in await listed(pool, one, other, one, one, nobody) if each != third.device] == expected


async def test_pages_go_by_number_and_by_bytes_and_a_device_never_comes_twice(pool: Pool, alice: Credentials) -> None:
    made = [await new_device(pool, alice.user) for _ in range(9)]
    for number, each in enumerate(made):
        await keys.put(pool, each.device, b"x" * (1 + 500 * (number % 3)))
    everything = sorted(each.device for each in made)
    for limit, max_bytes in ((1, 10**6), (4, 10**6), (9, 10**6), (100, 1), (100, 1000), (100, 3000)):
        found, after, pages = [], None, 0
        while True:
            page = await keys.devices_of(pool, alice.user, [alice.user], after=after, limit=limit, max_bytes=max_bytes)
            pages += 1
            assert 0 < len(page.devices) <= limit
            assert sum(len(each.identity) for each in page.devices[:-1]) < max_bytes
            found += [each.device for each in page.devices]
            if not page.more:
                break
            after = found[-1]
        assert found == everything, (limit, max_bytes)
        assert pages > 1 or max_bytes * limit > 9 * 1001


async def test_the_devices_of_many_users_are_in_one_order(pool: Pool, alice: Credentials) -> None:
    others = [await new_user(pool, f"user{number}") for number in range(5)]
    await make_contacts(pool, alice, *others)
    made = [await new_device(pool, each.user) for each in others for _ in range(2)]
    for each in made:
        await keys.put(pool, each.device, IDENTITY)
    assert await listed(pool, alice, *others) == sorted(each.device for each in made)
