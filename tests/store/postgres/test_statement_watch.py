"""Statements that wait are named in the log, with the holders of the locks, and without any value."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import psycopg
import pytest
import trio

from store.errors import Locked
from store.messages import send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.postgres.statement_watch import StatementWatch
from tests.people import new_direct, new_user
from tests.store.store_world import a_message
from tests.waiting import DEADLINE_S, wait_until

SECRET = "planted-secret in a statement"


@pytest.fixture
def watched_pool(database_url: str) -> Iterator[Pool]:
    with closing(Pool(database_url, 4, name="alo-socket-1", slow_s=0.1)) as pool:
        yield pool


@asynccontextmanager
async def watching(pool: Pool) -> AsyncGenerator[None, None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(StatementWatch(pool).run)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def locked(pool: Pool, table: str) -> Iterator[int]:
    """Hold a lock of a table; yields the number of the process that holds it."""
    with psycopg.connect(pool.url, application_name="a migration by hand") as holder:
        holder.execute(f"select '{SECRET}'")
        holder.execute(f"lock table {table} in access exclusive mode")
        yield holder.info.backend_pid


def lines(log: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == event]


async def test_a_send_that_waits_for_a_locked_table_is_named_with_the_holder_of_the_lock(
    watched_pool: Pool, log_output: list[dict[str, Any]]
) -> None:
    """The send itself gives up after a fifth of a second, as it does each time that it is tried again."""
    alice, bob = [await new_user(watched_pool, name) for name in ("alice", "bob")]
    conversation = await new_direct(watched_pool, alice, bob)
    async with watching(watched_pool):
        with locked(watched_pool, "messages") as pid, trio.fail_after(DEADLINE_S):
            while not lines(log_output, "lock_wait"):
                message = a_message(conversation, alice.user)
                [outcome] = await send(watched_pool, ParticipantsCache(), [message], lock_wait_s=0)
                assert isinstance(outcome, Locked)
        [outcome] = await send(watched_pool, ParticipantsCache(), [a_message(conversation, alice.user)])
        assert not isinstance(outcome, Locked)
    line = lines(log_output, "lock_wait")[0]
    assert line["statement"] == "messages.send"
    assert line["blocked_by"] == [f"a migration by hand (pid {pid}, idle in transaction)"]
    assert 0.1 <= line["waited_s"] < line["held_s"] + 1
    assert lines(log_output, "lock_timeout")[0]["statement"] == "messages.send"
    assert SECRET not in repr(log_output)


async def test_a_statement_that_waits_for_something_else_is_named_with_it_and_again_at_its_end(
    watched_pool: Pool, log_output: list[dict[str, Any]]
) -> None:
    async with watching(watched_pool), trio.open_nursery() as nursery:
        nursery.start_soon(watched_pool.fetch, "select pg_sleep(2), %s", [SECRET])
        await wait_until(lambda: lines(log_output, "statement_waits"), "the watch has seen it")
        assert not lines(log_output, "slow_statement"), "it still runs"
    [waits, slow] = lines(log_output, "statement_waits")[0], lines(log_output, "slow_statement")[0]
    assert (waits["statement"], waits["waits_for"]) == ("unnamed", "Timeout:PgSleep")
    assert waits["waited_s"] >= 1
    assert (slow["statement"], slow["seconds"] >= 2) == ("unnamed", True)
    assert SECRET not in repr(log_output)


async def test_quick_statements_leave_no_line(watched_pool: Pool, log_output: list[dict[str, Any]]) -> None:
    async with watching(watched_pool):
        for _ in range(100):
            await watched_pool.fetch("select 1")
    assert log_output == []


async def test_a_watch_that_gets_no_answer_says_so(
    watched_pool: Pool, log_output: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all connections of Postgres are in use, for example."""
    await watched_pool.fetch("select 1")
    async with watching(watched_pool), trio.open_nursery() as nursery:
        nursery.start_soon(watched_pool.fetch, "select pg_sleep(1)")
        monkeypatch.setattr(watched_pool, "url", "postgresql://nobody@127.0.0.1:1/none")
        await wait_until(lambda: lines(log_output, "waits_not_seen"), "the watch could not ask")


async def test_postgres_shows_the_name_of_a_pool_unless_the_url_has_one(database_url: str) -> None:
    question = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
    for url, shown in ((database_url, "alo-web-2"), (f"{database_url}?application_name=mine", "mine")):
        with closing(Pool(url, 1, name="alo-web-2")) as pool:
            assert await pool.fetch(question) == [(shown,)]
