"""One Postgres connection under Trio: cancellation, columns, and errors that say enough and not too much."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
import trio

from store.errors import BadValue, DatabaseError, Locked, Retryable, StoreError, Unavailable
from store.postgres import driver
from store.postgres.columns import BIGINT, TEXT, UUID, UUIDS
from store.postgres.driver import bigints, byteas, connect, connected, texts, uuid, uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from tests.store.store_world import is_waiting_for, no_longer_than, silent_server
from tests.waiting import DEADLINE_S, wait_until

ECHO = Statement("select %(n)s, %(text)s, null::uuid", {"n": BIGINT, "text": TEXT})


async def cancel_when(condition: Callable[[], Awaitable[Any]], work: Callable[[], Awaitable[Any]]) -> None:
    """Cancel `work` as soon as the condition holds; fails if it was over by then."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await wait_until(condition, "the work is under way")
                scope.cancel()

            nursery.start_soon(cancel)
            await work()
            nursery.cancel_scope.cancel()
    assert scope.cancelled_caught


@pytest.fixture
def cancel_at_wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], trio.CancelScope]:
    """A scope that is cancelled just as the driver begins its wait of this number."""
    real = driver.wait_socket
    scope, left = trio.CancelScope(), 0

    async def count_and_wait(wanted: Any, fileno: int) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            scope.cancel()
        return await real(wanted, fileno)

    def arm(number: int) -> trio.CancelScope:
        nonlocal scope, left
        scope, left = trio.CancelScope(), number
        return scope

    monkeypatch.setattr(driver, "wait_socket", count_and_wait)
    return arm


async def test_cancelled_query_is_stopped_in_postgres_and_the_connection_stays_usable(pool: Pool) -> None:
    async with connected(pool.url) as connection:
        await cancel_when(
            lambda: is_waiting_for(pool, "Timeout", "pg_sleep(60)"), lambda: connection.query("select pg_sleep(60)")
        )
        assert connection.is_idle
        assert await connection.query("select 1") == [(1,)]
        assert not await is_waiting_for(pool, "Timeout", "pg_sleep(60)")


async def test_query_cancelled_while_it_is_parsed_leaves_the_connection_usable(pool: Pool) -> None:
    """The Parse waits for a table's lock; the driver's generator still has to send the Execute."""
    await pool.fetch("create table locked (n int)")
    async with connected(pool.url) as locker, connected(pool.url) as connection:
        await locker.query("begin")
        await locker.query("lock table locked in access exclusive mode")
        await cancel_when(
            lambda: is_waiting_for(pool, "Lock", "from locked"), lambda: connection.query("select n from locked")
        )
        assert connection.is_idle
        await locker.query("rollback")
        assert await connection.query("select n from locked") == []


async def test_cancelled_at_each_wait_of_a_query_the_connection_is_usable_or_closed(
    pool: Pool, cancel_at_wait: Callable[[int], trio.CancelScope]
) -> None:
    """Parse, Execute, and each part of a result of 20 MB; the next query gets its own answer, not this one's."""
    big = "select repeat('x', 1000), n from generate_series(1, 20000) n"
    number, caught = 0, True
    while caught:
        number += 1
        async with connected(pool.url) as connection:
            with cancel_at_wait(number if number < 8 else 8 + (number - 8) * 40) as scope:
                await connection.query(big)
            caught = scope.cancelled_caught
            assert connection.is_idle or connection.closed
            if connection.is_idle:
                assert await connection.query("select %s::int", (number,)) == [(number,)]
    assert number > 5


async def test_cancelled_while_big_parameters_are_sent_the_connection_is_usable_or_closed(
    pool: Pool, cancel_at_wait: Callable[[int], trio.CancelScope]
) -> None:
    """Until all is sent the driver waits for reading and writing at once, in two tasks that are both cancelled."""
    sql = "select length(%s::bytea)"
    for number in range(1, 6):
        async with connected(pool.url) as connection:
            await connection.query(sql, (b"",))  # prepares it, so that the first wait is for the parameters
            # By default the kernel's buffer grows until a loaded machine takes everything in a few waits.
            with socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            with cancel_at_wait(number) as scope:
                await connection.query(sql, (bytes(30_000_000),))
            assert scope.cancelled_caught
            assert connection.is_idle or connection.closed
            if connection.is_idle:
                assert await connection.query(sql, (b"123",)) == [(3,)]


