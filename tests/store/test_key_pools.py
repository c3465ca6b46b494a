"""One-time keys: what an upload stores, what a claim hands out, and what goes with a device (P13)."""

from __future__ import annotations

from hashlib import sha256

import pytest

from client.http import Credentials
from protocol.limits import CLAIMS_PER_HOUR, FEW_KEYS, KEY_KINDS_PER_DEVICE, MAX_POOL_KEYS
from store import account_deletions, contacts, conversations, devices, keys, participants
from store.errors import ForeignKeyHistory, QuotaExceeded
from store.key_claims import KeyClaims
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.tokens import TOKEN_KEPT_DAYS, forget_tokens
from tests.people import make_contacts, new_device, new_direct, new_user
from tests.store.key_world import (
    IDENTITY,
    KIND,
    a_key,
    a_last_resort,
    claimed,
    forgive,
    numbers,
    some_keys,
    upload,
)


@pytest.fixture
async def talk(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    """Bob has a device with an identity; Alice may claim its keys."""
    await keys.put(pool, bob.device, IDENTITY)
    return await new_direct(pool, alice, bob)


async def test_claims_take_the_least_numbers_then_the_last_resort(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await upload(pool, bob.device, some_keys([5, 3, 9]), [a_last_resort(2)])
    assert await numbers(pool, alice, bob, 5) == [3, 5, 9, -2, -2]
    await upload(pool, bob.device, some_keys([10]), [a_last_resort(3)])
    assert await numbers(pool, alice, bob, 2) == [10, -3]


async def test_a_pool_without_a_last_resort_gives_nothing_once_it_is_empty(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    assert await numbers(pool, alice, bob) == [None]
    await upload(pool, bob.device, some_keys([1]))
    assert await numbers(pool, alice, bob, 2) == [1, None]
    # The device is listed all the same.
    [device] = (await KeyClaims(pool).claim(alice.user, [bob.user], [KIND])).devices
    assert (device.device, device.one_time_keys, device.last_resort_keys) == (bob.device, None, None)


async def test_an_upload_that_is_repeated_changes_nothing_whatever_was_claimed_meanwhile(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    first = await upload(pool, bob.device, some_keys([1, 2, 3]), [a_last_resort(1)])
    assert await upload(pool, bob.device, some_keys([1, 2, 3]), [a_last_resort(1)]) == first
    assert await numbers(pool, alice, bob, 2) == [1, 2]
    held = await upload(pool, bob.device, some_keys([1, 2, 3]), [a_last_resort(1)])
    assert held.pools[0][:4] == (KIND, 1, 3, 3)
    # Another key under a number that was stored is not taken, and a key below the greatest number neither.
    await upload(pool, bob.device, [(KIND, 3, b"other"), (KIND, 4, a_key(4)[2]), (KIND, 2, b"other")])
    assert await numbers(pool, alice, bob, 3) == [3, 4, -1]


async def test_an_upload_anew_replaces_what_was_not_claimed_and_may_be_repeated(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await upload(pool, bob.device, some_keys([1, 2, 3]) + some_keys([1], "other"), [a_last_resort(1)])
    assert await numbers(pool, alice, bob) == [1]
    for _ in range(2):
        held = await upload(pool, bob.device, some_keys([7, 8]), is_anew=True)
        assert [each[:4] for each in held.pools] == [("other", 1, 1, 1), (KIND, 2, 7, 8)]
    assert await numbers(pool, alice, bob) == [7]
    held = await upload(pool, bob.device, some_keys([7, 8]), is_anew=True)
    assert held.pools[1][:4] == (KIND, 1, 8, 8), "a late repetition drops nothing that came with it"
    assert await numbers(pool, alice, bob, 2) == [8, -1]


async def test_a_pool_takes_as_many_keys_as_it_has_room_for_and_the_others_later(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await upload(pool, bob.device, some_keys(range(1, MAX_POOL_KEYS - 9)))
    held = await upload(pool, bob.device, some_keys(range(500, 550)))
    assert held.pools[0][:4] == (KIND, MAX_POOL_KEYS, 1, 509)
    assert await numbers(pool, alice, bob, 3) == [1, 2, 3]
    held = await upload(pool, bob.device, some_keys(range(500, 550)))
    assert held.pools[0][:4] == (KIND, MAX_POOL_KEYS, 4, 512)


async def test_a_device_has_keys_of_so_many_kinds_for_ever(pool: Pool, alice: Credentials) -> None:
    kinds = [f"kind-{number}" for number in range(KEY_KINDS_PER_DEVICE.value + 1)]
    for kind in kinds[:-1]:
        await upload(pool, alice.device, some_keys([1], kind))
    before = await keys.status(pool, alice.device)
    with pytest.raises(QuotaExceeded):
        await upload(pool, alice.device, some_keys([2], kinds[0]) + some_keys([1], kinds[-1]), identity=b"other")
    assert await keys.status(pool, alice.device) == before, "nothing of it is stored"


async def test_another_identity_drops_all_keys_and_numbers_go_on(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await upload(pool, bob.device, some_keys([1, 2]), [a_last_resort(1)])
    held = await upload(pool, bob.device, some_keys([2, 3]), [a_last_resort(1)], identity=b"another")
    assert (held.identity_revision, held.pools[0][:4], held.pools[0][5]) == (2, (KIND, 1, 3, 3), 0)
    assert await numbers(pool, alice, bob, 2) == [3, None]
    await upload(pool, bob.device, [], [a_last_resort(2)], identity=None)
    assert await numbers(pool, alice, bob) == [-2]


async def test_the_status_tells_what_is_held_with_a_digest_that_the_client_can_compute(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    def digest(*held: tuple[str, int, bytes]) -> bytes:
        return sha256(b"".join(number.to_bytes(8, "big") + sha256(key).digest() for _, number, key in held)).digest()

    await upload(pool, bob.device, some_keys([1, 2, 3]), [a_last_resort(4)])
    await upload(pool, bob.device, [], [a_last_resort(1, "last alone")])
    await numbers(pool, alice, bob)
    held = await keys.status(pool, bob.device)
    assert (held.identity, held.identity_revision, len(held.history)) == (IDENTITY, 1, 8)
    assert held.pools == [
        ("last alone", 0, 0, 0, digest(a_last_resort(1, "last alone")), 1, False),
        (KIND, 2, 2, 3, digest(a_key(2), a_key(3), a_last_resort(4)), 4, False),
    ]
    await numbers(pool, alice, bob, 3)
    assert (await keys.status(pool, bob.device)).pools[1] == (KIND, 0, 0, 3, digest(a_last_resort(4)), 4, True)


async def test_a_claim_takes_a_key_of_each_kind_of_each_device_of_each_user(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials, talk: bytes
) -> None:
    await make_contacts(pool, alice, carol)
    second = await new_device(pool, bob.user)
    for each in (bob, second, carol):
        await upload(pool, each.device, some_keys([4, 5], KIND, each.device) + some_keys([7, 8], "ec", each.device))
    found = await claimed(pool, alice, bob, carol, kinds=[KIND, "ec", "unknown"])
    expected = [(each.device, *key, False) for each in (bob, second, carol) for key in (("ec", 7), (KIND, 4))]
    assert sorted(found) == sorted(expected)


async def test_above_the_rate_and_while_blocked_there_are_last_resort_keys_alone(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials, talk: bytes
) -> None:
    await make_contacts(pool, bob, carol)
    await upload(pool, bob.device, some_keys(range(1, 100)), [a_last_resort(1)])
    most = list(range(1, CLAIMS_PER_HOUR + 1))
    assert await numbers(pool, alice, bob, CLAIMS_PER_HOUR + 2) == [*most, -1, -1]
    assert await numbers(pool, carol, bob) == [CLAIMS_PER_HOUR + 1], "another user's claims count apart"
    await pool.fetch("update key_claims set since = since - interval '59 minutes'")
    assert await numbers(pool, alice, bob) == [-1]
    await pool.fetch("update key_claims set since = since - interval '1 minute'")
    assert await numbers(pool, alice, bob) == [CLAIMS_PER_HOUR + 2]
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    assert await numbers(pool, alice, bob) == [-1]
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=False)
    assert await numbers(pool, alice, bob) == [CLAIMS_PER_HOUR + 3]


async def test_a_user_who_has_declined_gives_a_last_resort_key_and_does_not_hear_of_it(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    await upload(pool, bob.device, some_keys([1]), [a_last_resort(1)])
    conversation, _ = await conversations.add_direct(pool, alice.user, bob.user)
    await participants.decline(pool, bob.user, conversation)
    assert await numbers(pool, alice, bob) == [-1]
    assert not (await keys.status(pool, bob.device)).pools[0][-1]
    assert await keys.low_since(pool, ago_s=60) == []


async def test_no_key_comes_to_a_user_who_may_not_see_the_device(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    await upload(pool, bob.device, some_keys([1]), [a_last_resort(1)])
    assert await claimed(pool, alice, bob) == []
    assert await claimed(pool, alice) == []


async def test_a_page_claims_of_its_own_devices_alone(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    made = [bob, *[await new_device(pool, bob.user) for _ in range(5)]]
    for each in made:
        await upload(pool, each.device, [(KIND, 1, b"k" * 1000), (KIND, 2, b"k" * 1000)], identity=b"i" * 500)
    everything = sorted(each.device for each in made)
    for limit, max_bytes, pages in ((2, 10**6, 3), (100, 3000, 3), (100, 2999, 6), (100, 1, 6), (6, 10**6, 1)):
        await pool.fetch("update key_pools set taken = 0")
        await forgive(pool)
        found, after, turns = [], None, 0
        while True:
            page = await KeyClaims(pool).claim(
                alice.user, [bob.user], [KIND], after=after, limit=limit, max_bytes=max_bytes
            )
            turns += 1
            found += [each.device for each in page.devices]
            assert all(each.one_time_keys and len(each.one_time_keys) == 1 for each in page.devices)
            if not page.more:
                break
            after = found[-1]
        assert (found, turns) == (everything, pages), (limit, max_bytes)
        left = await pool.fetch("select device_id, stored - taken from key_pools")
        assert sorted(left) == [(each, 1) for each in everything], "each device has given one of two keys"


async def test_a_pool_that_runs_low_is_noted_once_and_an_upload_ends_it(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await upload(pool, bob.device, some_keys(range(1, FEW_KEYS + 2)), [a_last_resort(1)])
    assert await numbers(pool, alice, bob) == [1]
    assert await keys.low_since(pool, ago_s=60) == []
    await numbers(pool, alice, bob)
    [low] = await keys.low_since(pool, ago_s=60)
    assert (low.user, low.device, low.kinds) == (bob.user, bob.device, [KIND])
    await numbers(pool, alice, bob)
    assert await keys.low_since(pool, ago_s=60) == [low]
    await upload(pool, bob.device, some_keys(range(100, 105)))
    assert await keys.low_since(pool, ago_s=60) == []
    await pool.fetch("update key_pools set taken = stored")
    await numbers(pool, alice, bob)
    [given] = await keys.low_since(pool, ago_s=60)
    assert given.since > low.since
    await upload(pool, bob.device, some_keys(range(200, 300)))
    assert await keys.low_since(pool, ago_s=60) == [given], "its last-resort key was handed out"
    await upload(pool, bob.device, [], [a_last_resort(2)])
    assert await keys.low_since(pool, ago_s=60) == []


async def test_in_another_history_a_device_gives_last_resort_keys_until_it_uploads_new_ones(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    """A repeated upload from before is refused: it would bring back keys that were claimed."""
    await upload(pool, bob.device, some_keys([1, 2, 3]), [a_last_resort(1)])
    before = (await keys.status(pool, bob.device)).history
    await pool.fetch("select begin_history()")
    assert await numbers(pool, alice, bob, 2) == [-1, -1]
    for history in (before, None, b"other", b""):
        with pytest.raises(ForeignKeyHistory):
            await keys.put(pool, bob.device, None, some_keys([4]), history=history)
    held = await keys.status(pool, bob.device)
    assert held.history != before
    assert held.pools[0][:4] == (KIND, 0, 0, 3)
    assert (await keys.put(pool, bob.device, IDENTITY)).pools == held.pools, "an identity needs no history"
    assert await numbers(pool, alice, bob) == [-1]
    await keys.put(pool, bob.device, None, some_keys([11, 12]), history=held.history)
    assert await numbers(pool, alice, bob, 3) == [11, 12, -1]


async def count(pool: Pool, *of: Credentials) -> list[tuple[int, int]]:
    """How many pools and keys each device has."""
    found = []
    for each in of:
        [(pools, one_time)] = await pool.fetch(
            "select (select count(*) from key_pools where device_id = %(device)s::uuid),"
            " (select coalesce(sum(cardinality(numbers)), 0) from one_time_keys where device_id = %(device)s::uuid)",
            {"device": uuid(each.device)},
        )
        found.append((pools, one_time))
    return found


async def test_keys_go_with_their_device(pool: Pool, alice: Credentials) -> None:
    """Whatever ends it, in the same transaction."""
    made = [await new_device(pool, alice.user) for _ in range(4)]
    expired, revoked, others, last = made
    for each in made:
        await upload(pool, each.device, some_keys([1, 2]) + some_keys([1], "ec"))
    assert await count(pool, *made) == [(2, 3)] * 4
    await devices.revoke_device(pool, alice.user, revoked.device)
    assert await count(pool, *made) == [(2, 3), (0, 0), (2, 3), (2, 3)]
    await pool.fetch(
        "update devices set expires = now() - make_interval(days => %s) where id = %s",
        (TOKEN_KEPT_DAYS + 1, uuid(expired.device)),
    )
    await forget_tokens(pool, limit=10)
    assert await count(pool, *made) == [(0, 0), (0, 0), (2, 3), (2, 3)]
    await pool.fetch("update devices set is_suspended = true, last_used = now()")
    assert await count(pool, others, last) == [(2, 3)] * 2, "no other change of a device drops its keys"
    await devices.revoke_devices(pool, alice.user, keep=last.device)
    assert await count(pool, others, last) == [(0, 0), (2, 3)]


async def test_keys_and_counts_of_claims_go_with_the_account(pool: Pool, alice: Credentials) -> None:
    bob = await new_user(pool, "bob")
    await make_contacts(pool, alice, bob)
    await upload(pool, bob.device, some_keys([1]))
    await upload(pool, alice.device, some_keys([1]))
    await numbers(pool, alice, bob)
    await pool.fetch("delete from contacts")
    assert await account_deletions.anonymise(pool, alice.user)
    assert await count(pool, alice, bob) == [(0, 0), (1, 1)]
    assert await pool.fetch("select 1 from key_claims") == []


async def test_counts_of_claims_are_forgotten_after_an_hour(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await numbers(pool, alice, bob)
    assert await keys.forget_claims(pool, limit=10) == 0
    await pool.fetch("update key_claims set since = since - interval '61 minutes'")
    assert await keys.forget_claims(pool, limit=10) == 1
