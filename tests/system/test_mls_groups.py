"""Groups of MLS on the chain of control messages, with leaves of two libraries, mls-rs and ts-mls: the chain is linear
whatever dies, and nobody keeps a group from going on (P16).

`make mls` installs mls-rs, and runs these with `MLS_GROUPS` groups (50)."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from uuid import uuid4

import pytest
import trio
import trio.testing

from client.http import Credentials
from client.session import Session, open_session
from store import keys
from store.postgres.pool import Pool
from tests.checker.faulty_nodes import FaultyNodes
from tests.checker.plan import make_plan
from tests.people import make_contacts, new_group, new_user
from tests.processes import open_cluster
from tests.server.node_world import open_node
from tests.system.mls_groups import GARBAGE, ChainedDevice, Change, GroupLeaf, Guest, Tally, findings
from tests.system.mls_leaves import Leaf, MlsRsLeaf, TsMlsLeaf, TsMlsProcess, open_ts_mls

pytestmark = pytest.mark.mls

GROUPS: Final = int(os.environ.get("MLS_GROUPS", "50"))
COMMITTERS: Final = 6
COMMITS: Final = 2
"""Commits that each leaf has accepted, after those of all others that meet it."""

SEED: Final = int(os.environ.get("MLS_SEED", "1"))
PATIENCE_S: Final = 60.0 + 20.0 * GROUPS
MIXED: Final = "mixed"


class MlsDevices:
    """Devices of two libraries with sessions, and a guest whom commits add and remove.

    :ivar libraries: of each device.
    """

    def __init__(self, pool: Pool, libraries: Sequence[str]) -> None:
        self.pool = pool
        self.libraries = libraries
        self.tally = Tally()
        self.devices: list[ChainedDevice] = []
        self.people: list[Credentials] = []
        self.guest: Guest | None = None

    @asynccontextmanager
    async def opened(self, urls: Sequence[str]) -> AsyncGenerator[None, None]:
        """With all devices connected, each at first to another gateway."""
        self.people = [await new_user(self.pool, f"leaf{n}") for n in range(len(self.libraries) + 1)]
        await make_contacts(self.pool, *self.people)
        async with trio.open_nursery() as reading:
            async with AsyncExitStack() as stack:
                node = await stack.enter_async_context(open_ts_mls())
                for n, who in enumerate(self.people):
                    await keys.put(self.pool, who.device, b"identity")
                    order = [*urls[n % len(urls) :], *urls[: n % len(urls)]]
                    session = await stack.enter_async_context(open_session(order, who, longest_pause_s=1.0))
                    await session.wait_caught_up()
                    self._add(n, session, node, reading)
                yield
            reading.cancel_scope.cancel()

    def _add(self, n: int, session: Session, node: TsMlsProcess, nursery: trio.Nursery) -> None:
        identity = uuid4().bytes
        if n == len(self.libraries):
            self.guest = Guest(MlsRsLeaf(identity), session, self.tally)
            nursery.start_soon(self.guest.read)
            return
        rs = self.libraries[n] == "mls-rs"
        leaf: Leaf = MlsRsLeaf(identity) if rs else TsMlsLeaf(node, identity)
        device = ChainedDevice(f"{self.libraries[n]} {n}", leaf, session)
        self.devices.append(device)
        nursery.start_soon(device.read)

    async def group(self, number: int) -> list[GroupLeaf]:
        """A group of all; another device begins each."""
        assert self.guest is not None
        group = await new_group(self.pool, *self.people)
        leaves = [GroupLeaf(device, group, self.guest, self.tally) for device in self.devices]
        first = number % len(leaves)
        beginner, others = leaves[first], [*leaves[:first], *leaves[first + 1 :]]
        await beginner.begin(others)
        for each in others:
            await each.catch_up(beginner.seq)
        return leaves

    async def check(self, groups: Sequence[Sequence[GroupLeaf]]) -> None:
        """Let all leaves catch up, and the guest; then look for what is wrong."""
        assert self.guest is not None
        for leaves in groups:
            last = max(each.seq for each in leaves)
            for each in leaves:
                await each.catch_up(last)
        with trio.move_on_after(30.0):
            while len(self.guest.shown) < sum(seq > 1 for _, seq in self.tally.won):
                await self.guest.session.wait_changed()
        await trio.testing.wait_all_tasks_blocked()
        assert await findings(self.pool, self.tally, self.guest, groups) == []


async def commit_all(groups: Sequence[Sequence[GroupLeaf]], commits: int) -> None:
    """Each leaf of each group has so many commits accepted, all at once."""

    async def run(leaf: GroupLeaf) -> None:
        for _ in range(commits):
            await leaf.commit()

    async with trio.open_nursery() as nursery:
        for leaves in groups:
            for each in leaves:
                nursery.start_soon(run, each)


@pytest.mark.parametrize("libraries", ["mls-rs", "ts-mls", MIXED])
async def test_a_group_goes_on_within_one_round_after_a_leaf_has_sent_garbage(
    pool: Pool, redis_url: str, libraries: str
) -> None:
    """All leaves find it invalid, stay in their epoch, and take the next commit, which follows it."""
    three = ["mls-rs", "ts-mls", "mls-rs"] if libraries == MIXED else [libraries] * 3
    with trio.fail_after(PATIENCE_S):
        async with open_node(pool.url, redis_url) as node:
            world = MlsDevices(pool, three)
            async with world.opened([node.url]):
                leaves = await world.group(0)
                earlier = leaves[0].device.chains[leaves[0].group][0].content[1:]
                for n, garbage in enumerate(GARBAGE.values()):
                    sender, other = leaves[n % 3], leaves[(n + 1) % 3]
                    await sender.send_invalid(bytes([Change.ADD]) + garbage(earlier))
                    before = world.tally.invalid
                    conflicts, accepted = world.tally.conflicts, world.tally.accepted
                    await other.commit()
                    # One round: it was behind by the garbage at most, and then accepted.
                    assert world.tally.conflicts - conflicts <= 1
                    assert world.tally.accepted - accepted == 1
                    for each in leaves:
                        await each.catch_up(other.seq)
                    assert world.tally.invalid >= before
                assert world.tally.invalid == len(GARBAGE) * 3
                await commit_all([leaves], 1)
                await world.check([leaves])


async def test_leaves_of_two_libraries_hold_one_linear_chain_while_nodes_die(
    pool: Pool, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each loser of a race is told `control_conflict`, no Welcome of a loser is stored or shown, and after each control
    message all leaves export one secret, with the guest who joins by it."""
    faults: Counter[str] = Counter()
    with trio.fail_after(PATIENCE_S):
        async with open_cluster(pool.url, redis_url) as cluster, trio.open_nursery() as nursery:
            nodes = FaultyNodes(pool, cluster, redis_url, nursery, lambda what: faults.update([what]))
            await nodes.begin()
            world = MlsDevices(pool, ["mls-rs", "ts-mls"] * (COMMITTERS // 2))
            async with world.opened(nodes.urls):
                groups = [await world.group(n) for n in range(GROUPS)]
                async with trio.open_nursery() as acting:
                    acting.start_soon(nodes.act, make_plan(SEED, 3600.0))
                    await commit_all(groups, COMMITS)
                    acting.cancel_scope.cancel()
                await world.check(groups)
            assert nodes.faults_logged() == []
            nursery.cancel_scope.cancel()
    tally = world.tally
    figures = {
        "groups": GROUPS,
        "accepted": tally.accepted,
        "conflicts": tally.conflicts,
        "unknown_outcomes": tally.unknown,
        "lost_welcomes": len(tally.lost),
        "accepted_welcomes": len(tally.won),
        "faults": dict(faults),
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(figures)}\n")
    assert tally.accepted == GROUPS * (1 + COMMITTERS * COMMITS)
    assert tally.conflicts > 0
    assert tally.lost
    assert tally.won
    assert any("killed" in each for each in faults)
