"""Logs of real processes: lives of connections, requests, ids, locked tables, and a Redis that may evict keys."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import redis as redis_py

from client.connection import connect
from client.errors import ClientFailure, RequestRefused
from client.http import Credentials
from embedded.redis import RedisServer
from store.postgres.pool import Pool
from tests.processes import Process, open_cluster
from tests.waiting import wait_until

ID = re.compile("[0-9a-f]{16}").fullmatch


def lines(process: Process, event: str) -> list[dict[str, Any]]:
    return [line for line in process.log if line["event"] == event]


async def test_each_life_of_a_connection_leaves_one_line_with_its_end_and_its_ids(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        process, url = await cluster.start_socket()
        node = (await process.wait_event("listening"))["node"]
        await process.wait_event("caught_up")
        async with connect(url, alice.token, client="test/1"):
            before = len(process.log)
            async with connect(url, bob.token) as sender:
                for _ in range(20):
                    await sender.send(direct, b"ciphertext", temp_id=uuid4().bytes)
            await process.wait_event("connection_ended")
            assert [line["event"] for line in process.log[before:]] == ["connection_ended"], "sends leave no line"
        async with httpx.AsyncClient() as client:
            await client.get(f"{url.replace('ws:', 'http:')}/readyz")
            await client.get(f"{url.replace('ws:', 'http:')}/something")
        with pytest.raises(ClientFailure):
            async with connect(url, "alo_" + "x" * 43):
                pass
        await wait_until(lambda: len(lines(process, "connection_ended")) == 4, "each has left a line")
        found = lines(process, "connection_ended")
    assert {line["node"] for line in process.log if "node" in line} == {node}
    assert [line["ended"] for line in found] == ["bye", "bye", "not_opened", "unauthenticated"]
    assert [line.get("user") for line in found] == [bob.user.hex(), alice.user.hex(), None, None]
    assert [line.get("client") for line in found[:2]] == [found[0]["client"], "test/1"]
    assert len({line["connection"] for line in found}) == 4
    assert all(line["seconds"] >= 0 for line in found)
    assert "127.0.0.1" not in repr(found)


async def test_postgres_and_the_log_know_each_process_by_the_same_id(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        web, worker = await cluster.start_web(), await cluster.start_worker()
        socket, url = await cluster.start_socket()
        async with connect(url, alice.token), httpx.AsyncClient() as client:
            bearer = {"authorization": f"Bearer {alice.token}", "x-request-id": "mine"}
            assert (await client.get(f"{cluster.http_url}/v1/conversations", headers=bearer)).status_code == 200
            request = await web.wait_event("request_answered")
            names = {
                f"alo-{kind}-{(await process.wait_event(event))[field]}"
                for kind, process, event, field in (
                    ("web", web, "request_answered", "writer"),
                    ("socket", socket, "listening", "node"),
                    ("worker", worker, "working", "worker"),
                )
            }
            question = "select distinct application_name from pg_stat_activity where application_name like 'alo-%%-%%'"

            async def are_shown() -> bool:
                return {name for (name,) in await pool.fetch(question)} >= names

            await wait_until(are_shown, f"Postgres shows {names}")
    assert all(ID(name.rpartition("-")[2]) for name in names)
    assert (request["route"], request["status"], request["request_id"]) == ("GET /v1/conversations", 200, "mine")


async def test_a_locked_table_leaves_lines_that_name_the_statements_and_the_holder(
    pool: Pool, redis_url: str, alice: Credentials, direct: bytes
) -> None:
    """As by a migration that an operator runs by hand."""
    async with open_cluster(pool.url, redis_url) as cluster:
        (socket, url), web = await cluster.start_socket(), await cluster.start_web()
        async with connect(url, alice.token) as device, httpx.AsyncClient() as client:
            await device.send(direct, b"ciphertext", temp_id=uuid4().bytes)
            with psycopg.connect(pool.url, application_name="by hand") as holder:
                holder.execute("lock table messages in access exclusive mode")
                blocked_by = [f"by hand (pid {holder.info.backend_pid}, idle in transaction)"]

                async def is_named() -> bool:
                    with pytest.raises(RequestRefused):
                        await device.send(direct, b"ciphertext", temp_id=uuid4().bytes)
                    bearer = {"authorization": f"Bearer {alice.token}"}
                    page = f"{cluster.http_url}/v1/conversations/{UUID(bytes=direct)}/messages"
                    await client.get(page, headers=bearer)
                    return "messages.send" in waiting(socket) and bool(waiting(web))

                await wait_until(is_named, "both processes have named the lock")
    assert all(statement.startswith("history_pages.") for statement in waiting(web))
    assert all(line["blocked_by"] == blocked_by for process in (socket, web) for line in lines(process, "lock_wait"))


def waiting(process: Process) -> list[str]:
    """The statements that the lines of a process say to wait for a lock. A node's own questions may be among them."""
    return [line["statement"] for line in lines(process, "lock_wait")]


@pytest.mark.parametrize("command", [("server", "web"), ("server", "socket"), ("jobs",)])
async def test_a_process_does_not_start_with_a_redis_that_may_evict_keys(
    pool: Pool, own_redis: RedisServer, command: tuple[str, ...]
) -> None:
    evict(own_redis, "allkeys-lru")
    async with open_cluster(pool.url, own_redis.url, PORT="0", SOCKET_PORT="0") as cluster:
        process = await cluster.start(*command)
        assert await process.wait() == 1
        await wait_until(lambda: process.raw and "maxmemory-policy" in process.raw[-1], "the process has said why")
    assert "noeviction" in process.raw[-1]
    assert "Traceback" not in "\n".join(process.raw)


async def test_a_policy_that_changes_later_makes_a_process_unready_until_it_is_set_back(
    pool: Pool, own_redis: RedisServer
) -> None:
    async with open_cluster(pool.url, own_redis.url) as cluster, httpx.AsyncClient() as client:
        process = await cluster.start_web()

        async def reason() -> str:
            return str((await client.get(f"{cluster.http_url}/readyz")).json().get("detail", ""))

        async def is_ready() -> bool:
            return not await reason()

        await wait_until(is_ready, "the process is ready")
        evict(own_redis, "volatile-lru")

        async def is_unready() -> bool:
            return await reason() == "Redis may evict keys"

        await wait_until(is_unready, "the process has noticed")
        assert "volatile-lru" in (await process.wait_event("not_ready"))["error"]
        evict(own_redis, "noeviction")
        await wait_until(is_ready, "the process is ready again")


def evict(redis: RedisServer, policy: str) -> None:
    with redis_py.Redis.from_url(redis.url) as client:
        client.config_set("maxmemory-policy", policy)
