"""How a run ends when it is stopped, or takes too long."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jobs.engine.job import Job
from jobs.engine.run import Run
from jobs.engine.streams import JobEntry, JobStream
from jobs.engine.task import Task


async def _report(_: str) -> None:
    pass


async def run_with(task: Task, stop_reason: str) -> Run:
    """A run that is stopped once all tasks are blocked."""
    run = Run(task, JobEntry(JobStream(task.name, 1), b"1-0", 1, "", b"", 0, "", 0), b"{}", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run, Job(run.id, task.name, 1, _report))
        if stop_reason:
            await trio.testing.wait_all_tasks_blocked()
            run.stop(stop_reason)
    return run


async def hang(job: Job) -> None:
    await trio.sleep_forever()


async def break_on_the_way_out(job: Job) -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cannot close")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize(
    ("stop_reason", "outcome"), [("", "retry"), ("cancelled", "cancelled"), ("stopped", "snoozed"), ("lost", None)]
)
async def test_a_run_that_is_stopped_ends_as_is_wished_and_one_that_takes_too_long_has_failed(
    stop_reason: str, outcome: str | None, autojump_clock: trio.testing.MockClock
) -> None:
    run = await run_with(Task(hang, timeout_s=5), stop_reason)
    assert (run.ending.outcome if run.ending else None) == outcome
    assert stop_reason or (run.ending is not None and run.ending.reason == "not done within 5 s")


@pytest.mark.parametrize(
    ("stop_reason", "outcome", "said"), [("", "retry", "cannot close"), ("stopped", "snoozed", "")]
)
async def test_error_raised_on_timeout_fails_the_run_and_no_other_and_one_raised_by_a_stop_is_no_failure(
    stop_reason: str, outcome: str, said: str, autojump_clock: trio.testing.MockClock
) -> None:
    run = await run_with(Task(break_on_the_way_out, timeout_s=5), stop_reason)
    assert run.ending is not None
    assert run.ending.outcome == outcome
    assert said in (run.ending.traceback or "")
