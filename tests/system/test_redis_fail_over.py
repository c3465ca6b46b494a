"""Several Redis servers: users chat on through a fail-over (P1, P9), and bus and jobs may have a Redis each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import RequestRefused
from client.http import Credentials
from embedded.redis import RedisServer
from protocol.frames import Message, Push
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.people import new_direct, new_user
from tests.processes import open_cluster
from tests.sentinel import Watched
from tests.waiting import let_pass, wait_until

FAIL_OVER_S = 30.0
"""A sentinel takes 2 s to see that the master is gone, and up to 2 s to promote the replica."""

HEALED_S = 5.0
"""Promised after Redis has lost data (docs/guarantees.md, P9)."""


class Person:
    """A user who writes without end, and the messages pushed to this user, who fetches none."""

    def __init__(self, name: bytes, conversation: bytes) -> None:
        self._name = name
        self._conversation = conversation
        self.acked: dict[bytes, int] = {}
        self.seen: dict[int, bytes] = {}

    async def on_push(self, push: Push) -> None:
        assert isinstance(push, Message)
        self.seen[push.seq] = push.content

    def has_seen(self, sender: bytes, stored: dict[int, bytes]) -> bool:
        """Whether all messages of the sender were pushed here."""
        return {seq for seq, content in stored.items() if content.startswith(sender)} <= self.seen.keys()

    async def say(self, connection: ClientConnection) -> None:
        """One message, again and again with the same temp_id until it is acknowledged, as clients do."""
        content, temp_id = b"%s %d" % (self._name, len(self.acked)), uuid4().bytes
        while True:
            try:
                sent = await connection.send(self._conversation, content, temp_id=temp_id)
            except RequestRefused as error:
                if error.code != "unavailable":
                    raise
                await let_pass((error.retry_after_ms or 1000) / 10_000, why="a tenth of the pause it was told")
            else:
                self.acked[content] = sent.seq
                return

    async def talk(self, connection: ClientConnection) -> None:
        while True:
            await self.say(connection)
            # Fewer messages than node.MAX_CATCH_UP in total: with more, a client must fetch the first ones, and these
            # do not.
            await let_pass(0.08, why="the pace of the chat")


async def two_who_chat(pool: Pool) -> tuple[Credentials, Credentials, bytes]:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    return alice, bob, await new_direct(pool, alice, bob)


@pytest.mark.parametrize("end", ["killed", "replaced"])
async def test_people_chat_on_through_a_fail_over_and_miss_nothing(pool: Pool, watched: Watched, end: str) -> None:
    """On two nodes: the master is killed with SIGKILL, or the sentinel is told to replace it while it is well."""
    alice, bob, conversation = await two_who_chat(pool)
    one, other = Person(b"alice", conversation), Person(b"bob", conversation)
    async with open_cluster(pool.url, watched.url) as cluster:
        (first, here), (second, there) = await cluster.start_socket(), await cluster.start_socket()
        worker = await cluster.start_worker()
        async with (
            connect(here, alice.token, on_push=one.on_push) as hers,
            connect(there, bob.token, on_push=other.on_push) as his,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.talk, hers)
                nursery.start_soon(other.talk, his)
                await wait_until(lambda: len(one.seen) >= 20 and len(other.seen) >= 20, "they chat")
                skip = {process: len(process.log) for process in (first, second, worker)}
                await trio.to_thread.run_sync(watched.first.kill if end == "killed" else watched.fail_over)
                for process in (first, second, worker):
                    event = await process.wait_event("redis_connected", timeout_s=FAIL_OVER_S, skip=skip[process])
                    assert event["where"] == f"127.0.0.1:{watched.second.port}"
                acked = len(one.acked), len(other.acked)
                await wait_until(
                    lambda: len(one.acked) >= acked[0] + 20 and len(other.acked) >= acked[1] + 20,
                    "they chat again",
                    timeout_s=FAIL_OVER_S,
                )
                nursery.cancel_scope.cancel()
            # The sends under way when they stopped may or may not be committed.
            await one.say(hers)
            await other.say(his)
            rows = await pool.fetch(
                "select seq, content from messages where conversation_id = %s order by seq", (uuid(conversation),)
            )
            stored = dict(rows)
            # Nodes that catch up push to the senders as well.
            await wait_until(lambda: one.has_seen(b"bob", stored), "all of his at her device", timeout_s=HEALED_S)
            await wait_until(lambda: other.has_seen(b"alice", stored), "all of hers at his device", timeout_s=HEALED_S)
        for process in (first, second, worker):
            assert not [line for line in process.log if line["level"] in ("error", "critical")]
    assert list(stored) == list(range(1, len(stored) + 1))
    for person in (one, other):
        assert person.seen.items() <= stored.items()
        assert {(seq, content) for content, seq in person.acked.items()} <= stored.items()


@asynccontextmanager
async def open_sentinel(named: list[int]) -> AsyncGenerator[str, None]:
    """A sentinel that names whatever port the test has put there last."""

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async for _ in stream:
                port = b"%d" % named[-1]
                await stream.send_all(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield f"redis+sentinel://127.0.0.1:{listeners[0].socket.getsockname()[1]}/chat"
        nursery.cancel_scope.cancel()


async def test_messages_sent_while_nodes_used_different_masters_arrive_when_the_nodes_agree(
    pool: Pool, watched: Watched
) -> None:
    """The race: one node has heard of the fail-over, the other has not, and both masters take writes.

    The latter fans out to the former master, without an error.
    """
    alice, bob, conversation = await two_who_chat(pool)
    one, other = Person(b"alice", conversation), Person(b"bob", conversation)
    hers, his = [watched.first.port], [watched.first.port]
    async with open_sentinel(hers) as her_url, open_sentinel(his) as his_url, open_cluster(pool.url, "") as cluster:
        cluster.environment["REDIS_URL"] = her_url
        first, here = await cluster.start_socket()
        cluster.environment["REDIS_URL"] = his_url
        second, there = await cluster.start_socket()
        async with (
            connect(here, alice.token, on_push=one.on_push) as sender,
            connect(there, bob.token, on_push=other.on_push),
        ):
            await one.say(sender)
            await wait_until(lambda: len(other.seen) == 1, "they chat")
            await promote(watched)
            skip = len(second.log)
            his.append(watched.second.port)
            await second.wait_event("redis_connected", skip=skip)
            await second.wait_event("caught_up", skip=skip)
            await one.say(sender)
            skip = len(first.log)
            hers.append(watched.second.port)
            await first.wait_event("redis_connected", skip=skip)
            await wait_until(lambda: len(other.seen) == 2, "what was sent meanwhile", timeout_s=HEALED_S)


async def promote(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        redis = Redis(watched.second.url)
        await nursery.start(redis.run)
        await redis.wait_connected()
        await redis.call("REPLICAOF", "NO", "ONE")
        nursery.cancel_scope.cancel()


async def test_bus_and_jobs_may_have_a_redis_each(pool: Pool, own_redis: RedisServer, redis_url: str) -> None:
    """The bus and the jobs use their own URL, and neither REDIS_URL nor the other's."""
    alice, bob, conversation = await two_who_chat(pool)
    other = Person(b"bob", conversation)
    settings = {"REDIS_BUS_URL": redis_url, "REDIS_JOBS_URL": own_redis.url, "OFFLINE_NOTICE_AFTER_S": "0.1"}
    async with open_cluster(pool.url, "redis://127.0.0.1:1", **settings) as cluster:
        await cluster.start_web()
        (_, here), (_, there) = await cluster.start_socket(), await cluster.start_socket()
        worker = await cluster.start_worker()
        async with connect(here, alice.token) as sender, connect(there, bob.token, on_push=other.on_push):
            await Person(b"alice", conversation).say(sender)
            await wait_until(lambda: len(other.seen) == 1, "it arrives on the other node")
            # Bob has not marked it delivered.
            await worker.wait_event("offline_notice")
    async with trio.open_nursery() as nursery:
        bus, jobs = Redis(redis_url), Redis(own_redis.url)
        for redis in (bus, jobs):
            await nursery.start(redis.run)
            await redis.wait_connected()
        assert not await bus.call("KEYS", "alo:{jobs}:*")
        assert await jobs.call("KEYS", "*") == await jobs.call("KEYS", "alo:{jobs}:*") != []
        nursery.cancel_scope.cancel()
