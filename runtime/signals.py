"""SIGTERM and SIGINT while a process runs."""

from __future__ import annotations

import signal

import structlog
import trio

log = structlog.get_logger(__name__)


async def watch_signals(
    terminated: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set the event on SIGTERM (from a process manager) or SIGINT (Ctrl-C). Runs until cancelled, so that a second
    signal from an impatient operator does not interrupt the shutdown."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("told_to_stop", signal=signal.Signals(number).name)
            terminated.set()
