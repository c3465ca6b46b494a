"""Postgres is killed, fails over, is far away, full or locked: sends succeed or are retryable, and none are lost.

`talk_through` (test_outages) checks each time that all acknowledged messages are stored once, in order, and pushed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import NoReply, RequestRefused
from embedded.postgres import PostgresServer
from protocol.codes import ErrorCode
from protocol.frames import Sent
from store.errors import ForeignCursor, PoolerRefused
from store.messages import Committed, NewMessage, history, send
from store.participant_lists import ParticipantsCache
from store.postgres import driver as postgres_module
from store.postgres import pool as pool_module
from store.postgres.driver import connect as connect_postgres
from store.postgres.pool import Pool
from store.sync import sync
from tests.conftest import migrated_postgres
from tests.pg_proxy import open_proxy
from tests.processes import open_cluster
from tests.server.node_world import open_node
from tests.server.test_outages import retry, talk_through, two_who_chat
from tests.standby import Standby, await_standby, either
from tests.waiting import let_pass, wait_until

LATE = {ErrorCode.UNAVAILABLE.value, ErrorCode.OVERLOADED.value}


async def in_thread(call: object) -> None:
    assert callable(call)
    await trio.to_thread.run_sync(call)


@pytest.fixture
def durable_postgres(tmp_path: Path, migrated_data: Path) -> Iterator[PostgresServer]:
    """A Postgres that waits for the disk at each commit."""
    with migrated_postgres(migrated_data, tmp_path / "durable", {}) as postgres:
        yield postgres


async def insist(
    sender: ClientConnection, conversation: bytes, content: bytes, temp_id: bytes
) -> tuple[Sent, set[str]]:
    """Send until acknowledged; returns the acknowledgement and the codes of the refusals before it."""
    refusals: set[str] = set()
    while True:
        try:
            return await sender.send(conversation, content, temp_id=temp_id), refusals
        except RequestRefused as error:
            refusals.add(error.code)


async def wait_committed(pool: Pool, messages: int) -> None:
    async def is_committed() -> bool:
        return await pool.fetch("select count(*) from messages") == [(messages,)]

    await wait_until(is_committed, f"{messages} messages are committed")


async def test_kill_9_and_recovery(durable_postgres: PostgresServer, redis_url: str) -> None:
    async with open_node(durable_postgres.url, redis_url) as node:

        async def kill() -> None:
            await in_thread(durable_postgres.kill)

        refused, _ = await talk_through(node, durable_postgres.url, kill, lambda: in_thread(durable_postgres.start))
        assert set(refused) <= LATE


async def test_fail_over_to_a_synchronous_standby(primary: PostgresServer, standby: Standby, redis_url: str) -> None:
    """All acknowledged messages are stored, and sends go on by themselves within 10 s of the promotion (P1)."""
    await in_thread(lambda: await_standby(primary))
    url = either(primary.port, standby.port)
    async with open_node(url, redis_url) as node:
        kill, promote = (lambda: in_thread(primary.kill)), (lambda: in_thread(standby.promote))
        refused, _ = await talk_through(node, url, kill, promote, is_same_history=False)
        assert set(refused) <= LATE


async def test_the_standby_as_first_host_is_passed_over(
    primary: PostgresServer, standby: Standby, redis_url: str
) -> None:
    pool = Pool(either(standby.port, primary.port), 2)
    alice, _, conversation = await two_who_chat(pool)
    async with open_node(pool.url, redis_url) as node, connect(node.url, alice.token) as sender:
        assert (await sender.send(conversation, b"x", temp_id=uuid4().bytes)).seq == 1
    pool.close()


async def commit(pool: Pool, conversation: bytes, sender: bytes, content: bytes) -> Committed:
    message = NewMessage(conversation, sender, uuid4().bytes, "text", content, None, None)
    [outcome] = await send(pool, ParticipantsCache(), [message])
    assert isinstance(outcome, Committed), outcome
    return outcome


async def test_fail_over_to_an_asynchronous_standby_loses_what_it_had_not_received(
    primary: PostgresServer, standby: Standby
) -> None:
    """As docs/guarantees.md says: exactly those messages are lost, and a device that has seen them must start over."""
    url = either(primary.port, standby.port)
    pool = Pool(url, 2)
    alice, bob, conversation = await two_who_chat(pool)
    kept = [await commit(pool, conversation, alice.user, b"kept %d" % n) for n in range(3)]
    before = (await sync(pool, bob.user, None)).cursor
    await in_thread(standby.wait_replayed)
    await in_thread(standby.cut_off)
    for n in range(5):
        await commit(pool, conversation, alice.user, b"lost %d" % n)
    after = (await sync(pool, bob.user, before)).cursor
    await in_thread(primary.kill)
    await in_thread(standby.promote)
    pool.close()
    pool = Pool(url, 2)
    page = await history(pool, bob.user, conversation, limit=99, after=0)
    assert [message.message for message in page.messages] == [each.message for each in kept]
    with pytest.raises(ForeignCursor):
        await sync(pool, bob.user, after)
    for n in range(12):
        assert (await commit(pool, conversation, alice.user, b"new")).seq == 4 + n
    with pytest.raises(ForeignCursor):
        await sync(pool, bob.user, after)  # New transactions have overtaken it; the timeline still differs.
    fresh = await sync(pool, bob.user, None)
    assert not (await sync(pool, bob.user, fresh.cursor)).pushes
    pool.close()


async def test_without_its_synchronous_standby_nothing_is_acknowledged_and_the_retry_finds_the_one_message(
    primary: PostgresServer, standby: Standby, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries find the message committed, but are refused until the standby has it: then a fail-over keeps it."""
    pool = Pool(either(primary.port, standby.port), 2)
    alice, _, conversation = await two_who_chat(pool)
    await in_thread(lambda: await_standby(primary))
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.5)
    async with open_node(primary.url, redis_url) as node, connect(node.url, alice.token) as sender:
        await in_thread(standby.kill)
        temp_id = uuid4().bytes
        for _ in range(3):
            with pytest.raises(RequestRefused) as refused:
                await sender.send(conversation, b"x", temp_id=temp_id)
            assert refused.value.code == ErrorCode.UNAVAILABLE.value
            assert await pool.fetch("select count(*), max(seq) from messages") == [(1, 1)]
        await in_thread(standby.start)
        with trio.fail_after(15):
            sent, refusals = await insist(sender, conversation, b"x", temp_id)
        assert sent.seq == 1
        assert refusals <= LATE
        pool.close()  # Its open connections would not outlive the primary.
        await in_thread(primary.kill)
    await in_thread(standby.promote)
    assert await pool.fetch("select id, seq from messages") == [(sent.message, 1)]
    pool.close()