async def test_statement_cancelled_at_each_wait_works_again_on_the_same_connection(
    pool: Pool, cancel_at_wait: Callable[[int], trio.CancelScope]
) -> None:
    """If preparing is cancelled, Postgres may have prepared the statement all the same: the next attempt must work."""
    number, caught = 0, True
    while caught:
        number += 1
        async with connected(pool.url) as connection:
            with cancel_at_wait(number) as scope:
                await connection.run(ECHO, {"n": 0, "text": "x"})
            caught = scope.cancelled_caught
            assert connection.is_idle or connection.closed
            if connection.is_idle:
                for n in range(3):
                    assert await connection.run(ECHO, {"n": n, "text": "é"}) == [(n, "é", None)]
    assert number > 2


async def test_statement_cancelled_while_it_waits_for_a_lock_leaves_the_connection_usable(pool: Pool) -> None:
    await pool.fetch("create table locked (n bigint)")
    statement = Statement("select n from locked", {})
    async with connected(pool.url) as locker, connected(pool.url) as connection:
        for turn in range(2):  # unprepared, then prepared
            await locker.query("begin")
            await locker.query("lock table locked in access exclusive mode")
            await cancel_when(
                lambda: is_waiting_for(pool, "Lock", "from locked"), lambda: connection.run(statement, {})
            )
            assert connection.is_idle
            await locker.query("rollback")
            assert await connection.run(statement, {}) == [], turn


async def test_replacing_plans_has_no_visible_effect(pool: Pool) -> None:
    """At doublings of a connection's queries; in a transaction, and in one that has failed, too."""
    async with connected(pool.url) as connection:
        for n in range(70):
            assert await connection.run(ECHO, {"n": n, "text": None}) == [(n, None, None)]
            assert await connection.query("select %s::int", (n,)) == [(n,)]
    async with connected(pool.url) as connection:
        await connection.query("begin")
        with pytest.raises(DatabaseError, match="division"):
            await connection.query("select 1/0")
        for _ in range(10):
            with pytest.raises(DatabaseError, match="transaction is aborted"):
                await connection.query("select 1")
        await connection.query("rollback")
        assert await connection.query("select 1") == [(1,)]


async def test_connect_cancelled_while_the_server_stays_silent_closes_its_socket() -> None:
    async with silent_server() as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, f"postgresql://user:secret@127.0.0.1:{server.port}/db")
            await server.accepted.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(DEADLINE_S):
            await server.left.wait()


async def test_connect_to_a_silent_server_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CONNECT_TIMEOUT_S", 0.2)
    async with silent_server() as server:
        with no_longer_than(2), pytest.raises(Unavailable, match="no answer within") as caught:
            await connect(f"postgresql://user:secret@127.0.0.1:{server.port}/db")
        assert "secret" not in str(caught.value)
        with trio.fail_after(DEADLINE_S):
            await server.left.wait()


