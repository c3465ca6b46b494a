"""Work that is done in small batches: short transactions, with pauses for others between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from jobs.engine.job import Job

PAUSE_S: Final = 0.1
"""Between batches: sends come first."""

MAX_RUN_S: Final = 30.0
"""After this a run ends with the batch that it is at; the next run goes on."""

TIMEOUT_S: Final = 120.0
"""For a run of such a task: its batches, and the longest that the last one may take."""


async def in_batches(job: Job, batch: Callable[[], Awaitable[int]], what: str) -> bool:
    """Run batches until one finds nothing, or time is up; whether there was nothing left.

    :param batch: does some of it, in transactions of its own; how much.
    :param what: of what, for the progress of the job.
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
