"""SIGTERM to real processes: they answer the requests in flight, tell the clients, and end well and in time."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from client.http import Credentials
from jobs.engine import worker
from protocol import limits
from protocol.codec import encode
from protocol.codes import ErrorCode
from protocol.frames import Done, Error, MarkDelivered, Message, Move, Send, Sent
from server.gateway import process as gateway_process
from server.gateway.connection import CLOSE_TIMEOUT_S
from server.gateway.process import ANSWER_TIMEOUT_S, GOODBYE_TIMEOUT_S, MOVE_S, READ_S, SUCCESSOR_S
from server.http import process as web_process
from store.postgres.driver import CANCEL_TIMEOUT_S
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.processes import Process, open_cluster
from tests.server.node_world import RawClient, open_node
from tests.waiting import wait_until

EXIT_TIMEOUT_S = 25.0
"""The time after which process managers kill."""


def new_sends(conversation: bytes, first: int, count: int, *, size: int = 10) -> list[Send]:
    return [Send(n, conversation, "text", bytes(size), None, None, uuid4().bytes) for n in range(first, first + count)]


@asynccontextmanager
async def open_raw(url: str, person: Credentials | None = None) -> AsyncGenerator[RawClient, None]:
    """A client after the WebSocket handshake, and welcomed if a person is given."""
    async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
        client = RawClient(stream)
        await client.handshake()
        if person is not None:
            await client.hello(person.token)
        yield client


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def wait_exit(process: Process) -> int:
    with trio.fail_after(EXIT_TIMEOUT_S):
        return await process.wait()


async def test_sends_in_flight_are_answered_and_later_ones_refused_as_retryable(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """200 sends wait for a commit when the signal comes: they are acknowledged; then the node closes with 1012."""
    async with open_cluster(pool.url, redis_url) as cluster:
        process, url = await cluster.start_socket()
        async with open_raw(url, alice) as sender, open_raw(url, bob) as reader, pool.connection() as lock:
            await lock.query("begin")
            await lock.query("select 1 from conversations where id = %s for update", (UUID(bytes=direct),))
            await sender.send(*new_sends(direct, 0, 200), MarkDelivered(900, [(b"n" * 16, 1)]))
            assert await sender.read(1) == [Done(900)], "the node has read the sends before the mark"
            process.signal(signal.SIGTERM)
            await process.wait_event("draining")
            for client in (sender, reader):
                assert (await client.find(Move)).retry_after_ms >= SUCCESSOR_S * 1000, "there is no other node"
            await sender.send(*new_sends(direct, 200, 5))
            refused = await sender.read(5)
            assert [error.request for error in refused if isinstance(error, Error)] == list(range(200, 205))
            assert {error.code for error in refused if isinstance(error, Error)} == {ErrorCode.UNAVAILABLE.value}
            assert all(isinstance(error, Error) and error.retry_after_ms is not None for error in refused)
            with pytest.raises(OSError):  # noqa: PT011
                await trio.open_tcp_stream("127.0.0.1", port_of(url))
            process.signal(signal.SIGTERM)  # A second signal changes nothing.
            await lock.query("rollback")
            acks = await sender.read(200)
            assert [ack.request for ack in acks if isinstance(ack, Sent)] == list(range(200))
            assert len(await reader.read(200)) == 200, "the sends in flight are pushed"
            assert await sender.wait_end() == await reader.wait_end() == 1012
            assert await wait_exit(process) == 0
        assert [line for line in process.log if line["level"] in ("error", "critical")] == []
    assert await pool.fetch("select count(*) from messages") == [(200,)]


@pytest.mark.parametrize("delay", ["at once", "after the first ack"])
async def test_every_request_that_was_written_before_the_signal_is_answered(
    pool: Pool, redis_url: str, alice: Credentials, delay: str
) -> None:
    """The node reads requests that still lie in the kernel, and acknowledges them or refuses them as retryable."""
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    async with open_cluster(pool.url, redis_url) as cluster:
        process, url = await cluster.start_socket()
        async with open_raw(url, alice) as sender:
            sends = new_sends(conversation, 0, 800, size=1000)
            replies: list[Any] = []
            for start in range(0, 800, 100):
                await sender.send(*sends[start : start + 100])
            if delay == "after the first ack":
                replies += await sender.read(1)
            process.signal(signal.SIGTERM)
            while len(replies) < 800:
                replies += [reply for reply in await sender.read(1) if not isinstance(reply, Move)]
            # Refusals are quicker than acks, so they come in between.
            assert sorted(reply.request for reply in replies) == list(range(800))
            for reply in replies:
                assert isinstance(reply, Sent) or reply.retry_after_ms is not None
            assert await sender.wait_end() == 1012
        assert await wait_exit(process) == 0
    acked = sum(isinstance(reply, Sent) for reply in replies)
    assert await pool.fetch("select count(*) from messages") == [(acked,)]


async def test_requests_that_lie_in_the_kernel_when_the_signal_comes_are_answered(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    """The client writes and the node is told to stop in one step of this process, so the node reads nothing before."""
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        raw = b"".join(client.message(encode(send)) for send in new_sends(conversation, 0, 200, size=350))
        node.gateway.stop()
        assert await client.stream.socket.send(raw) == len(raw)
        replies = [reply for reply in await client.read(201) if not isinstance(reply, (Message, Move))]
        assert sorted(reply.request for reply in replies) == list(range(200))
        assert await client.wait_end() == 1012


async def test_nothing_follows_a_close_frame(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Other clients go on sending while one takes its time to answer the closing handshake."""
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as sender,
        node.open_websocket(bob.token) as reader,
    ):
        reader.answers_close = False
        await reader.write(b"\x82\x80" + bytes(4))
        with trio.fail_after(3):
            while reader.close_code is None:
                assert await reader.receive()
        await sender.send(*new_sends(direct, 0, 3))
        await sender.read(3)
        assert [each async for each in reader.stream] == []


