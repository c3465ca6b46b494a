"""Claims, uploads and revocations at the same time, by several processes (P13)."""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import Final, NamedTuple

import trio

from client.http import Credentials
from store import devices, keys
from store.errors import DeviceRevoked
from store.key_claims import KeyClaims
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_device, new_direct, new_user
from tests.store.key_world import IDENTITY, a_last_resort, claimed, some_keys, upload
from tests.store.store_world import is_waiting_for
from tests.waiting import DEADLINE_S, wait_until

KINDS: Final = ("ec", "otk")
PROCESSES: Final = 4
CLAIMERS: Final = 8
DEVICES: Final = 5


class Claimed(NamedTuple):
    """A key that a claimer got, and when it asked and was answered, by Trio's clock."""

    device: bytes
    kind: str
    number: int
    is_last_resort: bool
    asked_at: float
    answered_at: float


def check(found: list[Claimed]) -> None:
    """No number twice; in ascending order: a claim that was answered before another one began has lesser numbers."""
    taken = [each for each in found if not each.is_last_resort]
    assert len({each[:3] for each in taken}) == len(taken), "a key was handed out twice"
    pools: dict[tuple[bytes, str], list[Claimed]] = {}
    for each in taken:
        pools.setdefault(each[:2], []).append(each)
    for claims in pools.values():
        claims.sort(key=lambda each: each.number)
        for earlier, later in pairwise(claims):
            assert earlier.asked_at < later.answered_at, (earlier, later)


class Crowd:
    """Claimers who may see the devices of some owners.

    :ivar found: all keys that they got.
    """

    def __init__(self, claimers: list[Credentials], owners: list[Credentials]) -> None:
        self.claimers = claimers
        self.owners = owners
        self.found: list[Claimed] = []

    @classmethod
    async def make(cls, pool: Pool) -> Crowd:
        claimers = [await new_user(pool, f"claimer{n}") for n in range(CLAIMERS)]
        owners = [await new_user(pool, f"owner{n}") for n in range(DEVICES)]
        for each in claimers:
            await make_contacts(pool, each, *owners)
        return cls(claimers, owners)

    async def claim(self, claims: KeyClaims, number: int, turns: int, *, gives_all: bool = True) -> None:
        """Claim from some owners, some kinds.

        :param gives_all: each device has a last-resort key of each kind, so a claim gets a key of each.
        """
        chance, claimer = random.Random(number), self.claimers[number % CLAIMERS]
        for _ in range(turns):
            owners = chance.sample(self.owners, chance.randint(1, DEVICES))
            kinds = chance.sample(KINDS, chance.randint(1, 2))
            asked_at = trio.current_time()
            got = await claimed(claims, claimer, *owners, kinds=kinds)
            answered_at = trio.current_time()
            if gives_all:
                assert len(got) == len(owners) * len(kinds), "a claimer got nothing although there is a last resort"
            self.found += [Claimed(*each, asked_at, answered_at) for each in got]


async def test_claims_at_once_get_different_keys_in_order_and_none_gets_nothing(pool: Pool, database_url: str) -> None:
    """More claims than keys. Each device uploads all the time: what it has uploaded before, too."""
    crowd = await Crowd.make(pool)
    for each in crowd.owners:
        for kind in KINDS:
            await upload(pool, each.device, [], [a_last_resort(1, kind, each.device)])
    with ExitStack() as stack:
        pools = [stack.enter_context(closing(Pool(database_url, 4))) for _ in range(PROCESSES)]
        claims = [KeyClaims(each) for each in pools]

        async def refill(owner: Credentials) -> None:
            for upto in (10, 10, 25, 40, 40):
                for kind in KINDS:
                    await upload(pools[0], owner.device, some_keys(range(1, upto + 1), kind, owner.device))

        with trio.fail_after(4 * DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for owner in crowd.owners:
                    nursery.start_soon(refill, owner)
                for number in range(2 * CLAIMERS):
                    nursery.start_soon(crowd.claim, claims[number % PROCESSES], number, 10)
    check(crowd.found)
    taken = sum(not each.is_last_resort for each in crowd.found)
    [(left,)] = await pool.fetch("select sum(stored - taken)::int from key_pools")
    assert taken + left == DEVICES * len(KINDS) * 40, "each uploaded key is handed out, or still there"
    assert taken > DEVICES * len(KINDS) * 10


async def test_devices_that_end_meanwhile_block_no_claim_and_leave_no_key(pool: Pool, database_url: str) -> None:
    """All pools are locked in one order, so none of these waits for ever for another."""
    crowd = await Crowd.make(pool)
    with ExitStack() as stack:
        pools = [stack.enter_context(closing(Pool(database_url, 4))) for _ in range(PROCESSES)]
        claims = [KeyClaims(each) for each in pools]

        async def come_and_go(owner: Credentials) -> None:
            """Several devices of a user end by one statement."""
            for _ in range(6):
                made = [await new_device(pools[1], owner.user) for _ in range(3)]
                for each in made:
                    own = [key for kind in KINDS for key in some_keys(range(1, 6), kind, each.device)]
                    await upload(pools[1], each.device, own, [a_last_resort(1, kind) for kind in KINDS])
                await devices.revoke_devices(pools[2], owner.user, keep=owner.device)
                for each in made:
                    try:
                        await keys.put(pools[1], each.device, IDENTITY)
                    except DeviceRevoked:
                        continue
                    raise AssertionError("a revoked device has published an identity")

        with trio.fail_after(4 * DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for owner in crowd.owners:
                    nursery.start_soon(come_and_go, owner)
                for number in range(CLAIMERS):

                    async def ask(number: int = number) -> None:
                        await crowd.claim(claims[number % PROCESSES], number, 12, gives_all=False)

                    nursery.start_soon(ask)
    check(crowd.found)
    assert await pool.fetch("select 1 from key_pools union all select 1 from one_time_keys") == []


async def test_an_identity_that_waits_for_a_conversation_holds_up_no_claim(
    pool: Pool, database_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Revocations lock conversations first, and pools then: an upload in the other order would wait in a circle."""
    talk = await new_direct(pool, alice, bob)
    await upload(pool, bob.device, some_keys([1, 2], device=bob.device), [a_last_resort(1)])
    put = "select put_keys(%s, 'another', null, '{}', '{}', '{}', '{}', '{}', '{}', false, 200, 8, 20)"
    async with (
        connected(database_url) as holder,
        connected(database_url) as uploader,
        trio.open_nursery() as nursery,
    ):
        await uploader.query("set lock_timeout = 0")
        await holder.query("begin")
        await holder.query("select from conversations where id = %s for no key update", (uuid(talk),))
        nursery.start_soon(uploader.query, put, (uuid(bob.device),))
        await wait_until(lambda: is_waiting_for(pool, "Lock", "select put_keys"), "the upload waits")
        with trio.fail_after(DEADLINE_S):
            assert [each[2] for each in await claimed(pool, alice, bob)] == [1]
        await holder.query("commit")
    assert await claimed(pool, alice, bob) == [], "the keys of the identity before are gone"
