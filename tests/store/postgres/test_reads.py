"""Reads that queue up share a round trip; each gets its own rows or error, and cancelling one leaves the others
alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from store.errors import DatabaseError, Overloaded, Unavailable
from store.postgres import pool as pool_module
from store.postgres import reads as reads_module
from store.postgres.columns import BIGINT, TEXT
from store.postgres.driver import Read, connected
from store.postgres.pool import Pool
from store.postgres.reads import Reads
from store.postgres.shared import SharedStatistics
from store.postgres.statement import Statement
from tests.store.store_world import is_waiting_for, silent_server
from tests.waiting import wait_until

ECHO = Statement("select %(n)s, repeat('x', 1000)", {"n": BIGINT})
DIVIDE = Statement("select 10 / %(n)s", {"n": BIGINT})
WAITING = Statement("select %(n)s from gate where pg_advisory_xact_lock(7) is not null", {"n": BIGINT})
TEXT_OF = Statement("select %(text)s || ''", {"text": TEXT})


class Trips:
    """Round trips that take as long as the test says, and the reads in each."""

    def __init__(self, most: int) -> None:
        self.trips: list[int] = []
        self.release = trio.Semaphore(0)
        self.error: Exception | None = None
        self.reads = Reads(self.run, most)
        self.found: list[Any] = []

    async def run(self, take: Callable[[], list[Read]]) -> list[Any]:
        if self.error:
            raise self.error
        taken = take()
        self.trips.append(len(taken))
        await self.release.acquire()
        return [[(int.from_bytes(parameters[0] or b"", "big"), "")] for _, parameters in taken]

    async def fetch(self, n: int) -> None:
        try:
            [(found, _)] = await self.reads.fetch(ECHO, {"n": n})
        except Exception as error:
            self.found.append(type(error))
        else:
            assert found == n
            self.found.append(n)


async def test_reads_that_queue_while_connections_are_busy_share_a_round_trip(nursery: trio.Nursery) -> None:
    trips = Trips(2)
    for n in range(7):
        nursery.start_soon(trips.fetch, n)
    await trio.testing.wait_all_tasks_blocked()
    assert trips.trips == [1, 1]
    trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert trips.trips == [1, 1, 5]
    trips.release.release()
    trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(trips.found) == list(range(7))
    assert trips.reads.statistics() == SharedStatistics(0, 7, 3, 0)


async def test_a_round_trip_is_bounded(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "MAX_PIPELINE", 3)
    trips = Trips(1)
    for n in range(8):
        nursery.start_soon(trips.fetch, n)
    for _ in range(8):
        trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert trips.trips == [1, 3, 3, 1]
    assert sorted(trips.found) == list(range(8))


async def test_a_cancelled_task_does_not_undo_the_reads_of_other_tasks(nursery: trio.Nursery) -> None:
    """The task that reads for others, a task that waits, and a task that was about to read for the others."""
    trips = Trips(1)
    scopes = [trio.CancelScope() for _ in range(5)]

    async def fetch(n: int) -> None:
        with scopes[n]:
            await trips.fetch(n)

    for n in range(5):
        nursery.start_soon(fetch, n)
        await trio.testing.wait_all_tasks_blocked()
    scopes[0].cancel()
    scopes[2].cancel()
    await trio.testing.wait_all_tasks_blocked()
    trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    scopes[1].cancel()
    trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert {3, 4} <= set(trips.found)
    assert trips.trips == [1, 3]
    assert trips.reads.statistics().waiting == 0


async def test_too_many_that_wait_are_refused_at_once(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads_module, "MAX_WAITING", 2)
    trips = Trips(1)
    for n in range(5):
        nursery.start_soon(trips.fetch, n)
        await trio.testing.wait_all_tasks_blocked()
    assert trips.found == [Overloaded] * 2
    for _ in range(5):
        trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(trips.found[2:]) == [0, 1, 2]


async def test_when_none_can_be_read_all_that_wait_are_told(nursery: trio.Nursery) -> None:
    trips = Trips(1)
    nursery.start_soon(trips.fetch, 0)
    await trio.testing.wait_all_tasks_blocked()
    for n in range(1, 4):
        nursery.start_soon(trips.fetch, n)
    await trio.testing.wait_all_tasks_blocked()
    trips.error = Overloaded("the pool", 1)
    trips.release.release()
    await trio.testing.wait_all_tasks_blocked()
    assert trips.found == [0, Overloaded, Overloaded, Overloaded]
    trips.error = None
    trips.release.release()
    await trips.fetch(9)
    assert trips.found[-1] == 9


async def test_each_has_its_own_rows_on_a_real_connection(database_url: str) -> None:
    """Many at once over two connections, in few round trips; a failing read fails alone."""
    pool = Pool(database_url, 3)
    found: dict[int, Any] = {}

    async def read(n: int) -> None:
        statement = DIVIDE if n % 5 == 0 else ECHO
        try:
            found[n] = (await pool.read(statement, {"n": n}))[0][0]
        except DatabaseError as error:
            found[n] = error.sqlstate

    async with trio.open_nursery() as nursery:
        for n in range(60):
            nursery.start_soon(read, n)
    assert found == {n: n if n % 5 else "22012" if n == 0 else 10 // n for n in range(60)}
    assert pool.statistics().connects <= 3
    assert pool.reads.statistics().round_trips <= 10
    assert [await pool.read(ECHO, {"n": n}) for n in range(20)] == [[(n, "x" * 1000)] for n in range(20)]
    pool.close()


async def test_a_text_that_cannot_be_written_fails_alone(pool: Pool) -> None:
    found: list[Any] = []

    async def read(text: str) -> None:
        try:
            found.append(await pool.read(TEXT_OF, {"text": text}))
        except DatabaseError as error:
            found.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        for text in ["good"] * 8 + ["\ud800"] + ["good"] * 8:
            nursery.start_soon(read, text)
    assert found.count("BadValue") == 1
    assert found.count([("good",)]) == 16


async def test_a_lost_connection_fails_those_it_carried_and_the_next_is_served(database_url: str, pool: Pool) -> None:
    own = Pool(f"{database_url}?application_name=victim", 2)
    await pool.fetch("create table gate as select 1")
    # With an idle connection the first read goes alone, and the others wait for it.
    await own.read(ECHO, {"n": 0})
    outcomes: list[Any] = []

    async def read(n: int) -> None:
        try:
            outcomes.append(await own.read(WAITING, {"n": n}))
        except Unavailable:
            outcomes.append(Unavailable)

    async with connected(database_url) as other:
        await other.query("select pg_advisory_lock(7)")
        async with trio.open_nursery() as nursery:
            for n in range(4):
                nursery.start_soon(read, n)
            await wait_until(lambda: is_waiting_for(pool, "Lock", "from gate"), "the reads wait")
            await pool.fetch("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim'")
            await wait_until(lambda: is_waiting_for(pool, "Lock", "from gate"), "the others wait, on a new connection")
            await other.query("select pg_advisory_unlock(7)")
    assert outcomes.count(Unavailable) == 1
    assert len(outcomes) == 4
    assert await own.read(ECHO, {"n": 5}) == [(5, "x" * 1000)]
    own.close()


async def test_a_read_that_takes_too_long_ends_and_so_do_those_behind_it(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.3)
    await pool.fetch("create table gate as select 1")
    own = Pool(database_url, 2)
    async with connected(database_url) as other:
        await other.query("select pg_advisory_lock(7)")
        outcomes: list[type[Exception]] = []

        async def read(n: int) -> None:
            with pytest.raises(Unavailable):
                await own.read(WAITING, {"n": n})
            outcomes.append(Unavailable)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for n in range(4):
                    nursery.start_soon(read, n)
    assert len(outcomes) == 4
    assert await own.read(ECHO, {"n": 5}) == [(5, "x" * 1000)]
    own.close()


async def test_reads_from_a_silent_server_end_by_the_time_a_connect_may_take() -> None:
    async with silent_server() as server:
        pool = Pool(f"postgresql://nobody@127.0.0.1:{server.port}/none", 2)
        with pytest.raises(Unavailable, match="no answer"):
            await pool.read(ECHO, {"n": 1})
        pool.close()
