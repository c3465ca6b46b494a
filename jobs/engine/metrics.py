"""The figures of a worker's queue; `runtime/metrics/other_tables.py` describes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from jobs.engine.run import Run
from jobs.engine.task import Task
from runtime.metrics.samples import Sample
from store.distribution import Distribution
from store.jobs import TaskStatus

OUTCOMES: Final = ("done", "retry", "snoozed", "dead", "cancelled", "left")
"""How runs end; `left`: another worker begins the job again."""

_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)


class Metrics:
    """The metrics of one worker.

    :param tasks: all of them, so that each has figures from the start.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        names = [task.name for task in tasks]
        self._waits = {name: Distribution(_BUCKETS_S) for name in names}
        self._runs = {name: Distribution(_BUCKETS_S) for name in names}
        self._ended = Counter({(name, outcome): 0 for name in names for outcome in OUTCOMES})
        self._status = {name: TaskStatus(name) for name in names}
        self._in_redis: dict[str, int] = {}
        self._running = 0

    def started(self, run: Run) -> None:
        self._running += 1
        self._waits[run.task.name].observe(run.entry.waited_ms / 1000)

    def ended(self, run: Run, seconds: float) -> None:
        task, ending = run.task.name, run.ending
        outcome = "left" if ending is None else "dead" if ending.is_death else ending.outcome
        self._running -= 1
        self._runs[task].observe(seconds)
        self._ended[task, outcome] += 1

    def update(self, status: Iterable[TaskStatus], in_redis: dict[str, int]) -> None:
        """Note the present numbers in Postgres and in Redis."""
        found = {each.task: each for each in status}
        # Only tasks that this worker knows: a label stays for ever.
        self._status = {name: found.get(name) or TaskStatus(name) for name in self._status}
        self._in_redis = in_redis

    def samples(self) -> Iterator[Sample]:
        yield Sample("alo_jobs_running", self._running)
        for (task, outcome), ended in self._ended.items():
            yield Sample("alo_job_runs_total", ended, (task, outcome))
        for task, each in self._status.items():
            yield Sample("alo_job_wait_seconds", self._waits[task], (task,))
            yield Sample("alo_job_run_seconds", self._runs[task], (task,))
            for state in ("waiting", "delayed", "running", "dead"):
                yield Sample("alo_jobs", getattr(each, state), (task, state))
            yield Sample("alo_job_oldest_seconds", each.oldest_s or 0, (task,))
            yield Sample("alo_task_paused", int(each.is_paused), (task,))
            yield Sample("alo_jobs_in_redis", self._in_redis.get(task, 0), (task,))
