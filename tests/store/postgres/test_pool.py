"""The pool, while Postgres is stopped, killed, full, or does not keep its promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from embedded.postgres import NOT_DURABLE, PostgresServer
from store.errors import DatabaseError, Overloaded, Unavailable
from store.postgres import driver as postgres_module
from store.postgres import pool as pool_module
from store.postgres.backends import end_backends
from store.postgres.driver import Backend, connected
from store.postgres.pool import Pool, UnknownOutcome
from store.postgres.statement import Statement
from tests.store.store_world import no_longer_than
from tests.waiting import DEADLINE_S, wait_until


@pytest.fixture(scope="module")
def fragile_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One Postgres that each test of this file may break; each leaves it running."""
    postgres = PostgresServer(tmp_path_factory.mktemp("fragile"), settings=NOT_DURABLE)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


@pytest.fixture
def fragile_pool(fragile_postgres: PostgresServer) -> Iterator[Pool]:
    pool = Pool(fragile_postgres.url, 4)
    yield pool
    pool.close()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(postgres_module, "CANCEL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(postgres_module, "CONNECT_TIMEOUT_S", 0.3)


async def fill(pool: Pool, connections: int) -> None:
    """Fill the pool with this number of idle connections."""
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(pool.fetch, "select pg_sleep(0.05)")
    assert pool.statistics().idle == connections


@asynccontextmanager
async def paused(postgres: PostgresServer) -> AsyncGenerator[None, None]:
    await trio.to_thread.run_sync(postgres.pause)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(postgres.resume)


@pytest.mark.usefixtures("_impatient")
async def test_stuck_postgres_is_unavailable_in_time_and_the_pool_works_again_afterwards(
    fragile_postgres: PostgresServer, fragile_pool: Pool
) -> None:
    """SIGSTOP: connections stay open, and no answer comes, neither to the query nor to the request to cancel it."""
    await fill(fragile_pool, 1)
    async with paused(fragile_postgres):
        with no_longer_than(3), pytest.raises(Unavailable, match="no answer within"):
            await fragile_pool.fetch("select 1")
        with no_longer_than(3), pytest.raises(Unavailable, match="no answer within"):
            await fragile_pool.fetch("select 1")  # now it would have to connect
    assert await fragile_pool.fetch("select 1") == [(1,)]
    statistics = fragile_pool.statistics()
    assert (statistics.in_use, statistics.idle, statistics.discarded) == (0, 1, 1)


@pytest.mark.usefixtures("_impatient")
async def test_caller_that_gives_up_on_a_stuck_postgres_is_let_go_within_the_cancel_timeout(
    fragile_postgres: PostgresServer, fragile_pool: Pool
) -> None:
    await fill(fragile_pool, 1)
    async with paused(fragile_postgres):
        with no_longer_than(2), trio.move_on_after(0.05) as scope:
            await fragile_pool.fetch("select 1")
        assert scope.cancelled_caught
    assert fragile_pool.statistics().in_use == 0
    assert fragile_pool.statistics().discarded == 1


async def test_query_that_was_too_slow_is_unavailable_and_its_connection_is_used_again(
    fragile_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.1)
    with pytest.raises(Unavailable, match="no answer within"):
        await fragile_pool.fetch("select pg_sleep(60)")
    assert fragile_pool.statistics().idle == 1
    assert await fragile_pool.fetch("select 1") == [(1,)]
    assert fragile_pool.statistics().connects == 1


async def test_pool_heals_after_kill_9_and_restart(fragile_postgres: PostgresServer, fragile_pool: Pool) -> None:
    """While Postgres is away each query fails at once; each dead connection costs at most one query."""
    await fill(fragile_pool, 3)
    await trio.to_thread.run_sync(fragile_postgres.kill)
    try:
        for _ in range(5):
            with no_longer_than(2), pytest.raises(Unavailable):
                await fragile_pool.fetch("select 1")
    finally:
        await trio.to_thread.run_sync(fragile_postgres.start)
    assert await fragile_pool.fetch("select 1") == [(1,)]
    statistics = fragile_pool.statistics()
    assert (statistics.in_use, statistics.idle, statistics.connects, statistics.discarded) == (0, 1, 4, 3)


async def test_wait_ready_returns_once_postgres_is_back(fragile_postgres: PostgresServer, fragile_pool: Pool) -> None:
    await trio.to_thread.run_sync(fragile_postgres.kill)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fragile_pool.wait_ready)
        await trio.to_thread.run_sync(fragile_postgres.start)
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
    assert not nursery.cancel_scope.cancelled_caught


