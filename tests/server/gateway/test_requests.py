"""Requests over the socket, each with its effects."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from client.http import Credentials
from protocol import ids, limits
from protocol.codec import encode
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import REQUESTS, Bye, Done, Error, Hello, History, MarkDelivered, MarkRead, Ping, Pong, Send, Sent
from server.gateway import budgets
from server.gateway.replies import error_reply
from store.conversations import one
from store.errors import DatabaseError
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.server.node_world import open_node, undisturbed


def new_send(request: int, conversation: bytes) -> Send:
    return Send(request, conversation, "text", b"x", None, None, uuid4().bytes)


def test_each_request_is_sent_by_a_test_of_the_server() -> None:
    texts = [file.read_text() for file in Path(__file__).parents[1].rglob("test_*.py")]
    sent = {request for request in REQUESTS if any(re.search(rf"\b{request.__name__}\(", text) for text in texts)}
    assert sent == set(REQUESTS)


async def test_mark_read_moves_the_unread_count_for_whoever_reads_it_next(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        reader = await new_user(pool, "reader")
        conversation = await new_direct(pool, somebody, reader)
        async with node.open_websocket(somebody.token) as writer:
            await writer.send(*[new_send(n, conversation) for n in range(3)])
            assert [type(reply) for reply in await writer.read(3)] == [Sent] * 3
        async with node.open_websocket(reader.token) as client:
            for request, marking, unread in (
                (1, MarkDelivered(1, [(conversation, 3)]), 3),
                (2, MarkRead(2, [(conversation, 2)]), 1),
                (3, MarkRead(3, [(conversation, 1)]), 1),
                (4, MarkRead(4, [(conversation, 9)]), 0),
            ):
                await client.send(marking)
                # The node may still be catching up, and push earlier messages again.
                while Done(request) not in await client.read(1):
                    pass
                assert (await one(pool, reader.user, conversation)).unread_count == unread


async def test_a_temp_id_that_is_an_old_uuid_of_version_7_is_refused_on_a_fresh_server(
    pool: Pool, redis_url: str
) -> None:
    """Alone and among other sends; a temp_id that is younger than 30 days, or holds no time, is accepted."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        conversation = await new_direct(pool, somebody, await new_user(pool, "other"))
        now_ms = time.time_ns() // 1_000_000
        ages = (31, 100, 400, 29, 0)
        temp_ids = [ids.uuid7(now_ms - days * 86_400_000, secrets.token_bytes(ids.NOISE_BYTES)) for days in ages]
        sends = [replace(new_send(n, conversation), temp_id=temp_id) for n, temp_id in enumerate(temp_ids)]
        sends.append(new_send(5, conversation))
        async with node.open_websocket(somebody.token) as client:
            for _ in range(2):
                await client.send(*sends)
                replies = {reply.request: reply for reply in await client.read(6) if isinstance(reply, (Error, Sent))}
                assert [replies[n].code for n in range(3)] == ["temp_id_expired"] * 3
                assert [replies[n].seq for n in range(3, 6)] == [1, 2, 3]
            [alone] = await client.ask(sends[1])
            assert isinstance(alone, Error)
            assert alone.code == "temp_id_expired"


async def test_ping_is_answered_with_the_time_while_sends_are_pending(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one turn: the pong comes before the replies that wait for a commit."""
    monkeypatch.setattr(budgets, "TURN_COST", limits.MAX_COST_AT_ONCE)
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        conversation = await new_direct(pool, somebody, await new_user(pool, "other"))
        async with node.open_websocket(somebody.token) as client:
            # The node measures Postgres' clock by a query, whose answer may be late on a busy machine.
            error_us = 1_000_000
            before = time.time_ns() // 1000
            await client.send(*[new_send(n, conversation) for n in range(1000)], Ping(7000))
            [pong, *_] = await client.read(1)
            assert isinstance(pong, Pong)
            assert pong.request == 7000
            assert before - error_us <= pong.created <= time.time_ns() // 1000 + error_us


async def test_bye_is_answered_after_everything_else_and_then_the_server_closes(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        conversation = await new_direct(pool, somebody, await new_user(pool, "other"))
        for pending in (0, 20):
            async with node.open_websocket(somebody.token) as client:
                await client.send(*[new_send(n, conversation) for n in range(pending)], Bye(99))
                replies = await client.read(pending + 1)
                assert [type(reply) for reply in replies] == [Sent] * pending + [Done]
                assert replies[-1] == Done(99)
                assert await client.wait_end() == 1000


async def test_requests_after_bye_are_refused(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        conversation = await new_direct(pool, somebody, await new_user(pool, "other"))
        async with node.open_websocket(somebody.token) as client:
            await client.send(new_send(1, conversation), Bye(2), new_send(3, conversation), encode(Ping(4)))
            replies = {reply.request: reply for reply in await client.read(4) if not hasattr(reply, "conversation")}
            assert isinstance(replies[1], Sent)
            assert replies[2] == Done(2)
            for refused in (replies[3], replies[4]):
                assert isinstance(refused, Error)
                assert refused.code == "unexpected_frame"
            assert await client.wait_end() == 1000


@pytest.mark.parametrize("fault", [DatabaseError("no column the_inside", "42703"), ValueError("the_inside")])
async def test_a_fault_of_the_server_is_logged_with_its_traceback_and_not_shown(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """A mistake in SQL is a fault like any other, also in the sync of a hello with a cursor."""
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))

    async def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("store.messages.history", fail)
    monkeypatch.setattr("server.gateway.requests.sync", fail)
    internal = error_reply(RequestError(3, ErrorCode.INTERNAL, ""))
    async with open_node(pool.url, redis_url) as node:
        async with node.open_websocket(alice.token) as client:
            [*_, reply] = await client.ask(History(3, conversation, None, None, None))
            assert reply == internal
        async with node.open_websocket() as client:
            await client.send(Hello(3, alice.token, 1, cursor=b"any"))
            assert await client.find(Error) == internal
        faults = node.faults()
        node.logs.clear()
    assert "the_inside" not in repr(internal)
    assert [line["event"] for line in faults] == ["request_failed"] * 2
    assert all(line["exc_info"] for line in faults)
