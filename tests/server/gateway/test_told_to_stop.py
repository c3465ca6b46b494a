"""SIGTERM at any moment, also in the first instants or while Postgres is silent: an orderly end, in time (P10)."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from client.connection import connect
from client.errors import ClientFailure
from embedded.postgres import PostgresServer
from server.gateway import process as gateway_module
from store.postgres import driver as postgres_module
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.pg_proxy import open_proxy
from tests.processes import Process, open_cluster
from tests.server.node_world import open_node
from tests.waiting import let_pass, wait_until

STATUS_OF = {("server", "web"): 0, ("server", "socket"): 0, ("jobs",): 0, ("store", "migrate"): 1}
"""Exit status of each process of the Procfile that is told to stop before it has done anything. A release that has not
migrated must not count as done."""

TOLD_AT = """
import os, signal, sys

moment, seen = int(os.environ["TOLD_AT"]), 0

def count(event, arguments):
    global seen
    if event == "import" and arguments[0] == "runtime.early_signals":
        seen = 1
    elif seen and event in ("import", "open", "socket.connect", "socket.bind", "object.__getattr__"):
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(count)
"""
"""A `sitecustomize` that sends its process SIGTERM at the given moment: each import, file and socket is a moment."""

EARLY = (30, 100, 250, 400, 600, 800, 1000, 1200)


@pytest.mark.long
@pytest.mark.parametrize("command", STATUS_OF, ids=" ".join)
async def test_a_process_that_is_told_to_stop_in_its_first_instants_ends_in_order(
    command: tuple[str, ...], tmp_path: Path, pool: Pool, redis_url: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TOLD_AT)
    ended: dict[int, int] = {}
    async with open_cluster(pool.url, redis_url) as cluster, trio.open_nursery() as nursery:

        async def tell(moment: int) -> None:
            settings = {"PYTHONPATH": str(tmp_path), "TOLD_AT": str(moment), "PORT": "0", "SOCKET_PORT": "0"}
            process = await cluster.start(*command, **settings)
            with trio.fail_after(20):
                ended[moment] = await process.wait()

        for moment in EARLY:
            nursery.start_soon(tell, moment)
    status = STATUS_OF[command]
    # A release that had migrated before its moment came has done its work.
    assert all(each in (status, 0) for each in ended.values()), ended
    assert ended[EARLY[0]] == status


async def test_one_deadline_ends_all_waits_of_a_gateway_while_postgres_is_silent(
    own_postgres: PostgresServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: reads that other tasks wait for cannot be cancelled, and each took its whole time."""
    monkeypatch.setattr(gateway_module, "POSTGRES_S", 0.5)
    monkeypatch.setattr(gateway_module, "STOP_S", 0.8)
    monkeypatch.setattr(postgres_module, "CANCEL_TIMEOUT_S", 0.2)
    pool = Pool(own_postgres.url, 2)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    await new_direct(pool, alice, bob)
    pool.close()
    async with open_proxy(own_postgres.port) as proxy, trio.open_nursery() as nursery:
        async with open_node(proxy.url(own_postgres.url), redis_url) as node:

            async def talk() -> None:
                async with connect(node.url, alice.token) as connection:
                    proxy.is_deaf = True
                    await connection.list_conversations()

            nursery.start_soon(refused, talk)
            await wait_until(
                lambda: proxy.is_deaf and node.gateway.pool.reads.statistics().under_way, "a read is under way"
            )
            node.gateway.stop()
            await node.wait_event("stopped")
        nursery.cancel_scope.cancel()


@pytest.mark.long
async def test_processes_end_in_time_while_postgres_is_silent(own_postgres: PostgresServer, redis_url: str) -> None:
    """With requests and jobs under way, and with others that begin only after the signal."""
    pool = Pool(own_postgres.url, 2)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    direct = await new_direct(pool, alice, bob)
    pool.close()
    async with open_proxy(own_postgres.port) as proxy, trio.open_nursery() as nursery:
        async with open_cluster(proxy.url(own_postgres.url), redis_url) as cluster:
            socket, url = await cluster.start_socket()
            web, worker = await cluster.start_web(), await cluster.start_worker()

            async def talk(delay_s: float) -> None:
                async with connect(url, alice.token) as connection, trio.open_nursery() as requests:
                    await let_pass(delay_s, why="the silence begins after some time")
                    proxy.is_deaf = True
                    for number in range(8):
                        requests.start_soon(connection.list_conversations)
                        requests.start_soon(connection.history, direct)
                        requests.start_soon(
                            partial(connection.send, direct, b"x", temp_id=bytes([number, int(delay_s)]) * 8)
                        )

            for delay_s in (0.0, 3.0, 9.0):
                nursery.start_soon(refused, partial(talk, delay_s))
            await let_pass(0.5, why="requests hang")
            async with trio.open_nursery() as ending:
                for process in (socket, web, worker):
                    ending.start_soon(end_in_time, process)
        nursery.cancel_scope.cancel()


async def refused(talk: Callable[[], Awaitable[None]]) -> None:
    """Run `talk`; any outcome is fine."""
    with suppress(ClientFailure, ExceptionGroup):
        await talk()


async def end_in_time(process: Process) -> None:
    process.signal(signal.SIGTERM)
    with trio.fail_after(25):
        assert await process.wait() == 0, process.raw[-5:]
