"""SIGTERM and SIGINT while a process runs."""

from __future__ import annotations

import signal

import structlog
import trio

from runtime.health import Health

log = structlog.get_logger(__name__)


async def watch_signals(
    terminated: trio.Event,
    health: Health,
    grace_s: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """On SIGTERM (from a process manager) or SIGINT (Ctrl-C) tell `/readyz` at once, and after the grace the event.

    A second signal ends the grace. Runs until cancelled, so that further signals from an impatient operator do not
    interrupt the shutdown.

    :param grace_s: the time for load balancers to notice; meanwhile the process serves as before.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        _note(await anext(signals), health)
        with trio.move_on_after(grace_s):
            _note(await anext(signals), health)
        terminated.set()
        async for number in signals:
            _note(number, health)


def _note(number: int, health: Health) -> None:
    log.info("told_to_stop", signal=signal.Signals(number).name)
    if not health.is_stopping:
        health.stopping()
