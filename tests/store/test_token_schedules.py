"""Any schedule of an owner who follows the rules of clients (`protocol/SPEC.md`, 13.1), and of a thief: the owner is
never thrown out without a thief, and a thief who goes on beside the owner is found."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from store import devices, tokens
from store.accounts import add_user
from store.errors import StoreError, TokenRenewed, TokenReused
from store.postgres.pool import Pool
from tests.store.test_tokens import end_overlap

LIFETIME_S = 90 * 86400.0
EXAMPLES = 1 + int(os.environ.get("EXAMPLES", "0")) // 100
"""`make faults` tries more schedules."""

OWNER = (
    "use",  # a request or a hello with the stored token
    "renew",  # the reply comes, and is stored
    "lose the reply",
    "crash",  # the reply comes, and the program ends before it has stored it
    "renew twice",  # the second is sent since the first seemed lost; the replies come in the other order
    "use the old one",  # a request that was under way as the token was renewed
    "wait",  # more than the overlap
)
THIEF = ("steal", "thief uses", "thief renews")


@dataclass
class Schedule:
    """A device, its owner, and a thief.

    :ivar stored: the owner's token.
    :ivar before: the one before it, if a request with it may still be under way.
    :ivar stolen: the thief's token.
    """

    pool: Pool
    device: bytes
    stored: str
    before: str | None = None
    stolen: str | None = None
    log: list[str] = field(default_factory=list)

    async def renewed(self, token: str) -> str:
        new, _, _ = await tokens.renew_token(self.pool, self.device, token, lifetime_s=LIFETIME_S)
        return new

    async def act(self, step: str) -> None:
        """
        :raises TokenReused: if the server has found a token that was shown after its end.
        """
        self.log.append(step)
        match step:
            case "use":
                await tokens.device_by_token(self.pool, self.stored)
            case "renew":
                self.before, self.stored = self.stored, await self.renewed(self.stored)
            case "lose the reply" | "crash":
                await self.renewed(self.stored)
            case "renew twice":
                await self.renew_twice()
            case "use the old one":
                if self.before is not None:
                    await tokens.device_by_token(self.pool, self.before)
            case "wait":
                await end_overlap(self.pool)
                self.before = None
            case _:
                await self.act_as_thief(step)

    async def act_as_thief(self, step: str) -> None:
        if step == "steal":
            self.stolen = self.stored
        elif self.stolen is not None and step == "thief uses":
            await tokens.device_by_token(self.pool, self.stolen)
        elif self.stolen is not None:
            self.stolen = await self.renewed(self.stolen)

    async def renew_twice(self) -> None:
        """Either of the new tokens may be the one that the owner stores: replies overtake each other."""
        new = [await self.renewed(self.stored), await self.renewed(self.stored)]
        self.before, self.stored = self.stored, new[len(self.log) % 2]


async def begin(pool: Pool) -> Schedule:
    user = await add_user(pool, "u" + os.urandom(8).hex(), "x")
    device, token, _ = await devices.add_device(pool, user, "phone", lifetime_s=LIFETIME_S)
    return Schedule(pool, device, token)


def schedules(steps: Sequence[str], *, longest: int, some: int) -> Iterator[tuple[str, ...]]:
    """All schedules of at most `longest` steps, and some longer ones, the same in each run."""
    for length in range(longest + 1):
        yield from itertools.product(steps, repeat=length)
    chance = random.Random(35)
    for _ in range(some * EXAMPLES):
        yield tuple(chance.choices(steps, k=chance.randrange(longest + 1, 30)))


async def test_an_owner_who_follows_the_rules_is_never_thrown_out_without_a_thief(pool: Pool) -> None:
    for steps in schedules(OWNER, longest=3, some=20):
        schedule = await begin(pool)
        try:
            for step in steps:
                await schedule.act(step)
            await schedule.act("use")
        except StoreError as error:
            raise AssertionError(f"{type(error).__name__} after {schedule.log}") from error


async def test_a_thief_and_an_owner_who_both_go_on_are_found_at_the_next_renewal(pool: Pool) -> None:
    """After any beginning, in which the thief may have been found already, the thief has the owner's token."""
    for steps in schedules((*OWNER, *THIEF), longest=2, some=60):
        schedule = await begin(pool)
        assert await is_found(schedule, [*steps, "steal", "renew", "use", "wait", "thief uses"]), schedule.log


async def is_found(schedule: Schedule, steps: Sequence[str]) -> bool:
    """Whether the server finds the thief in these steps."""
    try:
        for step in steps:
            with suppress(TokenRenewed):
                await schedule.act(step)
    except TokenReused:
        return True
    return False


@pytest.mark.parametrize("first", ["owner", "thief"])
async def test_the_second_of_two_new_tokens_is_found_when_it_is_shown(pool: Pool, first: str) -> None:
    """The thief has renewed the stolen token, and so has the owner."""
    schedule = await begin(pool)
    for step in ("steal", "thief renews", "renew"):
        await schedule.act(step)
    steps = ["use", "thief uses"] if first == "owner" else ["thief uses", "use"]
    await schedule.act(steps[0])
    with pytest.raises(TokenReused):
        await schedule.act(steps[1])
