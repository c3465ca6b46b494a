"""Postgres or Redis is gone, at the start or later: the log says which and where; processes recover by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import RequestRefused
from client.http import Credentials
from embedded.postgres import PostgresServer
from embedded.redis import RedisServer
from protocol.codes import ErrorCode
from protocol.frames import Hello, Message, Sent
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.processes import Cluster, Process, open_cluster
from tests.server.node_world import TestNode, open_node
from tests.waiting import let_pass, wait_until

RECOVERY_S = 10.0
"""Time from a service's return to the next served request: the longest back-off is 3 s."""

Service = PostgresServer | RedisServer


async def stop(service: Service) -> None:
    await trio.to_thread.run_sync(service.stop)


async def start(service: Service) -> None:
    await trio.to_thread.run_sync(service.start)


async def two_who_chat(pool: Pool) -> tuple[Credentials, Credentials, bytes]:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    return alice, bob, await new_direct(pool, alice, bob)


async def start_all(cluster: Cluster) -> dict[str, Process]:
    """Start the three processes without waiting; only `web` answers before its services do."""
    socket, url = await cluster.start_socket(wait=False)
    processes = {"web": await cluster.start_web(), "socket": socket, "worker": await cluster.start("jobs")}
    cluster.environment["SOCKET_URL"] = url
    return processes