async def test_all_connections_terminated_at_once_cost_one_failed_query_each(fragile_pool: Pool) -> None:
    await fill(fragile_pool, 4)
    async with connected(fragile_pool.url) as killer:
        await killer.query(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
    failed = 0
    for _ in range(4):
        try:
            await fragile_pool.fetch("select 1")
        except Unavailable:
            failed += 1
    assert failed <= 4
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(fragile_pool.fetch, "select 1")
    assert fragile_pool.statistics().discarded == 4


async def test_query_under_way_when_its_backend_is_terminated_is_unavailable(fragile_pool: Pool) -> None:
    async with trio.open_nursery() as nursery:

        async def interrupted() -> None:
            with pytest.raises(Unavailable, match="terminat"):
                await fragile_pool.fetch("select pg_sleep(60)")

        nursery.start_soon(interrupted)

        async def terminated() -> bool:
            rows = await fragile_pool.fetch(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where query = 'select pg_sleep(60)' and wait_event = 'PgSleep'"
            )
            return bool(rows)

        await wait_until(terminated, "the sleeping backend is terminated")
    assert fragile_pool.statistics().discarded == 1


async def test_no_free_connection_is_overloaded_in_time(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAIT_TIMEOUT_S", 0.1)
    small = Pool(pool.url, 1)
    async with small.connection():
        with no_longer_than(2), pytest.raises(Overloaded, match="Postgres pool"):
            await small.fetch("select 1")
    assert await small.fetch("select 1") == [(1,)]
    small.close()


async def test_one_too_many_waiting_is_overloaded_at_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_WAITING", 3)
    small, answers = Pool(pool.url, 1), []

    async def ask() -> None:
        answers.append(await small.fetch("select 1"))

    async with trio.open_nursery() as nursery, small.connection():
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert small.statistics().waiting == 3
        with no_longer_than(1), pytest.raises(Overloaded):
            await small.fetch("select 1")
    assert answers == [[(1,)]] * 3
    small.close()


async def test_cancelled_waiters_and_users_leave_nothing_behind(pool: Pool) -> None:
    """Waiting, connecting, querying: wherever a task is cancelled, the pool loses no token."""
    small = Pool(pool.url, 2)
    for turn in range(8):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(small.fetch, "select pg_sleep(60)")
            for _ in range(turn):  # cancelled at another point each time
                await trio.testing.wait_all_tasks_blocked(0.0005)
            nursery.cancel_scope.cancel()
    statistics = small.statistics()
    assert (statistics.in_use, statistics.waiting) == (0, 0)
    assert statistics.idle + statistics.discarded == statistics.connects
    async with small.connection() as one, small.connection() as other:
        assert await one.query("select 1") == await other.query("select 1") == [(1,)]
    assert small.statistics().idle == 2
    small.close()


async def test_failed_connecting_gives_the_token_back() -> None:
    nobody = Pool("postgresql://nobody@127.0.0.1:1/none", 1)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await nobody.fetch("select 1")
    assert nobody.statistics().in_use == 0


async def test_failed_query_gives_its_connection_back(pool: Pool) -> None:
    for _ in range(3):
        with pytest.raises(DatabaseError, match="division"):
            await pool.fetch("select 1/0")
    assert pool.statistics().connects == 1


async def test_transaction_left_open_is_not_handed_to_the_next_user(pool: Pool) -> None:
    await pool.fetch("create table half (n int)")
    async with pool.connection() as connection:
        await connection.query("begin")
        await connection.query("insert into half values (1)")
    assert await pool.fetch("select count(*) from half") == [(0,)]
    assert pool.statistics().discarded == 1


@pytest.fixture
async def standby_awaited(fragile_postgres: PostgresServer) -> AsyncGenerator[Pool, None]:
    """A pool whose commits wait for a standby that does not exist."""
    control = Pool(fragile_postgres.url + "?options=-csynchronous_commit%3Dlocal", 1)
    await control.fetch("drop table if exists kept")
    await control.fetch("create table kept (n bigint)")
    await control.fetch("alter system set synchronous_standby_names = 'ghost'")
    await control.fetch("select pg_reload_conf()")
    pool = Pool(fragile_postgres.url + "?options=-csynchronous_commit%3Don", 2)
    try:
        yield pool
    finally:
        await control.fetch("alter system reset synchronous_standby_names")
        await control.fetch("select pg_reload_conf()")
        pool.close()
        control.close()


@pytest.mark.parametrize("way", ["fetch", "run"])
async def test_commit_whose_wait_for_the_standby_was_cancelled_is_no_success(
    fragile_pool: Pool, standby_awaited: Pool, way: str
) -> None:
    """Postgres answers such a commit with its rows and a mere warning: committed here, perhaps lost in a fail-over."""

    sql = "insert into kept values (1) returning n"

    async def cancelled() -> bool:
        rows = await fragile_pool.fetch(
            "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and query like 'insert%%'"
        )
        return bool(rows)

    async with trio.open_nursery() as nursery:

        async def insert() -> None:
            query = standby_awaited.fetch(sql) if way == "fetch" else standby_awaited.run(Statement(sql, {}), {})
            with pytest.raises(Unavailable, match="standby"):
                await query

        nursery.start_soon(insert)
        await wait_until(cancelled, "the commit waits for its standby")
    # Only that commit was unconfirmed: the connection is as good as before.
    assert await standby_awaited.fetch("select n from kept") == [(1,)]
    assert standby_awaited.statistics().connects == 1


async def test_own_deadline_during_the_wait_for_the_standby_is_unavailable(
    standby_awaited: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own request to cancel ends the wait, too: the rows that come then do not mean success."""
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.2)
    with pytest.raises(Unavailable):
        await standby_awaited.fetch("insert into kept values (1) returning n")
    assert await standby_awaited.fetch("select count(*) from kept") == [(1,)]


WRITE, READ = "insert into unconfirmed values (1)", "select 1"


@pytest.fixture
async def outcomes(fragile_pool: Pool) -> list[UnknownOutcome]:
    """The unknown outcomes that `fragile_pool` noted; it has one idle connection and a table."""
    await fragile_pool.fetch("create table if not exists unconfirmed (n int check (n < 5))")
    noted: list[UnknownOutcome] = []
    fragile_pool.on_unknown_outcome = noted.append
    return noted


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("sql", "way", "are_noted"), [(WRITE, "fetch", 1), (WRITE, "run", 1), (READ, "fetch", 0)])
@pytest.mark.parametrize("fault", ["silent", "killed", "cancelled"])
async def test_a_write_whose_outcome_is_not_known_is_noted_and_a_read_is_not(
    fragile_postgres: PostgresServer,
    fragile_pool: Pool,
    outcomes: list[UnknownOutcome],
    sql: str,
    way: str,
    are_noted: int,
    fault: str,
) -> None:
    began = trio.current_time()

    async def ask() -> None:
        if way == "fetch":
            await fragile_pool.fetch(sql)
        else:
            await fragile_pool.run(Statement(sql, {}), {})

    if fault == "silent":
        async with paused(fragile_postgres):
            with pytest.raises(Unavailable):
                await ask()
    elif fault == "killed":
        await trio.to_thread.run_sync(fragile_postgres.kill)
        with pytest.raises(Unavailable):
            await ask()
        await trio.to_thread.run_sync(fragile_postgres.start)
    else:
        async with paused(fragile_postgres):
            with trio.move_on_after(0.05):
                await ask()
    assert len(outcomes) == are_noted
    assert all(each.began >= began and each.backend is not None and each.backend.pid > 0 for each in outcomes)


async def test_the_outcome_of_a_write_that_postgres_refuses_or_that_was_never_sent_is_known(
    fragile_postgres: PostgresServer, fragile_pool: Pool, outcomes: list[UnknownOutcome]
) -> None:
    with pytest.raises(DatabaseError):
        await fragile_pool.fetch("insert into unconfirmed values (6)")
    async with fragile_pool.connection() as connection:
        connection.close_now()
    await trio.to_thread.run_sync(fragile_postgres.kill)
    try:
        with pytest.raises(Unavailable):
            await fragile_pool.fetch(WRITE)
    finally:
        await trio.to_thread.run_sync(fragile_postgres.start)
    assert outcomes == []


async def test_an_idle_connection_has_no_process_that_may_still_be_at_it(
    fragile_pool: Pool, outcomes: list[UnknownOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has answered the request to cancel, one way or the other; it is used again, so its process goes on."""
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.1)
    with pytest.raises(Unavailable, match="no answer within"):
        await fragile_pool.fetch("insert into unconfirmed select 1 from pg_sleep(60)")
    assert [each.backend for each in outcomes] == [None]


async def test_processes_that_may_still_be_at_a_write_are_ended_and_no_others(fragile_pool: Pool) -> None:
    async with fragile_pool.connection() as given_up, fragile_pool.connection() as other:
        namesake = other.backend._replace(began=other.backend.began - 1)
        backends = {given_up.backend, namesake}

        async def ended() -> bool:
            return not await end_backends(fragile_pool.url, backends)

        await wait_until(ended, "its process has ended")
        with pytest.raises(Unavailable):
            await given_up.query(READ)
        assert await other.query(READ) == [(1,)]


async def test_as_long_as_it_cannot_be_said_which_processes_have_ended_that_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await end_backends("postgresql://127.0.0.1:1/none", {Backend(1, 1)})
    assert await end_backends("postgresql://127.0.0.1:1/none", []) == set()


@pytest.mark.parametrize("when", ["under way", "asked later"])
@pytest.mark.parametrize("way", ["fetch", "read", "connect", "wait"])
async def test_no_shielded_task_waits_for_a_stuck_postgres_when_the_process_ends(
    fragile_postgres: PostgresServer, fragile_pool: Pool, way: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that writes, or a read for other tasks: shielded for as long as a query may take."""
    monkeypatch.setattr(postgres_module, "CANCEL_TIMEOUT_S", 0.2)
    read = Statement("select 1::bigint", {})
    await fill(fragile_pool, 0 if way == "connect" else 1)

    async def ask() -> None:
        with trio.CancelScope(shield=True), pytest.raises(Unavailable):
            await (fragile_pool.read(read, {}) if way == "read" else fragile_pool.fetch(READ))

    async with AsyncExitStack() as stack:
        for _ in range(4 if way == "wait" else 0):
            await stack.enter_async_context(fragile_pool.connection())
        await stack.enter_async_context(paused(fragile_postgres))
        with no_longer_than(3):
            async with trio.open_nursery() as nursery:
                if when == "asked later":
                    fragile_pool.end_by(trio.current_time())
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.05)
                fragile_pool.end_by(trio.current_time() + 0.1)
