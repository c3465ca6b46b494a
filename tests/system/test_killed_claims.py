"""Gateways and Postgres die while devices upload keys and others claim them: no key is handed out twice (P13)."""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import ClientFailure
from client.http import Credentials
from embedded.postgres import PostgresServer
from store.postgres.pool import Pool
from tests.conftest import migrated_postgres
from tests.memory import in_memory
from tests.people import make_contacts, new_device, new_user
from tests.processes import Cluster, Process, open_cluster
from tests.store.key_world import IDENTITY, a_last_resort, some_keys, upload
from tests.store.test_key_races import Claimed, check
from tests.waiting import let_pass

KINDS: Final = ("ec", "otk")
KEYS: Final = 125
"""Of each kind and device: 5,000 in all."""

OWNERS: Final = 5
DEVICES: Final = 4
CLAIMERS: Final = 8
TURNS: Final = 20
"""Claims of each claimer for the devices of each owner: as many as get one-time keys."""

WITHOUT_FSYNC: Final = {"fsync": "off"}
"""What Postgres has written survives its own death all the same; that of the machine is not tested here."""

PAUSE_S: Final = 0.7
"""Between two deaths."""


class DyingCluster:
    """Two gateways that die in turn, and a Postgres that dies sometimes.

    :ivar found: the keys that claimers got.
    :ivar lost: claims and uploads without an answer.
    """

    def __init__(self, cluster: Cluster, postgres: PostgresServer) -> None:
        self._cluster = cluster
        self._postgres = postgres
        self._gateways: list[tuple[Process, str]] = []
        self.found: list[Claimed] = []
        self.lost = 0

    async def begin(self) -> None:
        for _ in range(2):
            self._gateways.append(await self._cluster.start_socket())

    async def die(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled."""
        task_status.started()
        for turn in count(1):
            await let_pass(PAUSE_S, why="claims go on between two deaths")
            if turn % 3 == 0:
                await trio.to_thread.run_sync(self._postgres.kill)
                await trio.to_thread.run_sync(self._postgres.start)
            else:
                process, _ = self._gateways.pop(0)
                process.kill()
                self._gateways.append(await self._cluster.start_socket())

    async def insist(self, device: Credentials, tasks: list) -> None:  # type: ignore[type-arg]
        """Do all tasks, functions of a connection, over as many connections as it takes."""
        while tasks:
            with suppress(OSError):
                try:
                    async with connect(random.choice(self._gateways)[1], device.token) as connection:
                        while tasks:
                            await tasks[-1](connection)
                            tasks.pop()
                except ClientFailure:
                    self.lost += 1
            await let_pass(0.05, why="a client waits before it connects again")

    async def upload(self, device: Credentials) -> None:
        """Upload each part twice, as a client without a reply does."""

        async def some(connection: ClientConnection, first: int) -> None:
            history = (await connection.key_status()).key_history
            for _ in range(2):
                keys = [key for kind in KINDS for key in some_keys(range(first, first + 25), kind, device.device)]
                await connection.put_keys(IDENTITY, keys, key_history=history)

        await self.insist(device, [lambda c, n=n: some(c, n) for n in range(KEYS - 24, 0, -25)])

    async def claim(self, claimer: Credentials, owners: list[bytes]) -> None:
        async def of(connection: ClientConnection, owner: bytes) -> None:
            asked_at = trio.current_time()
            page = await connection.devices([owner], kinds=list(KINDS))
            answered_at = trio.current_time()
            assert len(page.devices) == DEVICES
            for each in page.devices:
                got = [(key, False) for key in each.one_time_keys or ()]
                got += [(key, True) for key in each.last_resort_keys or ()]
                assert sorted(kind for (kind, _, _), _ in got) == list(KINDS), "a claimer got nothing of a kind"
                self.found += [
                    Claimed(each.device, kind, number, is_last, asked_at, answered_at)
                    for (kind, number, _), is_last in got
                ]

        turns = owners * TURNS
        random.shuffle(turns)
        await self.insist(claimer, [lambda c, owner=owner: of(c, owner) for owner in turns])


@pytest.mark.long
async def test_no_key_is_handed_out_twice_while_gateways_and_postgres_are_killed(
    tmp_path: Path, migrated_data: Path, redis_url: str
) -> None:
    with in_memory(tmp_path) as folder:
        context = migrated_postgres(migrated_data, folder / "postgres", WITHOUT_FSYNC)
        postgres = await trio.to_thread.run_sync(context.__enter__)
        try:
            await _run(postgres, redis_url)
        finally:
            await trio.to_thread.run_sync(context.__exit__, None, None, None)


async def _run(postgres: PostgresServer, redis_url: str) -> None:
    pool = Pool(postgres.url, 2)
    owners = [await new_user(pool, f"owner{n}") for n in range(OWNERS)]
    claimers = [await new_user(pool, f"claimer{n}") for n in range(CLAIMERS)]
    for each in claimers:
        await make_contacts(pool, each, *owners)
    devices = [
        device for owner in owners for device in (owner, *[await new_device(pool, owner.user) for _ in range(3)])
    ]
    async with open_cluster(postgres.url, redis_url) as cluster:
        dying = DyingCluster(cluster, postgres)
        await dying.begin()
        for device in devices:
            last = [a_last_resort(1, kind, device.device) for kind in KINDS]
            await upload(pool, device.device, [], last)
        async with trio.open_nursery() as killers:
            await killers.start(dying.die)
            with trio.fail_after(240):
                async with trio.open_nursery() as nursery:
                    for device in devices:
                        nursery.start_soon(dying.upload, device)
                    for claimer in claimers:
                        nursery.start_soon(dying.claim, claimer, [owner.user for owner in owners])
            killers.cancel_scope.cancel()
    check(dying.found)
    taken = sum(not each.is_last_resort for each in dying.found)
    assert dying.lost >= 2, "nothing died at the wrong moment"
    assert taken > OWNERS * DEVICES * len(KINDS) * KEYS / 3
    pool.close()
