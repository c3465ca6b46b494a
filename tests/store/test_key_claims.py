"""Claims that share a transaction: each gets what it would get alone (P13)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from client.http import Credentials
from protocol.codec import encode
from protocol.frames import Error, ListedDevice
from protocol.limits import (
    CLAIMS_PER_HOUR,
    FEW_KEYS,
    MAX_IDENTITY_BYTES,
    MAX_KEY_KIND_BYTES,
    MAX_KEY_KINDS,
    MAX_ONE_TIME_KEY_BYTES,
    MAX_PARTICIPANTS,
    MAX_SEQ,
    MESSAGE_BYTES,
)
from store import contacts
from store.key_claims import MAX_SHARED, KeyClaims
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_device, new_user
from tests.store.key_world import KIND, a_last_resort, numbers, some_keys, upload
from tests.store.store_world import is_waiting_for
from tests.waiting import wait_until


class SharedClaims:
    """Claims at once, by one process; while the first is under way, the others queue in order, and share transactions.

    :ivar found: by claim, in the order of the requests, the devices that it got.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.claims = KeyClaims(pool)
        self.found: list[list[ListedDevice]] = []

    async def claim(self, *asked: tuple[Credentials, list[Credentials]], kinds: tuple[str, ...] = (KIND,)) -> None:
        await self.claim_kinds(*[(claimer, owners, kinds) for claimer, owners in asked])

    async def claim_kinds(self, *asked: tuple[Credentials, list[Credentials], tuple[str, ...]]) -> None:
        self.found = [[] for _ in asked]

        async def one(n: int, user: bytes, owners: list[bytes], kinds: tuple[str, ...]) -> None:
            self.found[n] = (await self.claims.claim(user, owners, kinds)).devices

        async with connected(self._pool.url) as holder, trio.open_nursery() as nursery:
            await holder.query("begin")
            await holder.query("lock table key_claims in exclusive mode")
            for n, (claimer, owners, kinds) in enumerate(asked):
                nursery.start_soon(one, n, claimer.user, [each.user for each in owners], kinds)
                if n == 0:
                    await wait_until(lambda: is_waiting_for(self._pool, "Lock", "claim_keys"), "it is under way")
                await wait_until(lambda n=n: self.claims.statistics().waiting == n, "it queues")  # type: ignore[misc]
            await holder.query("commit")

    def taken(self) -> list[int]:
        """The numbers of all one-time keys, and of last-resort keys as negative ones."""
        devices = [device for its in self.found for device in its]
        one_time = [number for device in devices for _, number, _ in device.one_time_keys or ()]
        return sorted(one_time + [-number for device in devices for _, number, _ in device.last_resort_keys or ()])


