"""Gateways and Postgres die while devices upload keys and eight processes claim them: no key is handed out twice, and a
session begins with each (P13)."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest
import trio
from vodozemac import Account

from client.connection import ClientConnection, connect
from client.errors import ClientFailure
from client.http import Credentials
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from protocol.frames import OneTimeKey
from protocol.limits import MAX_POOL_KEYS
from store.errors import Unavailable
from store.postgres.pool import Pool
from tests.conftest import migrated_postgres
from tests.memory import in_memory
from tests.people import make_contacts, new_device, new_user
from tests.processes import Cluster, Process, open_cluster, start
from tests.store.key_world import upload
from tests.store.test_key_races import Claimed, check
from tests.system.claiming_process import PICKLE_KEY, BegunSession, ClaimPlan, ClaimReport, OpeningPlan
from tests.waiting import let_pass, wait_until

WITHOUT_FSYNC: Final = {"fsync": "off"}
"""What Postgres has written survives its own death all the same; that of the machine is not tested here."""

MODULE: Final = "tests.system.claiming_process"


class ClaimSizes(NamedTuple):
    """
    :ivar devices: of each owner.
    :ivar keys: of each kind of each device.
    :ivar per_upload: of each kind.
    :ivar claimers: users in each process.
    :ivar turns: claims of each of them for the devices of each owner: at most as many as get one-time keys.
    :ivar deaths: of gateways and of Postgres in turn, at equal distances in the course of the claims.
    """

    processes: int
    owners: int
    devices: int
    kinds: list[str]
    keys: int
    per_upload: int
    claimers: int
    turns: int
    deaths: int
    patience_s: float

    @property
    def all_keys(self) -> int:
        return self.owners * self.devices * len(self.kinds) * self.keys

    @property
    def all_claims(self) -> int:
        """Of a key of each kind of a device."""
        return self.processes * self.claimers * self.turns * self.owners * self.devices


SMALL: Final = ClaimSizes(2, 2, 2, ["ec", "otk"], 40, 20, 2, 15, 3, 90)
LARGE: Final = ClaimSizes(8, 25, 4, ["a", "b", "c", "d"], 250, 25, 2, 20, 11, 600)
"""100,000 keys of 100 devices, and 128,000 claims of a key: the last ones get last-resort keys."""


class DyingCluster:
    """Two gateways, and Postgres, which die in turn while claims go on; all come back at their addresses."""

    def __init__(self, cluster: Cluster, postgres: PostgresServer, pool: Pool, folder: Path) -> None:
        self._deaths = folder / "deaths"
        self._tell(0)
        self._cluster = cluster
        self._postgres = postgres
        self._pool = pool
        self._ports = [free_port(), free_port()]
        self._gateways: list[Process] = []

    @property
    def urls(self) -> list[str]:
        return [f"ws://127.0.0.1:{port}" for port in self._ports]

    async def begin(self) -> None:
        self._gateways = [(await self._cluster.start_socket(port=port))[0] for port in self._ports]

    async def die(self, deaths: int, claims: int, patience_s: float) -> None:
        """
        :param claims: of a device, that there will be.
        """
        for turn in range(1, deaths + 1):
            due = round(claims * (turn - 0.5) / (deaths + 1))
            await wait_until(lambda due=due: self._has_claims(due), f"{due} claims", timeout_s=patience_s)  # type: ignore[misc]
            if turn % 3 == 2:
                await trio.to_thread.run_sync(self._postgres.kill)
                await trio.to_thread.run_sync(self._postgres.start)
            else:
                await self._kill_gateway(turn % 2)
            self._tell(turn)

    def _tell(self, deaths: int) -> None:
        """The claiming processes may go on; they never read half of the file."""
        new = self._deaths.with_suffix(".new")
        new.write_text(str(deaths))
        new.rename(self._deaths)

    async def _has_claims(self, due: int) -> bool:
        with suppress(Unavailable):
            [(claims,)] = await self._pool.fetch("select coalesce(sum(claims), 0)::int from key_claims")
            return bool(claims >= due)
        return False

    async def _kill_gateway(self, number: int) -> None:
        self._gateways[number].kill()
        await self._gateways[number].wait()
        self._gateways[number], _ = await self._cluster.start_socket(port=self._ports[number])


class OlmDevice:
    """A device with an Olm account, which uploads its keys in parts, each part twice, as without a reply.

    :ivar credentials: of it.
    :ivar has_half: set once half of the keys that a pool has room for are at the server.
    """

    def __init__(self, credentials: Credentials, sizes: ClaimSizes) -> None:
        self.credentials = credentials
        self._sizes = sizes
        self._account = Account()
        self.has_half = trio.Event()
        self._account.generate_fallback_key()  # type: ignore[attr-defined]
        [self._fallback] = self._account.fallback_key.values()  # type: ignore[attr-defined]

    @property
    def identity(self) -> bytes:
        return bytes(self._account.curve25519_key.to_bytes())

    @property
    def last_resort_keys(self) -> list[OneTimeKey]:
        return [(kind, 1, bytes(self._fallback.to_bytes())) for kind in self._sizes.kinds]

    def pickled(self) -> str:
        return self._account.pickle(PICKLE_KEY)

    async def upload(self, urls: list[str]) -> None:
        sizes = self._sizes
        for first in range(1, sizes.keys + 1, sizes.per_upload):
            self._account.generate_one_time_keys(sizes.per_upload * len(sizes.kinds))
            new = iter(self._account.one_time_keys.values())
            numbers = range(first, first + sizes.per_upload)
            part = [(kind, number, bytes(next(new).to_bytes())) for kind in sizes.kinds for number in numbers]
            self._account.mark_keys_as_published()
            for _ in range(2):
                await self._insist(urls, part)
            if numbers[-1] >= min(sizes.keys, MAX_POOL_KEYS) / 2:
                self.has_half.set()

    async def _insist(self, urls: list[str], part: list[OneTimeKey]) -> None:
        """Upload the keys until the server has them all: a pool may have no room for some of them yet."""
        while True:
            with suppress(OSError, ClientFailure):
                async with connect(random.choice(urls), self.credentials.token) as connection:
                    while not await self._try(connection, part):
                        await let_pass(0.5, why="others claim keys")
                    return
            await let_pass(0.05, why="a client waits before it connects again")

    async def _try(self, connection: ClientConnection, part: list[OneTimeKey]) -> bool:
        history = (await connection.key_status()).key_history
        held = await connection.put_keys(self.identity, part, key_history=history)
        highest = {pool[0]: pool[3] for pool in held.pools}
        return all(number <= highest[kind] for kind, number, _ in part)


class ClaimingProcesses:
    """Processes that claim, and that open the sessions; they share a folder with this one."""

    def __init__(self, folder: Path, sizes: ClaimSizes, nursery: trio.Nursery) -> None:
        self._folder = folder
        self._sizes = sizes
        self._nursery = nursery

    async def claim(self, urls: list[str], tokens: list[str], owners: list[bytes]) -> list[ClaimReport]:
        sizes = self._sizes
        shares = [tokens[number :: sizes.processes] for number in range(sizes.processes)]
        plans = [
            ClaimPlan(urls, share, owners, sizes.devices, sizes.kinds, sizes.turns, sizes.deaths) for share in shares
        ]
        reports = await self._run("claim", [msgspec.msgpack.encode(plan) for plan in plans])
        return [msgspec.msgpack.decode(report, type=ClaimReport) for report in reports]

    async def open(self, devices: list[OlmDevice], sessions: list[BegunSession]) -> list[str]:
        """The failures."""
        plans = []
        for number in range(self._sizes.processes):
            share = {each.credentials.device: each.pickled() for each in devices[number :: self._sizes.processes]}
            accounts = {device.hex(): pickled for device, pickled in share.items()}
            plans.append(OpeningPlan(accounts, [each for each in sessions if each.device in share]))
        reports = await self._run("open", [msgspec.msgpack.encode(plan) for plan in plans])
        return [failure for report in reports for failure in msgspec.msgpack.decode(report, type=list[str])]

    async def _run(self, what: str, plans: list[bytes]) -> list[bytes]:
        processes = []
        for number, plan in enumerate(plans):
            (self._folder / f"{what}-{number}").write_bytes(plan)
            processes.append(await start(self._nursery, MODULE, what, str(self._folder), str(number), environment={}))
        for process in processes:
            assert await process.wait() == 0, process.raw
        return [(self._folder / f"{what}-{number}.report").read_bytes() for number in range(len(plans))]


@pytest.mark.parametrize("sizes", [SMALL, pytest.param(LARGE, marks=pytest.mark.long)], ids=["small", "large"])
async def test_no_key_is_handed_out_twice_while_gateways_and_postgres_are_killed(
    tmp_path: Path, migrated_data: Path, redis_url: str, sizes: ClaimSizes
) -> None:
    with in_memory(tmp_path) as folder:
        context = migrated_postgres(migrated_data, folder / "postgres", WITHOUT_FSYNC)
        postgres = await trio.to_thread.run_sync(context.__enter__)
        try:
            await _run(postgres, redis_url, tmp_path, sizes)
        finally:
            await trio.to_thread.run_sync(context.__exit__, None, None, None)


async def _run(postgres: PostgresServer, redis_url: str, folder: Path, sizes: ClaimSizes) -> None:
    pool = Pool(postgres.url, 2)
    owners = [await new_user(pool, f"owner{n}") for n in range(sizes.owners)]
    claimers = [await new_user(pool, f"claimer{n}") for n in range(sizes.processes * sizes.claimers)]
    for each in claimers:
        await make_contacts(pool, each, *owners)
    made = [[owner, *[await new_device(pool, owner.user) for _ in range(sizes.devices - 1)]] for owner in owners]
    devices = [OlmDevice(each, sizes) for its in made for each in its]
    for device in devices:
        await upload(pool, device.credentials.device, [], device.last_resort_keys, identity=device.identity)
    async with open_cluster(postgres.url, redis_url) as cluster, trio.open_nursery() as nursery:
        dying = DyingCluster(cluster, postgres, pool, folder)
        await dying.begin()
        processes = ClaimingProcesses(folder, sizes, nursery)
        reports: list[ClaimReport] = []

        async def claim() -> None:
            for device in devices:
                await device.has_half.wait()
            reports.extend(
                await processes.claim(dying.urls, [each.token for each in claimers], [owner.user for owner in owners])
            )

        with trio.fail_after(sizes.patience_s):
            async with trio.open_nursery() as working:
                working.start_soon(claim)
                working.start_soon(dying.die, sizes.deaths, sizes.all_claims, sizes.patience_s)
                for device in devices:
                    working.start_soon(device.upload, dying.urls)
        sessions = [session for report in reports for session in report.sessions]
        lost = sum(report.lost for report in reports)
        assert lost >= 2, "nothing died at the wrong moment"
        taken = _check_numbers(sessions, sizes)
        # The last to die may have been Postgres.
        await pool.wait_ready()
        [(left,)] = await pool.fetch("select sum(stored - taken)::int from key_pools")
        gone = sizes.all_keys - taken - left
        assert 0 <= gone <= lost * sizes.devices * len(sizes.kinds), "a key goes to a claimer, or with a lost answer"
        assert taken >= sizes.all_keys / 2
        assert await processes.open(devices, sessions) == []
        nursery.cancel_scope.cancel()
    pool.close()


def _check_numbers(sessions: list[BegunSession], sizes: ClaimSizes) -> int:
    """Returns how many one-time keys were claimed."""
    found = [
        Claimed(each.device, each.kind, each.number, each.is_last_resort, each.asked_at, each.answered_at)
        for each in sessions
    ]
    check(found)
    assert len(found) == sizes.all_claims * len(sizes.kinds), "each claim got a key of each kind of each device"
    return sum(not each.is_last_resort for each in found)
