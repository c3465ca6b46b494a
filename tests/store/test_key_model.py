"""Uploads, claims, new identities, new histories and revocations in any order, against a plain model (P13)."""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.http import Credentials
from protocol.limits import CLAIMS_PER_HOUR
from store import devices, keys
from store.errors import ForeignKeyHistory
from store.postgres.pool import Pool
from tests.people import make_contacts, new_device, new_user
from tests.store.key_world import a_last_resort, claimed, forgive, some_keys
from tests.store.store_world import MORE_EXAMPLES

KINDS: Final = ("ec", "otk")


@dataclass(frozen=True)
class KeyOp:
    """One operation.

    :ivar what: put, put anew, put of before (with the history that the device knew first), claim, identity, history,
        revoke (the device goes on as another one).
    :ivar numbers: of one-time keys.
    :ivar last: number of a last-resort key; 0: none.
    """

    what: str
    kind: str
    numbers: tuple[int, ...]
    last: int


ops = st.builds(
    KeyOp,
    st.sampled_from(
        ["put", "put", "put anew", "put of before", "claim", "claim", "claim", "identity", "history", "revoke"]
    ),
    st.sampled_from(KINDS),
    st.lists(st.integers(1, 30), max_size=6, unique=True).map(tuple),
    st.integers(0, 3),
)


@dataclass
class ModelPool:
    """A pool as it should be.

    :ivar given: all numbers that were handed out.
    """

    keys: set[int] = field(default_factory=set)
    highest: int = 0
    last: int = 0
    has_last: bool = False
    is_old: bool = False
    given: list[int] = field(default_factory=list)


class ModelDevice:
    """One device, and the claims that all users make of it."""

    def __init__(self, pool: Pool, owner: Credentials, claimer: Credentials) -> None:
        self.pool = pool
        self.owner = owner
        self.claimer = claimer
        self.device = owner.device
        self.pools: dict[str, ModelPool] = {}
        self.identity = 0
        self.first_history = b""
        self.claims = 0

    async def begin(self) -> None:
        self.pools, self.claims = {}, 0
        await self.publish()
        self.first_history = (await keys.status(self.pool, self.device)).history

    async def publish(self) -> None:
        self.identity += 1
        await keys.put(self.pool, self.device, b"identity %d" % self.identity)

    async def run(self, op: KeyOp) -> None:
        match op.what:
            case "claim":
                await self.claim()
            case "identity":
                await self.publish()
                for pool in self.pools.values():
                    pool.keys, pool.has_last = set(), False
            case "history":
                await self.pool.fetch("select begin_history()")
                for pool in self.pools.values():
                    pool.is_old = True
            case "revoke":
                await devices.revoke_device(self.pool, self.owner.user, self.device)
                self.device = (await new_device(self.pool, self.owner.user)).device
                await self.begin()
            case _:
                await self.put(op)
        await self.check()

    async def put(self, op: KeyOp) -> None:
        now = (await keys.status(self.pool, self.device)).history
        history = self.first_history if op.what == "put of before" else now
        last = [a_last_resort(op.last, op.kind)] if op.last else []
        one_time = some_keys(op.numbers, op.kind)
        is_anew = op.what == "put anew"
        try:
            await keys.put(self.pool, self.device, None, one_time, last, is_anew=is_anew, history=history)
        except ForeignKeyHistory:
            assert history != now
            return
        if not one_time and not last:
            return
        assert history == now
        pool = self.pools.setdefault(op.kind, ModelPool())
        if pool.is_old:
            pool.keys, pool.is_old = set(), False
        if is_anew and op.numbers:
            pool.keys = {number for number in pool.keys if number >= min(op.numbers)}
        fresh = {number for number in op.numbers if number > pool.highest}
        pool.keys |= fresh
        pool.highest = max(pool.highest, *fresh, 0)
        if op.last > pool.last:
            pool.last, pool.has_last = op.last, True

    async def claim(self) -> None:
        self.claims += 1
        if self.claims > CLAIMS_PER_HOUR:
            await forgive(self.pool)
            self.claims = 1
        got = {
            kind: (number, is_last)
            for _, kind, number, is_last in await claimed(self.pool, self.claimer, self.owner, kinds=KINDS)
        }
        expected: dict[str, tuple[int, bool]] = {}
        for kind, pool in self.pools.items():
            if pool.keys and not pool.is_old:
                number = min(pool.keys)
                pool.keys.remove(number)
                assert number not in pool.given, "the model itself hands no key out twice"
                pool.given.append(number)
                expected[kind] = (number, False)
            elif pool.has_last:
                expected[kind] = (pool.last, True)
        assert got == expected

    async def check(self) -> None:
        """The status tells what the model holds."""
        shown = {each[0]: each for each in (await keys.status(self.pool, self.device)).pools}
        assert shown.keys() == self.pools.keys()
        for kind, pool in self.pools.items():
            held = set() if pool.is_old else pool.keys
            _, count, first, highest, _, last, _ = shown[kind]
            assert (count, first, highest) == (len(held), min(held, default=0), pool.highest)
            assert last == (pool.last if pool.has_last else 0)


@settings(max_examples=12 + MORE_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(ops, min_size=1, max_size=25))
async def test_pools_are_as_a_plain_model_says(database_url: str, steps: list[KeyOp]) -> None:
    with closing(Pool(database_url, 2)) as pool:
        owner, claimer = [await new_user(pool, f"u{secrets.token_hex(8)}") for _ in range(2)]
        await make_contacts(pool, owner, claimer)
        device = ModelDevice(pool, owner, claimer)
        await device.begin()
        for step in steps:
            await device.run(step)
