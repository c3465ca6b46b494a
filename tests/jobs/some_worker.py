"""`python -m tests.jobs.some_worker`: a worker process with a task for tests, which writes down what it has run.

| variable | |
|---|---|
| `TEST_RUNS` | the file that runs are appended to: `+NUMBER ATTEMPT` at the beginning, `-NUMBER ATTEMPT` at the end |
| `TEST_SEED` | which runs fail; see `fate` |
| `TEST_HURRY` | 1: other workers take over from a worker without heartbeats within a second |
| `TEST_PAUSE` | where to stop and wait to be killed; see `PAUSES` |

Appended lines survive SIGKILL: the kernel has them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Final

import structlog
import trio
import trio.lowlevel

from jobs.engine import acknowledger, consumer_group, heartbeat, runner
from jobs.engine.job import GiveUp, Job, Snooze
from jobs.engine.task import Backoff, Task
from jobs.engine.worker import Work, Worker
from runtime.config import Config
from runtime.process import run_process
from store import jobs

log = structlog.get_logger(__name__)

PAUSES: Final = ("taken", "claimed", "running", "done", "settled", "relayed")
"""Taken from Redis, not claimed in Postgres; claimed, not begun; running; done, not written; written, still in Redis;
on the way from Postgres to Redis."""

HOPELESS: Final = 500
"""One job in this many is given up."""


def fate(seed: str, number: int, attempt: int) -> str:
    """The fate of a run, which is the same in each process."""
    if number % HOPELESS == HOPELESS - 1:
        return "hopeless"
    chance = random.Random(f"{seed} {number} {attempt}").random()
    return "fails" if chance < 0.1 else "snoozes" if chance < 0.12 else "succeeds"


class Runs:
    """Writes down what has run."""

    def __init__(self, file: str, seed: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._seed = seed

    async def work(self, job: Job, number: int) -> int:
        os.write(self._file, f"+{number} {job.attempt}\n".encode())
        if os.environ.get("TEST_PAUSE") == "running":
            await _pause()
        if self._seed:
            await trio.lowlevel.checkpoint()
            match fate(self._seed, number, job.attempt):
                case "fails":
                    raise ValueError("as the dice fell")
                case "snoozes" if random.random() < 0.5:
                    raise Snooze(0.05)
                case "hopeless":
                    raise GiveUp("hopeless")
        os.write(self._file, f"-{number} {job.attempt}\n".encode())
        return number


def tasks_of(runs: Callable[..., Awaitable[Any]]) -> list[Task]:
    """The task of these tests, durable and volatile."""
    backoff = Backoff(0.05, 1)
    return [
        Task(runs, backoff=backoff, keep_result_s=60),
        Task(runs, name="volatile_work", is_volatile=True, backoff=backoff, keep_result_s=60),
    ]


async def _pause() -> None:
    log.info("paused")
    await trio.sleep_forever()


def pause_at(where: str) -> None:
    """This process stops when it reaches this place next."""
    before = {
        "taken": [(runner.Runner, "begin")],
        "done": [(acknowledger.Acknowledger, "_end_durable"), (acknowledger.Acknowledger, "_end_volatile")],
        "settled": [(acknowledger.Acknowledger, "_finish")],
    }
    after = {"claimed": "claim", "relayed": "relay"}
    for owner, name in before.get(where, []):
        setattr(owner, name, _pausing(None))
    if where in after:
        setattr(jobs, after[where], _pausing(getattr(jobs, after[where])))


def _pausing(real: Any) -> Any:
    async def pausing(*values: Any, **named: Any) -> Any:
        result = await real(*values, **named) if real is not None else True
        if result:
            await _pause()
        return result

    return pausing


def hurry() -> None:
    """Leases of seconds become such of parts of a second."""
    heartbeat.BEAT_S = 0.1  # type: ignore[misc]
    consumer_group.TAKE_OVER_AFTER_S = 1.0  # type: ignore[misc]
    jobs.CLAIM_S = 0.9  # type: ignore[misc]
    jobs.LEASE_S = 3.0  # type: ignore[misc]
    jobs.FRESH_LEASE_S = 1.0  # type: ignore[misc]


async def _work(config: Config) -> None:
    runs = Runs(os.environ["TEST_RUNS"], os.environ.get("TEST_SEED", ""))
    tasks = {task.name: task for task in tasks_of(runs.work)}
    await Worker(config, lambda *_: nullcontext(Work(tasks))).run()


def main() -> None:
    if os.environ.get("TEST_HURRY"):
        hurry()
    pause_at(os.environ.get("TEST_PAUSE", ""))
    run_process("worker", _work)


if __name__ == "__main__":
    main()
