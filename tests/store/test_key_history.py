"""A restored or failed-over database, which has forgotten claims, hands no key out twice (P13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from embedded.postgres import NOT_DURABLE, PostgresServer
from store import keys
from store.errors import ForeignKeyHistory
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.memory import in_memory
from tests.people import new_direct, new_user
from tests.standby import Standby
from tests.store.key_world import IDENTITY, a_last_resort, numbers, some_keys, upload
from tests.store.test_history import ASKED, NEEDS_COMMAND, BackedUpCluster
from tests.waiting import wait_until_blocking

_T = TypeVar("_T")

FIRST = some_keys(range(1, 11))
LAST = [a_last_resort(1)]


class KeyOwner:
    """Bob uploads keys, and Alice claims them.

    :param url: of the database that they reach now.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self.history = b""

    def run(self, act: Callable[[Pool], Awaitable[_T]]) -> _T:
        async def with_pool() -> _T:
            with closing(Pool(self._url(), 1)) as pool:
                return await act(pool)

        return trio.run(with_pool)

    async def begin(self, pool: Pool) -> None:
        self.alice, self.bob = await new_user(pool, "alice"), await new_user(pool, "bob")
        await new_direct(pool, self.alice, self.bob)
        self.history = (await upload(pool, self.bob.device, FIRST, LAST)).history

    async def claim(self, pool: Pool) -> list[int | None]:
        return await numbers(pool, self.alice, self.bob, 3)

    async def upload_again(self, pool: Pool) -> None:
        """As a client that has had no reply, or makes up for what the server has lost; then as one that asks first."""
        for is_anew in (False, True):
            with pytest.raises(ForeignKeyHistory):
                await keys.put(pool, self.bob.device, IDENTITY, FIRST, LAST, is_anew=is_anew, history=self.history)
        await upload(pool, self.bob.device, some_keys(range(11, 14)), is_anew=True)

    def check(self) -> None:
        """What was claimed before the back-up, or after it, is not handed out again."""
        assert self.run(self.claim) == [-1, -1, -1]
        self.run(self.upload_again)
        assert self.run(self.claim) == [11, 12, 13]


@pytest.fixture
def cluster(tmp_path: Path, migrated_data: Path) -> Iterator[BackedUpCluster]:
    with in_memory(tmp_path) as folder:
        cluster = BackedUpCluster(folder, migrated_data)
        yield cluster
        cluster.close()


@pytest.mark.parametrize("way", ASKED)
def test_a_restored_database_hands_out_last_resort_keys_until_the_device_uploads_new_ones(
    cluster: BackedUpCluster, way: str
) -> None:
    save, restore = ASKED[way]
    owner = KeyOwner(lambda: cluster.url)
    owner.run(owner.begin)
    save(cluster)
    assert owner.run(owner.claim) == [1, 2, 3]
    restore(cluster)
    if way in NEEDS_COMMAND:
        cluster.tell()
    owner.check()


def test_a_standby_that_lost_claims_hands_out_last_resort_keys_until_the_device_uploads_new_ones(
    tmp_path: Path,
) -> None:
    with in_memory(tmp_path) as folder:
        primary = PostgresServer(folder / "primary", settings=NOT_DURABLE)
        standby = Standby(folder / "standby", primary, settings=NOT_DURABLE)
        primary.start()
        try:
            trio.run(migrate, primary.url)
            standby.start()
            owner = KeyOwner(lambda: primary.url if primary.is_running else standby.url)
            owner.run(owner.begin)

            async def has_key(pool: Pool) -> bool:
                return bool(await pool.fetch("select 1 from one_time_keys"))

            follower = KeyOwner(lambda: f"{standby.url}?target_session_attrs=any")
            wait_until_blocking(lambda: follower.run(has_key), "the standby has the keys")
            standby.cut_off()
            assert owner.run(owner.claim) == [1, 2, 3]
            primary.kill()
            standby.promote()
            owner.check()
        finally:
            primary.stop()
            standby.stop()