async def test_silent_first_host_is_passed_over(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CONNECT_TIMEOUT_S", 0.5)
    address, database = pool.url.removeprefix("postgresql://postgres@").split("/")
    async with silent_server() as server:
        url = f"postgresql://postgres@127.0.0.1:{server.port},127.0.0.1:1,{address}/{database}"
        with no_longer_than(3):
            async with connected(url) as connection:
                assert connection.where == address
                assert await connection.query("select current_database()") == [(database,)]
    assert server.accepted.is_set()


@pytest.mark.parametrize(
    "hosts",
    ["127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2", "no-such-host.invalid:5432"],
)
async def test_error_of_connecting_names_each_host_and_no_password(hosts: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await connect(f"postgresql://user:secret@{hosts}/db")
    for host in hosts.split(","):
        assert host in str(caught.value)
    assert "secret" not in repr(caught.value)


async def test_refused_login_is_unavailable_without_the_password(pool: Pool) -> None:
    url = pool.url.replace("postgres@", "nobody:secret@")
    with pytest.raises(Unavailable, match='"nobody"') as caught:
        await connect(url)
    assert "secret" not in str(caught.value)


async def test_hosts_that_are_not_as_asked_for_are_passed_over(pool: Pool) -> None:
    """`target_session_attrs` is asked of each host: a primary is not a standby."""
    with pytest.raises(Unavailable, match="standby"):
        await connect(f"{pool.url}?target_session_attrs=standby")


async def test_server_that_takes_no_writes_is_passed_over(pool: Pool) -> None:
    """By default: every process writes, and after a fail-over the first host may be a standby."""
    address, database = pool.url.removeprefix("postgresql://postgres@").split("/")
    async with connected(pool.url) as connection:
        await connection.query(f"alter database {database} set default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="read-only"):
        await connect(pool.url)
    async with connected(f"postgresql://postgres@{address},{address}/{database}?target_session_attrs=any") as any_:
        assert await any_.query("show transaction_read_only") == [("on",)]


@pytest.mark.parametrize("way", ["query", "run"])
async def test_write_on_a_server_that_takes_none_any_more_is_unavailable_and_closes(pool: Pool, way: str) -> None:
    """Retryable, on a new connection; any other error of a statement leaves the connection open."""
    await pool.fetch("create table kept (n bigint)")
    insert = Statement("insert into kept values (%(n)s) returning n", {"n": BIGINT})
    async with connected(pool.url) as connection:
        await connection.query("set default_transaction_read_only = on")
        write = connection.query("insert into kept values (1)") if way == "query" else connection.run(insert, {"n": 1})
        with pytest.raises(Unavailable, match="no writes"):
            await write
        assert connection.closed
    assert await pool.fetch("select n from kept") == []


async def test_ids_come_back_as_the_16_bytes_that_went_in(pool: Pool) -> None:
    one = os.urandom(16)
    [(single, many)] = await pool.fetch("select %s, %s", (uuid(one), uuids([one, None])))
    assert (single, many) == (one, [one, None])
    assert type(single) is bytes
    assert await pool.fetch("select %s::text", (uuid(bytes(16)),)) == [("00000000-0000-0000-0000-000000000000",)]


@pytest.mark.parametrize(
    ("column", "type_name"),
    [
        (uuids([os.urandom(16), bytes(16), b"\xff" * 16]), "uuid"),
        (byteas([b"", b"\0", b"\xff" * 3_000_000, b"NULL", b"{}"]), "bytea"),
        (texts(["", "NULL", "{\"a\\'}", "é\U0001f600", "x" * 1_000_000]), "text"),
        (bigints([0, -1, 2**63 - 1, -(2**63)]), "bigint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_columns_arrive_in_postgres_as_they_are(pool: Pool, column: Any, type_name: str) -> None:
    """Each with its values, with NULLs among them, with only NULLs, and empty."""
    kind = type(column)
    for values in (list(column.values), [None, *column.values, None], [None], [None] * 3, []):
        [(named, count, nulls, back)] = await pool.fetch(
            "select pg_typeof(%(c)s)::text, coalesce(cardinality(%(c)s), -1),"
            " (select count(*) from unnest(%(c)s) v where v is null), %(c)s",
            {"c": kind(values)},
        )
        assert (named, count, nulls) == (f"{type_name}[]", len(values), values.count(None))
        assert back == values


async def test_ids_of_other_lengths_are_refused_even_if_they_make_up_for_each_other(pool: Pool) -> None:
    """Postgres reads an array by the length of each element."""
    whole = Statement("select %(ids)s", {"ids": UUIDS})
    assert await pool.run(whole, {"ids": [b"1" * 16, b"2" * 16]}) == [([b"1" * 16, b"2" * 16],)]
    with pytest.raises(DatabaseError):
        await pool.run(whole, {"ids": [b"1" * 20, b"2" * 12]})


async def test_columns_of_a_statement_come_as_python_knows_them(pool: Pool) -> None:
    """Ids are 16 bytes, alone and in arrays; also after a result that had no row."""
    statement = Statement(
        "select %(id)s, array[%(id)s, null], 'é', array['a', null], '\\x00ff'::bytea, 2^40::bigint, 3::int,"
        " array[1, null]::bigint[], true, null::uuid from generate_series(1, %(n)s)",
        {"id": UUID, "n": BIGINT},
    )
    async with connected(pool.url) as connection:
        for n in (0, 2, 1):
            rows = await connection.run(statement, {"id": b"i" * 16, "n": n})
            row = (b"i" * 16, [b"i" * 16, None], "é", ["a", None], b"\x00\xff", 2**40, 3, [1, None], True, None)
            assert rows == [row] * n


async def test_a_column_of_a_thousand_values_keeps_their_order(pool: Pool) -> None:
    numbers = list(range(1000))
    rows = await pool.fetch(
        "select b, t from unnest(%s, %s) with ordinality as c(b, t, n) order by n",
        (bigints(numbers), texts([str(number) for number in numbers])),
    )
    assert rows == [(number, str(number)) for number in numbers]


async def test_text_that_postgres_cannot_hold_is_its_error_and_harms_nothing(pool: Pool) -> None:
    """Postgres refuses NUL, and the encoder refuses a lone surrogate; callers see a `BadValue` both times."""
    for bad in ("a\0b", "\ud800"):
        with pytest.raises(BadValue):
            await pool.fetch("select %s", (texts(["good", bad]),))
        with pytest.raises(BadValue):
            await pool.run(ECHO, {"n": 1, "text": bad})
    assert await pool.fetch("select 1") == [(1,)]
    assert pool.statistics().discarded == 0


async def test_commit_that_fails_only_at_the_commit_raises_although_rows_were_returned(pool: Pool) -> None:
    """A deferred trigger runs after the RETURNING row has been sent (P1)."""
    async with connected(pool.url) as connection:
        await connection.script("""
            create table deferred (n bigint);
            create function refuse() returns trigger language plpgsql as $$ begin raise 'refused at commit'; end $$;
            create constraint trigger t after insert on deferred deferrable initially deferred
                for each row execute function refuse();
        """)
        statement = Statement("insert into deferred values (%(n)s) returning n", {"n": BIGINT})
        for _ in range(2):
            with pytest.raises(DatabaseError, match="refused at commit"):
                await connection.query("insert into deferred values (1) returning n")
            with pytest.raises(DatabaseError, match="refused at commit"):
                await connection.run(statement, {"n": 1})
        assert connection.is_idle
        assert await connection.query("select count(*) from deferred") == [(0,)]


async def test_script_is_one_transaction(pool: Pool) -> None:
    async with connected(pool.url) as connection:
        with pytest.raises(DatabaseError, match="division"):
            await connection.script("create table halfway (n int); select 1/0; create table never (n int)")
        assert connection.is_idle
        assert await connection.query("select to_regclass('halfway')") == [(None,)]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("way", ["query", "run", "script"])
async def test_lost_connection_is_unavailable_and_closed(pool: Pool, way: str, prepared: bool) -> None:
    async with connected(pool.url) as connection:

        async def ask() -> Any:
            if way == "query":
                return await connection.query("select 1")
            if way == "script":
                return await connection.script("select 1; select 2")
            return await connection.run(ECHO, {"n": 1, "text": "x"})

        if prepared:
            await ask()
        [(pid,)] = await connection.query("select pg_backend_pid()")
        await pool.fetch("select pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(Unavailable):
            await ask()
        assert connection.closed
        assert not connection.is_idle
        with pytest.raises(Unavailable):
            await ask()


@pytest.mark.parametrize("limit", ["transaction_timeout", "idle_in_transaction_session_timeout", "statement_timeout"])
async def test_time_that_postgres_sets_is_over_as_if_it_could_not_be_reached(pool: Pool, limit: str) -> None:
    """The error's name blames the statement, but another attempt may succeed: it is `Unavailable`."""

    async def ask_until_refused(connection: driver.PostgresConnection) -> None:
        await connection.query("begin")
        while True:
            await connection.query("select pg_sleep(0.2)")
            with trio.move_on_after(DEADLINE_S):
                await trio.lowlevel.wait_readable(connection.pgconn.socket)

    async with connected(pool.url) as connection:
        await connection.query(f"set {limit} = '50ms'")
        with pytest.raises(Unavailable):
            await ask_until_refused(connection)


async def test_statement_that_waits_in_a_circle_is_locked_and_may_be_tried_again(pool: Pool) -> None:
    async with (
        connected(f"{pool.url}?options=-cdeadlock_timeout%3D60s") as patient,
        connected(f"{pool.url}?options=-cdeadlock_timeout%3D20ms") as connection,
        trio.open_nursery() as nursery,
    ):
        await patient.query("set lock_timeout = 0")
        for each, number in ((patient, 1), (connection, 2)):
            await each.query("begin")
            await each.query(f"select pg_advisory_xact_lock({number})")
        nursery.start_soon(patient.query, "select pg_advisory_xact_lock(2)")
        await wait_until(lambda: is_waiting_for(pool, "Lock", "pg_advisory_xact_lock(2)"), "it waits for the lock")
        with pytest.raises(Locked, match="deadlock"):
            await connection.query("select pg_advisory_xact_lock(1)")
        await connection.query("rollback")
        assert connection.is_idle


async def test_error_of_a_statement_leaves_the_connection_usable(pool: Pool) -> None:
    statement = Statement("select %(n)s / 0::bigint", {"n": BIGINT})
    unknown = Statement("select no_such_column", {})
    async with connected(pool.url) as connection:
        for _ in range(2):
            with pytest.raises(DatabaseError, match="division"):
                await connection.run(statement, {"n": 1})
            with pytest.raises(DatabaseError, match="no_such_column"):
                await connection.run(unknown, {})
        assert connection.is_idle
        assert await connection.run(ECHO, {"n": None, "text": ""}) == [(None, "", None)]


async def test_database_that_is_not_there_is_unavailable(pool: Pool) -> None:
    with pytest.raises(Unavailable, match="no_such_database"):
        await connect(f"{pool.url.rpartition('/')[0]}/no_such_database")


REFUSED: dict[str, tuple[type[StoreError], str, str]] = {
    "select no_such_column": (DatabaseError, "42703", ""),
    "select 1 / 0::bigint": (BadValue, "22012", ""),
    "insert into taken values (1)": (Retryable, "23505", "taken_key"),
    "insert into taken values (-1)": (BadValue, "23514", "taken_positive"),
    "insert into taken values (null)": (DatabaseError, "23502", ""),
    "do $$ begin raise serialization_failure; end $$": (Retryable, "40001", ""),
}
"""A statement that Postgres refuses -> the error, its SQLSTATE, and the constraint."""


@pytest.mark.parametrize("text", REFUSED)
async def test_every_way_to_run_a_statement_raises_errors_of_the_store_alone(pool: Pool, text: str) -> None:
    """They say whether a retry may help, and the driver's own error is their cause."""
    await pool.fetch("create table taken as select 1 as n")
    await pool.fetch("alter table taken add constraint taken_key unique (n)")
    await pool.fetch("alter table taken add constraint taken_positive check (n > 0), alter n set not null")
    statement = Statement(text, {})
    kind, *rest = REFUSED[text]
    async with connected(pool.url) as connection:
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "fetch": lambda: pool.fetch(text),
            "run": lambda: pool.run(statement, {}),
            "read": lambda: pool.read(statement, {}),
            "script": lambda: connection.script(text),
        }
        for name, run in ways.items():
            with pytest.raises(StoreError) as caught:
                await run()
            assert isinstance(caught.value.__cause__, psycopg.Error), name
            if name == "fetch" and "serialization" in text:
                assert type(caught.value) is Locked, "the error tells the caller's caller that a retry is allowed"
                continue
            assert isinstance(caught.value, DatabaseError)
            assert (type(caught.value), caught.value.sqlstate, caught.value.constraint) == (kind, *rest), name
        if "no_such_column" in text:
            return  # It cannot be prepared, which ends the round trip for all of its reads.
        echo = (ECHO, driver.encode(ECHO, {"n": 1, "text": ""}))
        [outcome, other] = await connection.run_all([(statement, []), echo])
        assert type(outcome) is kind
        assert isinstance(outcome.__cause__, psycopg.Error)
        assert other == [(1, "", None)]


@pytest.mark.parametrize("url", ["postgresql://user:secret@[host/name", "password=secret port"])
async def test_an_url_that_cannot_be_read_is_no_error_of_the_driver_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must be a postgresql:// URL") as caught:
        await connect(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
