"""What each process has for its operators: the port for metrics and health, the watch of its event loop, and figures
for the operations page."""

from __future__ import annotations

from typing import Final

import trio

from runtime.config import Config
from runtime.figure_sharing import FigureSharing
from runtime.health import Health
from runtime.loop_watch import LoopWatch
from runtime.metrics.page import MetricsPage
from runtime.metrics.process_samples import ProcessFigures
from runtime.metrics.samples import Source
from runtime.operator_port import serve_operators
from store.redis.client import Redis

PORT_STEPS: Final = {"web": 0, "socket": 1, "worker": 2}
"""Process -> what its port is above METRICS_PORT, if it is the first of its kind on this machine."""


def operator_port(config: Config, process: str) -> int:
    """The port on which a process serves its operators; 0: none."""
    return config.metrics_port and config.metrics_port + PORT_STEPS[process] + config.port_shift


async def operate(
    config: Config,
    process: str,
    health: Health,
    *sources: Source,
    id: str,
    bus: Redis,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the operators of a process, watch its event loop, and share its figures, until cancelled. Started once the
    port is open.

    :param process: "web", "socket" or "worker".
    :param sources: of the process's metrics, besides those that all processes have.
    :param id: of the process, as its log lines have it.
    :param bus: the Redis of the nodes, which the process runs.
    :raises ConfigError: if the process cannot listen on the port.
    """
    watch, figures, page = LoopWatch(health.liveness_fault), ProcessFigures(), MetricsPage(process)
    page.add(figures.samples, watch.samples, health.samples, *sources)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            nursery.start_soon(FigureSharing(bus, id, process, page, health).run)
            if port := operator_port(config, process):
                await nursery.start(serve_operators, config.metrics_host, port, page, health)
            task_status.started()
    finally:
        figures.close()