async def test_a_primary_that_takes_no_writes_any_more_is_left(own_postgres: PostgresServer, redis_url: str) -> None:
    """As with a fail-over manager: the open connections fail as retryable, new ones find the new primary."""
    pool = Pool(own_postgres.url, 2)
    alice, _, conversation = await two_who_chat(pool)
    async with (
        open_node(f"{own_postgres.url}?target_session_attrs=read-write", redis_url) as node,
        connect(node.url, alice.token) as sender,
    ):
        await sender.send(conversation, b"x", temp_id=uuid4().bytes)
        await pool.fetch("alter system set default_transaction_read_only = on")
        await pool.fetch("select pg_reload_conf()")
        refused: list[str] = []

        async def send_on() -> None:
            while len(refused) < 3:  # A backend reads its settings again some time after the signal.
                await retry(sender, conversation, b"y", refused)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_on)
            await wait_until(lambda: len(refused) >= 3, "refusals", timeout_s=10)
            with psycopg.connect(f"{own_postgres.url}?options=-cdefault_transaction_read_only%3Doff") as admin:
                admin.autocommit = True
                admin.execute("alter system reset default_transaction_read_only")
                admin.execute("select pg_reload_conf()")
        assert set(refused) <= LATE
    pool.close()


async def test_all_connections_terminated_again_and_again(pool: Pool, redis_url: str) -> None:
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name <> 'killer'"
    )
    async with open_node(pool.url, redis_url) as node, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def kill_all() -> None:
            with scope, psycopg.connect(pool.url, autocommit=True, application_name="killer") as killer:
                while True:
                    killer.execute(kill)
                    await let_pass(0.05, why="sessions are killed at intervals")

        async def start_killing() -> None:
            nursery.start_soon(kill_all)

        async def stop_killing() -> None:
            scope.cancel()

        refused, _ = await talk_through(node, pool.url, start_killing, stop_killing)
        assert set(refused) <= LATE