async def test_claims_that_queue_share_a_transaction_and_get_different_keys(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Of the same devices, by several users; the last ones get the last-resort key, and none gets nothing."""
    claimers = [alice, carol, *[await new_user(pool, f"claimer{number}") for number in range(8)]]
    await make_contacts(pool, bob, *claimers)
    second = await new_device(pool, bob.user)
    for device in (bob, second):
        await upload(pool, device.device, some_keys(range(1, 8), KIND, device.device), [a_last_resort(1)])
    shared = SharedClaims(pool)
    await shared.claim(*[(claimer, [bob]) for claimer in claimers])
    assert shared.taken() == sorted([*range(1, 8), -1, -1, -1] * 2)
    assert all([device.device for device in its] == sorted([bob.device, second.device]) for its in shared.found)
    for device in (bob, second):
        keys = [each.one_time_keys for its in shared.found for each in its if each.device == device.device]
        assert [key for some in keys for key in some or ()] == some_keys(range(1, 8), KIND, device.device)
    assert (shared.claims.answered, shared.claims.commits) == (10, 2)
    assert shared.claims.given == {"one_time": 14, "last_resort": 6, "none": 0}
    assert shared.claims.low == 4, "of each device, few keys at the first claim, and its last-resort key"


async def test_claims_of_other_kinds_and_of_the_same_user_go_with_the_next_transaction(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    await make_contacts(pool, bob, alice, carol)
    await upload(pool, bob.device, some_keys(range(1, 30)) + some_keys(range(1, 30), "other"))
    shared, ours, others = SharedClaims(pool), (KIND,), ("other",)
    await shared.claim_kinds(*[(who, [bob], kinds) for who in (alice, carol) for kinds in (ours, others, ours)])
    # The first goes alone, then those of the others, of ours by both, and of ours by Carol again.
    assert (shared.claims.answered, shared.claims.commits) == (6, 4)
    keys = [key for its in shared.found for each in its for key in each.one_time_keys or ()]
    assert sorted(keys) == sorted(some_keys(range(1, 5)) + some_keys(range(1, 3), "other"))


async def test_the_rate_counts_each_claim_that_queues(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    await make_contacts(pool, bob, alice, carol)
    await upload(pool, bob.device, some_keys(range(1, 100)), [a_last_resort(1)])
    shared = SharedClaims(pool)
    await shared.claim(*[(alice, [bob])] * (CLAIMS_PER_HOUR + 3), (carol, [bob]))
    assert shared.taken() == [-1] * 3 + list(range(1, CLAIMS_PER_HOUR + 2))
    assert [bool(its[0].one_time_keys) for its in shared.found] == [True] * CLAIMS_PER_HOUR + [False] * 3 + [True]
    await pool.fetch("update key_claims set since = since - interval '1 hour'")
    await shared.claim(*[(alice, [bob])] * (CLAIMS_PER_HOUR + 1))
    assert shared.taken()[:2] == [-1, CLAIMS_PER_HOUR + 2], "a new hour begins"


async def test_a_blocked_user_and_a_stranger_claim_beside_others_what_they_claim_alone(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Of a user who is blocked, of one who is a stranger, and of several kinds."""
    stranger = await new_user(pool, "stranger")
    await make_contacts(pool, bob, alice, carol)
    await contacts.set_blocked(pool, bob.user, carol.user, is_blocked=True)
    keys = some_keys(range(1, FEW_KEYS + 5)) + some_keys([4, 6], "other")
    await upload(pool, bob.device, keys, [a_last_resort(1), a_last_resort(2, "other")])
    shared = SharedClaims(pool)
    asked = [(alice, [bob]), (carol, [bob]), (stranger, [bob]), (alice, [bob, alice]), (carol, [bob, carol])]
    await shared.claim(*asked, kinds=(KIND, "other", "none"))
    one_time, last = some_keys([1, 2]), [a_last_resort(2, "other"), a_last_resort(1)]
    others = some_keys([4, 6], "other")
    assert [[(each.one_time_keys, each.last_resort_keys) for each in its] for its in shared.found] == [
        [([others[0], one_time[0]], None)],
        [(None, last)],
        [],
        [([others[1], one_time[1]], None)],
        [(None, last)],
    ]
    assert shared.claims.given == {"one_time": 4, "last_resort": 4, "none": 4}


async def test_a_pool_that_is_locked_elsewhere_holds_up_the_claims_of_its_keys_alone(
    pool: Pool, database_url: str, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    await make_contacts(pool, alice, bob, carol)
    for owner in (bob, carol):
        await upload(pool, owner.device, some_keys(range(1, 30), KIND, owner.device))
    shared = SharedClaims(pool)
    async with connected(database_url) as holder, trio.open_nursery() as nursery:
        await holder.query("begin")
        await holder.query("select from key_pools where device_id = %s for no key update", (uuid(bob.device),))
        for n in range(3):
            nursery.start_soon(shared.claims.claim, alice.user, [(bob, carol)[n % 2].user], [KIND])
        await wait_until(lambda: is_waiting_for(pool, "Lock", "claim_keys"), "the claims of Bob's keys wait")
        await wait_until(lambda: shared.claims.answered == 1, "that of Carol's does not")
        assert await numbers(pool, alice, carol) == [2]
        [held] = (await shared.claims.claim(alice.user, [carol.user], [KIND])).devices
        assert held.one_time_keys == some_keys([3], KIND, carol.device)
        await holder.query("commit")
    assert await numbers(pool, alice, bob) == [3]


async def test_a_pool_that_is_made_and_locked_while_a_claim_waits_is_waited_for_too(
    pool: Pool, database_url: str, alice: Credentials, bob: Credentials
) -> None:
    await make_contacts(pool, bob, alice)
    claims, found = KeyClaims(pool), []

    async def claim() -> None:
        found.extend((await claims.claim(alice.user, [bob.user], [KIND])).devices)

    async def blocks(pid: int) -> bool:
        rows = await pool.fetch("select 1 from pg_stat_activity where %s = any(pg_blocking_pids(pid))", (pid,))
        return bool(rows)

    lock = "select pg_backend_pid() from key_pools where device_id = %s for no key update"
    async with connected(database_url) as first, connected(database_url) as second, trio.open_nursery() as nursery:
        for holder, device in ((first, bob), (second, await new_device(pool, bob.user))):
            await upload(pool, device.device, some_keys(range(1, 3)))
            await holder.query("begin")
            [(pid,)] = await holder.query(lock, (uuid(device.device),))
            if holder is first:
                nursery.start_soon(claim)
                await wait_until(lambda pid=pid: blocks(pid), "the claim waits for one pool")  # type: ignore[misc]
        await first.query("commit")
        await wait_until(lambda: blocks(pid), "the claim waits for the other one")
        await second.query("commit")
    assert [each.one_time_keys for each in found] == [some_keys([1])] * 2
    assert claims.given == {"one_time": 2, "last_resort": 0, "none": 0}


async def test_more_claims_than_a_transaction_takes_go_with_the_next(pool: Pool, bob: Credentials) -> None:
    claimers = [await new_user(pool, f"claimer{number}") for number in range(MAX_SHARED + 5)]
    await make_contacts(pool, bob, *claimers)
    await upload(pool, bob.device, some_keys(range(1, 101)))
    shared = SharedClaims(pool)
    await shared.claim(*[(claimer, [bob]) for claimer in claimers])
    assert shared.taken() == list(range(1, MAX_SHARED + 6))
    assert shared.claims.commits == 3


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_claim_that_is_given_up_undoes_no_other(
    pool: Pool, database_url: str, alice: Credentials, bob: Credentials, carol: Credentials, is_first: bool
) -> None:
    """The task that runs the transaction for others, or one whose claim another task runs."""
    await make_contacts(pool, bob, alice, carol)
    await upload(pool, bob.device, some_keys(range(1, 30)))
    claims, found, scopes = KeyClaims(pool), [], [trio.CancelScope(), trio.CancelScope()]

    async def claim(n: int) -> None:
        with scopes[n]:
            page = await claims.claim((alice, carol)[n].user, [bob.user], [KIND])
            found.append(page.devices[0].one_time_keys)

    async with connected(database_url) as holder, trio.open_nursery() as nursery:
        await holder.query("begin")
        await holder.query("lock table key_claims in exclusive mode")
        nursery.start_soon(claims.claim, alice.user, [bob.user], [KIND])
        await wait_until(lambda: is_waiting_for(pool, "Lock", "claim_keys"), "the first claim is under way")
        for n in range(2):
            nursery.start_soon(claim, n)
            await trio.testing.wait_all_tasks_blocked()
        await holder.query("commit")
        await holder.query("begin")
        await holder.query("lock table key_claims in exclusive mode")
        await wait_until(lambda: is_waiting_for(pool, "Lock", "claim_keys"), "the others are under way")
        scopes[0 if is_first else 1].cancel()
        await holder.query("commit")
    # What is under way for others is not cancelled, so the first one gets its key, too.
    assert found == [some_keys([2]), some_keys([3])][: 1 + is_first]


LONG_KINDS = [f"{n}".ljust(MAX_KEY_KIND_BYTES, "k") for n in range(MAX_KEY_KINDS)]


@pytest.mark.parametrize(
    ("devices", "first", "last"),
    [
        *[(2, kib * 1024 // MAX_KEY_KINDS - 520, MAX_ONE_TIME_KEY_BYTES) for kib in (80, 96, 128)],
        (2, MAX_ONE_TIME_KEY_BYTES, MAX_ONE_TIME_KEY_BYTES),
        (40, 1, 1),
    ],
)
async def test_a_page_fits_into_a_message_beside_all_that_a_refusal_names(
    pool: Pool, alice: Credentials, bob: Credentials, devices: int, first: int, last: int
) -> None:
    """The greatest last device behind all others that a page takes; the greatest of all; and many of small keys."""
    await make_contacts(pool, alice, bob)
    made = sorted([bob.device, *[(await new_device(pool, bob.user)).device for _ in range(devices - 1)]])
    for device in made:
        size = last if device == made[-1] else first
        keys = [(kind, MAX_SEQ, b"k" * size) for kind in LONG_KINDS]
        await upload(pool, device, keys, identity=b"i" * (MAX_IDENTITY_BYTES if size > 1 else 1))
    claims, found, after = KeyClaims(pool), [], None
    while True:
        page = await claims.claim(alice.user, [bob.user], LONG_KINDS, after=after)
        users = [bytes(16)] * MAX_PARTICIPANTS
        shown = Error(
            1, "code", "d" * 1024, more=True, devices_version=MAX_SEQ, devices=page.devices, changed_users=users
        )
        assert len(encode(shown)) <= MESSAGE_BYTES.value
        found += [each.device for each in page.devices]
        if not page.more:
            break
        after = found[-1]
    assert found == made