@pytest.mark.parametrize("missing", ["Postgres", "Redis"])
async def test_processes_that_start_without_a_service_say_so_and_wait(
    own_postgres: PostgresServer, own_redis: RedisServer, missing: str
) -> None:
    pool = Pool(own_postgres.url, 2)
    alice, _, conversation = await two_who_chat(pool)
    pool.close()
    service: Service = own_postgres if missing == "Postgres" else own_redis
    await stop(service)
    async with open_cluster(own_postgres.url, own_redis.url) as cluster, httpx.AsyncClient() as http:
        processes = await start_all(cluster)
        for name, process in processes.items():
            line = await process.wait_event(f"waiting_for_{missing.lower()}")
            assert f"127.0.0.1:{service.port}" in str(line), name
            assert missing in str(line), name
            assert line["level"] == "warning"
        assert (await http.get(f"{cluster.http_url}/healthz")).status_code == 200
        ready = await http.get(f"{cluster.http_url}/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
        await start(service)
        await processes["socket"].wait_event("listening", timeout_s=RECOVERY_S)
        async with connect(cluster.environment["SOCKET_URL"], alice.token) as sender:
            assert (await sender.send(conversation, b"x", temp_id=uuid4().bytes)).seq == 1

        async def is_ready() -> bool:
            return (await http.get(f"{cluster.http_url}/readyz")).status_code == 200

        await wait_until(is_ready, "web is ready", timeout_s=RECOVERY_S)
        for process in processes.values():
            assert process.returncode is None
            assert not [line for line in process.log if line["level"] in ("error", "critical")]
            assert not any("Traceback" in line for line in process.raw)


async def retry(connection: ClientConnection, conversation: bytes, content: bytes, refused: list[str]) -> Sent:
    """Send as a client does: with the same temp_id until the send is acknowledged."""
    temp_id = uuid4().bytes
    while True:
        try:
            return await connection.send(conversation, content, temp_id=temp_id)
        except RequestRefused as error:
            refused.append(error.code)
            await let_pass(
                (error.retry_after_ms or 10_000) / 10_000, why="a tenth of the pause that the client was told"
            )


async def talk_through(
    node: TestNode,
    database_url: str,
    break_it: Callable[[], Any],
    mend_it: Callable[[], Any],
    *,
    is_same_history: bool = True,
) -> tuple[list[str], list[Message]]:
    """Ten tasks send all the time; the fault comes after the first 40 acks and goes after the first refusals.

    Each acknowledged message is stored once, in the order of the seqs, and the pushes are the same. If Postgres'
    history changes, the gateway forgets its pushes: some may come again, or late (`protocol/SPEC.md`, 5.2).
    """
    pool = Pool(database_url, 2)
    alice, bob, conversation = await two_who_chat(pool)
    pool.close()  # Its open connections would not outlive Postgres.
    acks: dict[bytes, Sent] = {}
    refused: list[str] = []
    pushes: list[Message] = []
    over = trio.Event()

    async def on_push(push: Message) -> None:
        pushes.append(push)

    async with (
        connect(node.url, alice.token) as sender,
        connect(node.url, bob.token, on_push=on_push),
        trio.open_nursery() as nursery,
    ):

        async def talk(number: int) -> None:
            turn = 0
            while not over.is_set():
                content = b"%d.%d" % (number, turn)
                acks[content] = await retry(sender, conversation, content, refused)
                turn += 1

        for number in range(10):
            nursery.start_soon(talk, number)
        await wait_until(lambda: len(acks) >= 40, "the first acks")
        await break_it()
        await wait_until(lambda: len(refused) >= 20, "refusals", timeout_s=15)
        await mend_it()
        mended_at = len(acks)
        await wait_until(lambda: len(acks) >= mended_at + 40, "acks again", timeout_s=RECOVERY_S)
        over.set()
        # The last send of each task is answered, and the last message of all is pushed.
        await wait_until(lambda: len(nursery.child_tasks) == 0, "all acks")
        await wait_until(lambda: len({push.seq for push in pushes}) >= len(acks), "all pushes", timeout_s=10)
    rows = await pool.fetch(
        "select seq, id, content from messages where conversation_id = %s order by seq", (UUID(bytes=conversation),)
    )
    assert [row[0] for row in rows] == list(range(1, len(acks) + 1))
    assert {row[2]: (row[0], row[1]) for row in rows} == {
        content: (ack.seq, ack.message) for content, ack in acks.items()
    }
    assert node.gateway.counts.refused == Counter(refused), "each refusal is counted"
    seqs = [push.seq for push in pushes]
    assert (seqs if is_same_history else sorted({*seqs})) == list(range(1, len(acks) + 1)), (
        "each message comes once and in order"
    )
    pool.close()
    return refused, pushes


async def test_while_postgres_is_gone_sends_are_refused_and_nothing_acked_is_lost(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    async with open_node(own_postgres.url, redis_url) as node:
        refused, _ = await talk_through(node, own_postgres.url, lambda: stop(own_postgres), lambda: start(own_postgres))
        assert set(refused) == {ErrorCode.UNAVAILABLE.value}


async def test_while_redis_is_gone_sends_are_refused_and_nothing_acked_is_lost(
    pool: Pool, own_redis: RedisServer
) -> None:
    """The node refuses messages that it could not push to other nodes; its own clients get each push once, in order."""
    async with open_node(pool.url, own_redis.url) as node:
        refused, _ = await talk_through(node, pool.url, lambda: stop(own_redis), lambda: start(own_redis))
        assert set(refused) == {ErrorCode.UNAVAILABLE.value}


@pytest.mark.parametrize("missing", ["Postgres", "Redis"])
async def test_a_hello_without_a_service_is_told_to_come_again(
    own_postgres: PostgresServer, own_redis: RedisServer, missing: str
) -> None:
    """Connected clients stay connected."""
    service: Service = own_postgres if missing == "Postgres" else own_redis
    pool = Pool(own_postgres.url, 2)
    alice, bob, conversation = await two_who_chat(pool)
    async with open_node(own_postgres.url, own_redis.url) as node, connect(node.url, alice.token) as sender:
        await stop(service)
        await wait_until(lambda: missing == "Postgres" or not node.gateway.redis.is_connected, "it is noticed")
        async with node.open_websocket() as client:
            await client.send(Hello(0, bob.token, 1))
            assert await client.wait_end() == 4002
        with pytest.raises(RequestRefused):
            await sender.send(conversation, b"x", temp_id=uuid4().bytes)
        await start(service)
        refused: list[str] = []
        with trio.fail_after(RECOVERY_S):
            await retry(sender, conversation, b"x", refused)
        async with connect(node.url, bob.token):
            pass
    pool.close()


async def test_marks_while_postgres_is_gone_are_refused_as_retryable(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    pool = Pool(own_postgres.url, 2)
    alice, bob, conversation = await two_who_chat(pool)
    pool.close()
    async with (
        open_node(own_postgres.url, redis_url) as node,
        connect(node.url, alice.token) as sender,
        connect(node.url, bob.token) as reader,
    ):
        await sender.send(conversation, b"x", temp_id=uuid4().bytes)
        await stop(own_postgres)
        with pytest.raises(RequestRefused) as refused:
            await reader.mark_delivered([(conversation, 1)])
        assert (refused.value.code, refused.value.retry_after_ms is not None) == ("unavailable", True)
        await start(own_postgres)

        async def is_marked() -> bool:
            with suppress(RequestRefused):
                await reader.mark_delivered([(conversation, 1)])
                return True
            return False

        await wait_until(is_marked, "the mark is taken", timeout_s=RECOVERY_S)
        rows = await pool.fetch("select delivered_seq from participants where user_id = %s", (UUID(bytes=bob.user),))
        assert rows == [(1,)]
    pool.close()
