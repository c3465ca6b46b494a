"""How many jobs a worker takes before it has room to begin them: those of quick tasks, so that many share a round trip.

A worker with one free slot takes one job, and pays a round trip to Redis and one to Postgres for it. If the runs of a
task take less time than that, further jobs may wait on the worker just as well as in Redis.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobs.engine.task import Task

MAX_AHEAD: Final = 32
"""Jobs that are taken ahead at once. With more, a job's share of the round trips is small beside the job itself."""

AHEAD_S: Final = 0.02
"""By the slowest of the latest runs, jobs that are taken ahead all begin within this time."""

FORGETTING: Final = 0.98
"""Each quicker run makes the slowest count this much less: after 100 runs an eighth. So a task with one slow run in 100
has no jobs taken ahead."""

PUT_BACK_AFTER_S: Final = 0.25
"""Jobs that still wait after this time, because a job before them is slow, go back for other workers; at the latest
after twice this time."""


class TaskPace:
    """Notes how long the runs of each task take."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        # Until their runs have shown it, tasks are not quick.
        self._slowest_s = {task.name: 2 * AHEAD_S for task in tasks if _may_wait(task)}

    def note(self, task: str, seconds: float) -> None:
        """A run of this task took this long."""
        before = self._slowest_s.get(task)
        if before is not None:
            self._slowest_s[task] = max(seconds, before * FORGETTING)

    def ahead(self, task: str) -> int:
        """How many jobs may be taken ahead if all that are taken are of this task."""
        slowest_s = self._slowest_s.get(task)
        if slowest_s is None or slowest_s > AHEAD_S:
            return 0
        return MAX_AHEAD if slowest_s * MAX_AHEAD <= AHEAD_S else int(AHEAD_S / slowest_s)


def _may_wait(task: Task) -> bool:
    """The limits over all workers count jobs when they are taken. And if a worker dies, those that wait on it count as
    begun, as the claim has it: a job with a single attempt would be dead without a run."""
    return task.concurrency is None and task.rate is None and task.attempts > 1
