"""Runs a task in small batches: short transactions, with pauses between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from jobs.engine.job import Job

PAUSE_S: Final = 0.1
"""Between batches, so that sends are not delayed."""

MAX_RUN_S: Final = 30.0
"""After this, a run ends with its present batch; the next run goes on."""

TIMEOUT_S: Final = 120.0
"""Timeout of such a task: `MAX_RUN_S`, and time for the last batch."""


async def in_batches(job: Job, batch: Callable[[], Awaitable[int]], what: str) -> bool:
    """Run batches until one finds nothing to do, or `MAX_RUN_S` is over; returns whether nothing was left.

    :param batch: does a part, in transactions of its own, and returns how many items it handled.
    :param what: the name of the items in progress reports.
    """
    ends_at = trio.current_time() + MAX_RUN_S
    done = 0
    while count := await batch():
        done += count
        await job.report(f"{done} {what}")
        if trio.current_time() >= ends_at:
            return False
        await trio.sleep(PAUSE_S)
    return True
