"""The metrics of a worker, for Prometheus.

| name | meaning |
|---|---|
| `alo_job_wait_seconds{task}` | time from when a job is due until its run begins |
| `alo_job_run_seconds{task}` | duration of runs |
| `alo_job_runs_total{task, outcome}` | runs that ended: done, retry, snoozed, dead, cancelled, left to another worker |
| `alo_jobs{task, state}` | durable jobs: waiting, delayed, running, dead |
| `alo_jobs_in_redis{task}` | entries in Redis: volatile jobs, and durable jobs that are handed in or run |
| `alo_job_oldest_seconds{task}` | how long the oldest waiting job has been due; 0 if none waits |
| `alo_task_paused{task}` | 1 while a task is paused |

The worker shows the metrics that tasks declare (`Task.metrics`) beside these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from jobs.engine.run import Run
from jobs.engine.task import Task
from store.jobs import TaskStatus

_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)


class Metrics:
    """The metrics of one worker.

    :param tasks: all of them, so that each has figures from the start.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        waits = Histogram("alo_job_wait_seconds", "Due to begun", ["task"], buckets=_BUCKETS_S, registry=to)
        runs = Histogram("alo_job_run_seconds", "Of runs", ["task"], buckets=_BUCKETS_S, registry=to)
        self._ended = Counter("alo_job_runs_total", "Runs that have ended", ["task", "outcome"], registry=to)
        self._jobs = Gauge("alo_jobs", "Durable jobs", ["task", "state"], registry=to)
        self._in_redis = Gauge("alo_jobs_in_redis", "Entries in Redis", ["task"], registry=to)
        self._oldest = Gauge("alo_job_oldest_seconds", "Age of the oldest that waits", ["task"], registry=to)
        self._paused = Gauge("alo_task_paused", "Whether a task is paused", ["task"], registry=to)
        self._waits, self._runs, self._done = {}, {}, {}
        for task in tasks:
            self._waits[task.name] = waits.labels(task.name)
            self._runs[task.name] = runs.labels(task.name)
            self._done[task.name] = self._ended.labels(task.name, "done")
            for metric in task.metrics:
                to.register(metric)

        self.update([], {})

    def started(self, run: Run) -> None:
        self._waits[run.task.name].observe(run.entry.waited_ms / 1000)

    def ended(self, run: Run, seconds: float) -> None:
        task, ending = run.task.name, run.ending
        outcome = "left" if ending is None else "dead" if ending.is_death else ending.outcome
        self._runs[task].observe(seconds)
        if outcome == "done":
            self._done[task].inc()
        else:
            self._ended.labels(task, outcome).inc()

    def update(self, status: Iterable[TaskStatus], in_redis: dict[str, int]) -> None:
        """Set the gauges to the present numbers in Postgres and in Redis."""
        found = {each.task: each for each in status}
        # Only tasks that this worker knows: a label stays for ever.
        for task in self._waits:
            each = found.get(task) or TaskStatus(task)
            for state in ("waiting", "delayed", "running", "dead"):
                self._jobs.labels(task, state).set(getattr(each, state))
            self._oldest.labels(task).set(each.oldest_s or 0)
            self._paused.labels(task).set(each.is_paused)
            self._in_redis.labels(task).set(in_redis.get(task, 0))
