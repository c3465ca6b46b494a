"""Several processes of a kind on one machine, as operators number them."""

from __future__ import annotations

from typing import Final

import httpx
import trio

from embedded.ports import free_port, is_free
from runtime.config import PORT_STEP
from runtime.operations import PORT_STEPS
from tests.processes import Cluster, Process
from tests.waiting import wait_until

READY_S: Final = 120.0
"""Several processes start at a time, beside the load."""

EXIT_S: Final = 25.0
"""Promised (P10), after the grace."""


class Instances:
    """Processes of each kind, each with INSTANCE and the same variables for its ports.

    :ivar settings: these variables.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._first = _free_ports()
        self.settings = {
            "PORT": str(self._first),
            "SOCKET_PORT": str(self._first + 1),
            "METRICS_PORT": str(self._first + 2),
        }
        self._processes: dict[tuple[str, int], Process] = {}

    def address(self, kind: str, instance: int) -> str:
        """HOST:PORT for clients; of a worker, which has none, for operators."""
        if kind == "worker":
            return f"127.0.0.1:{self.operator_port(kind, instance)}"
        return f"127.0.0.1:{self._first + (kind == 'socket') + (instance - 1) * PORT_STEP}"

    def operator_port(self, kind: str, instance: int) -> int:
        return self._first + 2 + PORT_STEPS[kind] + (instance - 1) * PORT_STEP

    def process(self, kind: str, instance: int) -> Process:
        return self._processes[kind, instance]

    async def start(self, kind: str, instance: int) -> None:
        """Start it, and wait until it is ready."""
        command = ("jobs",) if kind == "worker" else ("server", kind)
        process = await self._cluster.start(*command, INSTANCE=str(instance), **self.settings)
        self._processes[kind, instance] = process
        try:
            await process.wait_event("working" if kind == "worker" else "listening", timeout_s=READY_S)
        except trio.TooSlowError:
            raise AssertionError(f"{kind} {instance} does not listen: {process.raw}") from None
        async with httpx.AsyncClient(timeout=READY_S) as client:

            async def is_ready() -> bool:
                return (await client.get(f"http://{self.address(kind, instance)}/readyz")).status_code == 200

            await wait_until(is_ready, f"{kind} {instance} is ready", timeout_s=READY_S)

    async def restart(self, kind: str, instance: int, *, grace_s: float) -> None:
        """
        :param grace_s: READY_GRACE_S of the process.
        """
        process = self._processes[kind, instance]
        assert await process.stop(timeout_s=grace_s + EXIT_S) == 0
        assert [line for line in process.log if line["level"] in ("error", "critical")] == []
        await self.start(kind, instance)


def _free_ports() -> int:
    first = free_port()
    while not all(is_free(first + step) for step in (*range(5), *range(10, 15), 21, 23, 31, 33)):
        first = free_port()
    return first
