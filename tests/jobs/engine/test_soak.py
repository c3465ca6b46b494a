"""Thousands of jobs whose runs fail at random, while workers are killed and Redis is flushed: no job is lost (P8)."""

from __future__ import annotations

import json
import sys

import pytest
import trio

from tests.jobs.some_worker import HOPELESS


async def soak(*options: str, timeout_s: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.jobs.soak", *options]
    with trio.fail_after(timeout_s):
        done = await trio.run_process(command, capture_stdout=True, check=False)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1, lines
    outcome: dict[str, float] = json.loads(lines[0])
    assert done.returncode == 0, outcome
    return outcome


@pytest.mark.parametrize(
    ("jobs", "faults", "hurry", "timeout_s"),
    [
        pytest.param(3000, 5, ["--hurry"], 120, id="three thousand"),
        pytest.param(100_000, 16, [], 600, id="a hundred thousand", marks=pytest.mark.long),
    ],
)
async def test_each_job_runs_at_least_once_and_none_is_lost(
    jobs: int, faults: int, hurry: list[str], timeout_s: float
) -> None:
    outcome = await soak("--jobs", str(jobs), "--faults", str(faults), "--seed", "7", *hurry, timeout_s=timeout_s)
    assert (outcome["lost"], outcome["ghosts"], outcome["dead_by_mistake"]) == (0, 0, 0), outcome
    assert outcome["ran"] == outcome["jobs"] > jobs / 2
    assert outcome["failures"] > jobs / 20
    assert 0 < outcome["dead"] <= jobs / HOPELESS
    # There were faults. Their cost is bounded: runs that a killed worker had done and not yet written.
    assert outcome["flushes"] + outcome["kills"] == faults
    assert min(outcome["flushes"], outcome["kills"]) > 0
    assert outcome["duplicates"] < jobs / 20
