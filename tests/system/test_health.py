"""Health of real processes: on their ports for operators, on those for clients, and to a service manager."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from client.connection import connect
from client.http import Credentials
from embedded.postgres import PostgresServer
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.processes import Cluster, Process, open_cluster, three_free_ports
from tests.waiting import wait_until

SEEN_S = 15.0
"""For what a process does within 5 s."""


class Operated:
    """A cluster whose processes have ports for operators.

    :ivar ports: process -> its port for operators.
    :ivar urls: process -> where clients reach it.
    """

    def __init__(self, cluster: Cluster, first: int) -> None:
        self.cluster = cluster
        self.ports = {"web": first, "socket": first + 1, "worker": first + 2}
        self.urls: dict[str, str] = {}
        self.processes: dict[str, Process] = {}

    async def start(self) -> None:
        self.processes["web"] = await self.cluster.start_web()
        self.processes["socket"], url = await self.cluster.start_socket()
        self.processes["worker"] = await self.cluster.start_worker()
        self.urls = {"web": self.cluster.http_url, "socket": url.replace("ws:", "http:")}

    def all_urls(self, path: str) -> list[str]:
        """Where a path is answered: on all ports for operators, and on two ports for clients."""
        hosts = [*(f"http://127.0.0.1:{port}" for port in self.ports.values()), *self.urls.values()]
        return [host + path for host in hosts]

    async def statuses(self, path: str) -> set[int]:
        async with httpx.AsyncClient(timeout=SEEN_S) as client:
            return {(await client.get(url)).status_code for url in self.all_urls(path)}

    async def wait_statuses(self, path: str, expected: int) -> None:
        async def are_so() -> bool:
            return await self.statuses(path) == {expected}

        await wait_until(are_so, f"all answer {path} with {expected}", timeout_s=3 * SEEN_S)


@asynccontextmanager
async def operated(database_url: str, redis_url: str, **settings: str) -> AsyncGenerator[Operated, None]:
    first = three_free_ports()
    async with open_cluster(database_url, redis_url, METRICS_PORT=str(first), **settings) as cluster:
        yield Operated(cluster, first)


async def test_each_process_is_live_and_ready_on_all_its_ports_while_postgres_answers(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    """A Postgres that hangs makes the processes unready, and leaves them live."""
    async with operated(own_postgres.url, redis_url) as all_:
        await all_.start()
        await all_.wait_statuses("/readyz", 200)
        assert await all_.statuses("/healthz") == {200}
        await trio.to_thread.run_sync(own_postgres.pause)
        try:
            await all_.wait_statuses("/readyz", 503)
            assert await all_.statuses("/healthz") == {200}
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(own_postgres.resume)
        await all_.wait_statuses("/readyz", 200)


async def test_the_pages_for_operators_are_on_no_port_for_clients(pool: Pool, redis_url: str) -> None:
    async with operated(pool.url, redis_url) as all_, httpx.AsyncClient() as client:
        await all_.start()
        assert (await client.get(f"{all_.urls['web']}/metrics")).status_code == 404
        upgrade = await client.get(f"{all_.urls['socket']}/metrics")
        assert (upgrade.status_code, "alo_" in upgrade.text) == (426, False)
        for port in all_.ports.values():
            assert "alo_live 1\n" in (await client.get(f"http://127.0.0.1:{port}/metrics")).text


async def test_on_sigterm_readiness_ends_first_and_the_process_serves_until_the_grace_is_over(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with operated(pool.url, redis_url, READY_GRACE_S="600") as all_, httpx.AsyncClient() as client:
        await all_.start()
        await all_.wait_statuses("/readyz", 200)
        for process in all_.processes.values():
            process.signal(signal.SIGTERM)
        await all_.wait_statuses("/readyz", 503)
        assert await all_.statuses("/healthz") == {200}
        url = all_.urls["socket"].replace("http:", "ws:")
        async with connect(url, alice.token):
            pass
        bearer = {"authorization": f"Bearer {alice.token}"}
        listed = await client.get(f"{all_.urls['web']}/v1/conversations", headers=bearer)
        assert listed.status_code == 200
        # A second signal ends the grace.
        for process in all_.processes.values():
            assert await process.stop() == 0
        for url in all_.all_urls("/healthz"):
            with pytest.raises(httpx.ConnectError):
                await client.get(url)


@asynccontextmanager
async def service_manager(folder: Path) -> AsyncIterator[tuple[dict[str, str], list[str]]]:
    """The environment that a service manager gives a process, and the states that the process has told since."""
    states: list[str] = []

    async def receive(sock: trio.socket.SocketType) -> None:
        while True:
            states.append((await sock.recv(4096)).decode())

    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        await sock.bind(str(folder / "notify"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, sock)
            yield {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "600000"}, states
            nursery.cancel_scope.cancel()


async def test_a_service_manager_is_told_of_the_start_and_the_end_and_a_stalled_loop_feeds_no_watchdog(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with operated(pool.url, redis_url) as all_, service_manager(tmp_path) as (environment, states):
        process, _ = await all_.cluster.start_socket(module="tests.faulty_socket", STALL_S="4", **environment)
        await wait_until(lambda: "READY=1" in states, "the process has told that it serves")
        await wait_until(lambda: states.count("WATCHDOG=1") > 2, "it gives signs of life")
        process.signal(signal.SIGUSR1)
        stalled = await process.wait_event("event_loop_stalled")
        assert "hold_the_loop" in stalled["stack"]
        assert stalled["process"] == "socket"
        states.clear()
        async with httpx.AsyncClient(timeout=1) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{all_.ports['socket']}/healthz")
            assert states == []
            await wait_until(lambda: "WATCHDOG=1" in states, "the loop turns again")
            page = await client.get(f"http://127.0.0.1:{all_.ports['socket']}/metrics")
            assert "alo_event_loop_stalls_total 1\n" in page.text
        assert await process.stop() == 0
        assert states.count("STOPPING=1") == 1


async def test_a_stuck_commit_fails_liveness_and_feeds_no_watchdog(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    async with operated(pool.url, redis_url) as all_, service_manager(tmp_path) as (environment, states):
        process, url = await all_.cluster.start_socket(module="tests.faulty_socket", STUCK="1", **environment)
        async with connect(url, alice.token) as device, trio.open_nursery() as nursery, httpx.AsyncClient() as client:
            nursery.start_soon(_send, device, conversation)
            fault = await process.wait_event("not_live")
            assert "the send queue" in fault["fault"]
            for host in (f"http://127.0.0.1:{all_.ports['socket']}", url.replace("ws:", "http:")):
                live = await client.get(f"{host}/healthz")
                assert (live.status_code, live.json()["status"]) == (503, "unavailable")
            states.clear()
            page = await client.get(f"http://127.0.0.1:{all_.ports['socket']}/metrics")
            assert "alo_live 0\n" in page.text
            assert states == []
            nursery.cancel_scope.cancel()
        process.kill()


async def _send(device: object, conversation: bytes) -> None:
    await device.send(conversation, b"x", temp_id=uuid4().bytes)  # type: ignore[attr-defined]
