"""While Redis refuses writes (its memory is full): requests are refused by name, and logs do not fill up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import redis as redis_py

from embedded.redis import RedisServer
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import Done, Error, SetTyping, Sync, Watch
from server.gateway.replies import error_reply, store_error_reply
from store import errors
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import RedisError
from tests.people import new_direct, new_user
from tests.processes import open_cluster
from tests.rows import each_row
from tests.server.node_world import open_node
from tests.waiting import wait_until


@contextmanager
def full(server: RedisServer) -> Generator[None]:
    """Redis has no memory left during the block, and refuses writes."""
    with redis_py.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", 1)
        try:
            yield
        finally:
            admin.config_set("maxmemory", 0)


async def test_a_request_that_needs_redis_is_refused_as_unavailable_and_that_is_logged(
    pool: Pool, own_redis: RedisServer
) -> None:
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    direct, other = await new_direct(pool, alice, bob), await new_direct(pool, alice, carol)
    async with open_node(pool.url, own_redis.url) as node, node.open_websocket(alice.token) as client:
        await client.ask(Watch(1, [bob.user]))
        with full(own_redis):
            [*_, refused] = await client.ask(Watch(2, [carol.user]))
            assert refused == error_reply(RequestError(2, ErrorCode.UNAVAILABLE, ""))
            assert [line["request"] for line in node.logs if line["event"] == "request_refused"] == ["watch"]
            assert "OOM" in str([line["error"] for line in node.logs if line["event"] == "request_refused"])
            for conversation in (direct, other):
                assert (await client.ask(SetTyping(3, conversation, True)))[-1] == Done(3)
            assert not isinstance((await client.ask(Sync(4, None)))[-1], Error)
        [*_, done] = await client.ask(Watch(5, [carol.user]))
        assert done == Done(5)


def every_error() -> list[StoreError]:
    made: list[StoreError] = [RedisError("OOM")]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, StoreError):
            error: Any = kind.__new__(kind)
            Exception.__init__(error, "text")
            error.version, error.users, error.devices, error.control_seq = 1, [], [], 1
            made.append(error)
    return made


@each_row("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_is_answered_by_name_or_logged(error: StoreError, log_output: list[dict[str, object]]) -> None:
    """The reply `internal` tells the client that the error has been logged."""
    before = len(log_output)
    is_internal = store_error_reply(1, error).code == ErrorCode.INTERNAL.value
    assert len(log_output) - before == is_internal
    if isinstance(error, RedisError | errors.Unavailable | errors.Overloaded | errors.Locked):
        assert not is_internal


async def test_an_outage_is_logged_once_a_minute_by_each_process(pool: Pool, own_redis: RedisServer) -> None:
    async with open_cluster(pool.url, own_redis.url) as cluster:
        node, _ = await cluster.start_socket()
        web, worker = await cluster.start_web(), await cluster.start_worker()
        with full(own_redis):
            for process in (node, web):
                await process.wait_event("lease_not_kept")
            with redis_py.Redis.from_url(own_redis.url) as admin:
                before = refusals(admin)
                # Until they have tried again a number of times.
                await wait_until(lambda: refusals(admin) > before + 20, "they try again", timeout_s=20)
        for process in (node, web, worker):
            lines = Counter(
                str({key: value for key, value in line.items() if key != "timestamp"})
                for line in process.log
                if line["level"] in ("warning", "error")
            )
            assert {line for line, times in lines.items() if times > 1} == set()


def refusals(admin: redis_py.Redis) -> int:
    """How many writes Redis has refused."""
    return int(admin.info("errorstats").get("errorstat_OOM", {}).get("count", 0))
