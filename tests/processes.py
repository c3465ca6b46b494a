"""The product's processes, started for real and killed for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from embedded.ports import free_port, is_free
from tests.planted import check_log

START_TIMEOUT_S = 60.0


def three_free_ports() -> int:
    """The first of three ports in a row that are free: those for operators, if METRICS_PORT is the first."""
    while not (is_free((first := free_port()) + 1) and is_free(first + 2)):
        pass
    return first


class Process:
    """`python -m MODULE ...` with its log, which is read as it is written.

    :ivar log: the parsed log lines so far.
    """

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.log: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self._grew = trio.Condition()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait_event(self, event: str, *, timeout_s: float = START_TIMEOUT_S, skip: int = 0) -> dict[str, Any]:
        """The log line with this event, waited for; `skip` ignores as many lines from the beginning of the log."""
        with trio.fail_after(timeout_s):
            async with self._grew:
                while True:
                    for line in self.log[skip:]:
                        if line.get("event") == event:
                            return line
                    if self.returncode is not None:
                        raise AssertionError(f"ended with {self.returncode}: {self.raw}")
                    await self._grew.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no goodbye of any kind."""
        self._process.kill()

    async def stop(self, *, timeout_s: float = 25.0) -> int:
        """SIGTERM, and the exit status; fails if it does not end in time."""
        self._process.send_signal(signal.SIGTERM)
        with trio.fail_after(timeout_s):
            return await self._process.wait()

    async def wait(self) -> int:
        return await self._process.wait()

    async def read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        async for chunk in self._process.stderr:
            *lines, rest = (rest + chunk).split(b"\n")
            async with self._grew:
                for line in lines:
                    self._add(line.decode(errors="replace"))
                self._grew.notify_all()
        await self._process.wait()
        async with self._grew:
            self._grew.notify_all()

    def _add(self, line: str) -> None:
        self.raw.append(line)
        check_log(line)
        if line.startswith("{"):
            self.log.append(json.loads(line))


async def start(nursery: trio.Nursery, *command: str, environment: dict[str, str]) -> Process:
    """Start one process of the product; it is killed when the nursery is left."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", *command],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    running = Process(process)
    nursery.start_soon(_kill_in_the_end, running)
    return running


async def _kill_in_the_end(process: Process) -> None:
    try:
        await process.read_log()
        await trio.sleep_forever()
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


class Cluster:
    """Processes that share one Postgres and one Redis; all on free ports."""

    def __init__(self, nursery: trio.Nursery, database_url: str, redis_url: str, **settings: str) -> None:
        self._nursery = nursery
        # All clients of a test come from one address, and no test of several processes is about limits. Processes of
        # several tests run at the same time, so those whose metrics a test reads get a port by the test.
        most = {"RATE_LIMIT_FACTOR": "1000", "METRICS_PORT": "0"}
        self.environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "LOG_LEVEL": "info",
            **most,
            **settings,
        }
        self.http_url = ""

    async def start_web(self, **settings: str) -> Process:
        port = free_port()
        process = await self._start("server", "web", PORT=str(port), **settings)
        await process.wait_event("listening")
        self.http_url = f"http://127.0.0.1:{port}"
        return process

    async def start_socket(
        self, *, port: int = 0, wait: bool = True, module: str = "server", **settings: str
    ) -> tuple[Process, str]:
        """A gateway and its URL."""
        port = port or free_port()
        process = await self._start(module, "socket", SOCKET_PORT=str(port), **settings)
        if wait:
            await process.wait_event("listening")
        return process, f"ws://127.0.0.1:{port}"

    async def start_worker(self, **settings: str) -> Process:
        process = await self._start("jobs", **settings)
        await process.wait_event("working")
        return process

    async def start(self, *command: str, **settings: str) -> Process:
        """Start any other module of ours; do not wait for it."""
        return await self._start(*command, **settings)

    async def _start(self, *command: str, **settings: str) -> Process:
        return await start(self._nursery, *command, environment={**self.environment, **settings})


@asynccontextmanager
async def open_cluster(database_url: str, redis_url: str, **settings: str) -> AsyncGenerator[Cluster, None]:
    """A cluster without processes yet; those that are started are killed at the end of the block."""
    async with trio.open_nursery() as nursery:
        yield Cluster(nursery, database_url, redis_url, **settings)
        nursery.cancel_scope.cancel()