async def test_a_full_pool_refuses_in_time_and_heals(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all connections are taken, each request is still answered: too many at once, or too late."""
    monkeypatch.setattr(pool_module, "WAIT_TIMEOUT_S", 0.2)
    async with open_node(pool.url, redis_url, database_pool=2) as node, trio.open_nursery() as nursery:
        gateway_pool, is_over = node.gateway.pool, trio.Event()

        async def hold() -> None:
            async with gateway_pool.connection():
                await is_over.wait()

        async def hold_all() -> None:
            for _ in range(2):
                nursery.start_soon(hold)

        async def let_go() -> None:
            is_over.set()

        refused, _ = await talk_through(node, pool.url, hold_all, let_go)
        assert set(refused) == {ErrorCode.OVERLOADED.value}


async def test_reads_are_refused_in_time_while_the_pool_is_full(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads have a queue of their own, apart from sends."""
    monkeypatch.setattr(pool_module, "WAIT_TIMEOUT_S", 0.2)
    alice, _, conversation = await two_who_chat(pool)
    async with open_node(pool.url, redis_url, database_pool=2) as node, connect(node.url, alice.token) as reader:
        gateway_pool = node.gateway.pool
        async with gateway_pool.connection(), gateway_pool.connection():
            for read in (reader.list_conversations, lambda: reader.history(conversation), lambda: reader.sync(None)):
                with trio.fail_after(2), pytest.raises(RequestRefused) as refused:
                    await read()
                assert refused.value.code == ErrorCode.OVERLOADED.value
                assert refused.value.retry_after_ms is not None
        assert node.gateway.counts.refused == {ErrorCode.OVERLOADED.value: 3}
        assert [each.conversation for each in (await reader.list_conversations()).conversations] == [conversation]


async def test_a_slow_network_slows_down_and_loses_nothing(own_postgres: PostgresServer, redis_url: str) -> None:
    """50 ms each way; sends that wait for each other share commits, so there are many in one."""
    async with open_proxy(own_postgres.port) as proxy:
        proxy.delay_s = 0.05
        pool = Pool(own_postgres.url, 2)
        alice, _, conversation = await two_who_chat(pool)
        async with open_node(proxy.url(own_postgres.url), redis_url) as node, connect(node.url, alice.token) as sender:
            acks: list[int] = []

            async def say(n: int) -> None:
                sent = await sender.send(conversation, b"%d" % n, temp_id=uuid4().bytes, timeout_s=10)
                acks.append(sent.seq)

            async with trio.open_nursery() as nursery:
                for n in range(200):
                    nursery.start_soon(say, n)
            assert sorted(acks) == list(range(1, 201))
            assert node.gateway.statistics().sends.fast.batches <= 20
        pool.close()


async def test_a_network_that_falls_silent_is_given_up_in_time(
    own_postgres: PostgresServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgres_module, "CANCEL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(postgres_module, "CONNECT_TIMEOUT_S", 0.5)
    async with open_proxy(own_postgres.port) as proxy:
        url = proxy.url(own_postgres.url)

        async def fall_silent() -> None:
            proxy.is_deaf = True

        async def speak_again() -> None:
            proxy.is_deaf = False

        async with open_node(url, redis_url) as node:
            refused, _ = await talk_through(node, own_postgres.url, fall_silent, speak_again)
            assert set(refused) <= LATE


async def test_a_commit_whose_answer_was_lost_is_found_by_its_temp_id(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    """The connection breaks after Postgres has committed: the outcome is unknown until the retry finds the message."""
    pool = Pool(own_postgres.url, 2)
    alice, _, conversation = await two_who_chat(pool)
    async with open_proxy(own_postgres.port) as proxy:
        url = proxy.url(own_postgres.url)
        async with open_node(url, redis_url) as node, connect(node.url, alice.token) as sender:
            await sender.send(conversation, b"0", temp_id=uuid4().bytes)
            for turn in range(1, 4):
                temp_id, refused = uuid4().bytes, []

                async def try_it(temp_id: bytes = temp_id, refused: list[str] = refused, turn: int = turn) -> None:
                    try:
                        await sender.send(conversation, b"%d" % turn, temp_id=temp_id)
                    except (RequestRefused, NoReply) as error:
                        refused.append(str(getattr(error, "code", "")))

                # Not before: the connection may have to prepare the statement first, or to discard its plans.
                proxy.deaf_after = temp_id
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(try_it)
                    await wait_committed(pool, turn + 1)
                    await proxy.cut()
                    proxy.is_deaf, proxy.deaf_after = False, b""
                assert refused == [ErrorCode.UNAVAILABLE.value]
                with trio.fail_after(10):
                    again, refusals = await insist(sender, conversation, b"%d" % turn, temp_id)
                assert again.seq == turn + 1
                assert refusals <= LATE
            assert await pool.fetch("select count(*), max(seq) from messages") == [(4, 4)]
    pool.close()


def as_pooler(piece: bytes) -> bytes:
    """BackendKeyData ('K', length 12, process id, secret) with an invented process id."""
    at = piece.find(b"K\x00\x00\x00\x0c")
    return piece if at < 0 else piece[: at + 5] + b"\x7f\xff\xff\x00" + piece[at + 9 :]


async def test_a_connection_pooler_in_front_is_refused_by_name(own_postgres: PostgresServer, redis_url: str) -> None:
    """Every process refuses it with a sentence, not a traceback: a pooler would break the server's guarantees."""
    async with open_proxy(own_postgres.port) as proxy:
        proxy.change = as_pooler
        url = proxy.url(own_postgres.url)
        with pytest.raises(PoolerRefused, match=f"PgBouncer, answers at 127.0.0.1:{proxy.port}"):
            await connect_postgres(url)
        with pytest.raises(PoolerRefused):
            await Pool(url, 2).wait_ready()
        async with open_cluster(url, redis_url) as cluster:
            socket, _ = await cluster.start_socket(wait=False)
            with trio.fail_after(20):
                assert await socket.wait() == 1
            sentence = "a connection pooler, such as PgBouncer"
            await wait_until(lambda: any(sentence in line for line in socket.raw), "the sentence")
            assert not any("Traceback" in line for line in socket.raw)