async def test_clients_that_do_not_answer_the_goodbye_are_left_behind(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    """Silent clients, half-open ones, and ones without a hello do not hold up the end."""
    async with open_cluster(pool.url, redis_url) as cluster:
        process, url = await cluster.start_socket()
        async with (
            open_raw(url, alice) as silent,
            open_raw(url) as nobody,
            await trio.open_tcp_stream("127.0.0.1", port_of(url)) as half,
        ):
            silent.answers_close = False
            await half.send_all(b"GET /v1/socket HTTP/1.1\r\n")
            began = trio.current_time()
            process.signal(signal.SIGTERM)
            assert await wait_exit(process) == 0
            assert trio.current_time() - began < 6
            assert await silent.wait_end() == 1012
            assert await nobody.wait_end() == 1012


async def test_a_process_that_waits_for_its_services_can_be_stopped(pool: Pool, redis_url: str) -> None:
    """The process has nothing to drain yet."""
    nowhere = "postgresql://postgres@127.0.0.1:1/postgres"
    async with open_cluster(nowhere, redis_url) as cluster:
        process, _ = await cluster.start_socket(wait=False)
        await process.wait_event("waiting_for_postgres")
        assert await process.stop() == 0


async def test_an_http_request_under_way_is_answered(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster, httpx.AsyncClient() as http:
        process = await cluster.start_web()
        answers: list[httpx.Response] = []

        async def make() -> None:
            body = {"kind": "direct", "participants": [str(UUID(bytes=bob.user))]}
            headers = {"Authorization": f"Bearer {alice.token}"}
            answers.append(await http.post(f"{cluster.http_url}/v1/conversations", json=body, headers=headers))

        async with pool.connection() as lock, trio.open_nursery() as nursery:
            await lock.query("begin")
            await lock.query("lock table conversations in exclusive mode")
            nursery.start_soon(make)
            await wait_until(lambda: pool.fetch("select 1 from pg_locks where not granted"), "the write waits")
            process.signal(signal.SIGTERM)
            await process.wait_event("told_to_stop")
            await lock.query("commit")
        assert [answer.status_code for answer in answers] == [201]
        await http.aclose()
        assert await wait_exit(process) == 0


def test_the_deadlines_add_up() -> None:
    """One deadline ends all waits of the shutdown together, before the process managers kill. The waits for Postgres
    end before it, and leave time for the rest."""
    for stop_s, postgres_s in (
        (gateway_process.STOP_S, gateway_process.POSTGRES_S),
        (worker.STOP_S, worker.DRAIN_S + worker.PUT_BACK_S),
    ):
        assert postgres_s + CANCEL_TIMEOUT_S <= stop_s < EXIT_TIMEOUT_S - CANCEL_TIMEOUT_S
    assert MOVE_S + READ_S + ANSWER_TIMEOUT_S < gateway_process.POSTGRES_S, "requests in flight are answered"
    assert CLOSE_TIMEOUT_S < GOODBYE_TIMEOUT_S
    assert web_process.GRACE_S < web_process.POSTGRES_S
    assert (
        web_process.POSTGRES_S + CANCEL_TIMEOUT_S + web_process.SIGN_OFF_TIMEOUT_S < EXIT_TIMEOUT_S - CANCEL_TIMEOUT_S
    )
    assert limits.HELLO_TIMEOUT_S < EXIT_TIMEOUT_S
