"""What `ops doctor` says of the processes of this machine: real ones, as they serve, refuse and hang."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from embedded.ports import free_port
from embedded.redis import RedisServer
from runtime.config import Config
from server.cli.checks import processes
from server.cli.checks.finding import Finding, Level
from server.cli.checks.processes import AskedHealth, check_processes, parse_health
from store.postgres.pool import Pool
from tests.faults import set_redis
from tests.processes import open_cluster
from tests.waiting import wait_until


async def found(config: Config) -> list[Finding]:
    return [each async for each in check_processes(config)]


async def test_a_process_is_ready_or_says_why_not_or_hangs_with_its_pid_and_state(
    pool: Pool, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    config = Config(metrics_port=port - 1)
    monkeypatch.setattr(processes, "LIVES_S", 0.5)
    async with open_cluster(pool.url, own_redis.url, METRICS_PORT=str(config.metrics_port)) as cluster:
        socket, _ = await cluster.start_socket()

        async def shown() -> list[Finding]:
            """Processes of other tests may listen on the ports that come next."""
            return [each for each in await found(config) if f"(port {port})" in each.found]

        async def level() -> Level:
            [finding] = await shown()
            return finding.level

        await wait_until(lambda: _is(level, Level.OK), "the socket is ready")
        assert [each.found for each in await shown()] == [f"socket 1 (port {port}) is ready"]

        set_redis(own_redis.url, "maxmemory-policy", "allkeys-lru")
        await wait_until(lambda: _is(level, Level.ERROR), "the socket is not ready")
        [finding] = await shown()
        assert finding.found == f"socket 1 (port {port}) is not ready: Redis may evict keys"
        set_redis(own_redis.url, "maxmemory-policy", "noeviction")

        socket.signal(signal.SIGSTOP)
        [finding] = await shown()
        socket.signal(signal.SIGCONT)
        assert finding.level is Level.ERROR
        assert f"socket 1 (port {port}) hangs" in finding.found
        assert f"process {socket.pid} is stopped by a signal" in finding.found
        assert f"kill -CONT {socket.pid}" in finding.advice
        assert "systemctl status alo-socket@1" in finding.advice
    assert await shown() == [], "a process that has ended does not hang"


async def _is(level: object, wanted: Level) -> bool:
    assert callable(level)
    return bool(await level() is wanted)


@asynccontextmanager
async def answering(port: int, answer: bytes) -> AsyncGenerator[None]:
    """Another program on a port."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, serve, port, host="127.0.0.1"))
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"status": "ok"}', AskedHealth(200, "")),
        (b'HTTP/1.1 503 x\r\n\r\n{"status": "unavailable", "reason": "stuck"}', AskedHealth(503, "stuck")),
        (b"HTTP/1.1 404 Not Found\r\n\r\nnot here", None),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"", None),
    ],
)
async def test_another_program_on_the_port_is_no_process_of_this_product(
    answer: bytes, parsed: AskedHealth | None
) -> None:
    assert parse_health(answer) == parsed
    port = free_port()
    async with answering(port, answer):
        [finding] = await found(Config(metrics_port=port))
    shown = {None: "none runs on this machine", "": f"web 1 (port {port}) is ready"}
    assert shown.get(parsed and parsed.reason, f"web 1 (port {port}) is stuck: stuck") in finding.found


async def test_without_ports_for_operators_no_process_is_asked() -> None:
    assert [each.found for each in await found(Config(metrics_port=0))] == ["not visible: METRICS_PORT is 0"]
