"""Processes that are forked from the template are as those that are started afresh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.process_template import ROOT
from tests.waiting import wait_until_blocking

COMMAND = [sys.executable, "-m", "tests.told_process"]


@pytest.fixture(scope="module")
def template() -> None:
    """A template that is ready: processes before that start as usual."""
    wait_until_blocking(lambda: told("a")["is_forked"], "the template is ready", timeout_s=60)


def told(*arguments: str, **options: Any) -> dict[str, Any]:
    result = subprocess.run([*COMMAND, *arguments], stdout=subprocess.PIPE, check=True, **options)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_forked_process_has_what_it_was_given(template: None) -> None:
    environment = {**os.environ, "SOME": "vält"}
    forked, fresh = (told("a", "b c", env={**environment, **more}) for more in ({}, {"COLD_START": "1"}))
    assert (forked.pop("is_forked"), fresh.pop("is_forked")) == (True, False)
    assert fresh["environment"].pop("COLD_START") == "1"
    assert forked.pop("pid") != fresh.pop("pid")
    assert forked == fresh
    assert forked["parent"] == os.getpid()
    assert forked["environment"] == environment
    assert forked["arguments"] == [str(ROOT / "tests" / "told_process.py"), "a", "b c"]
    assert forked["files"] == [0, 1, 2]


@pytest.mark.parametrize("status", ["0", "7", "text", "error", "signal", "abort"])
def test_a_forked_process_ends_as_a_fresh_one(template: None, status: str) -> None:
    ends = [
        subprocess.run([*COMMAND, "--exit", status], capture_output=True, env={**os.environ, **more})
        for more in ({}, {"COLD_START": "1"})
    ]
    statuses = [(end.returncode, end.stdout, end.stderr.splitlines()[-1:]) for end in ends]
    assert statuses[0] == statuses[1]
    assert ends[0].returncode == {"0": 0, "7": 7, "signal": -signal.SIGKILL, "abort": -signal.SIGABRT}.get(status, 1)
    assert ends[0].stdout == b"goodbye\n" * (status not in ("signal", "abort"))


async def test_trio_waits_for_a_forked_process_and_kills_it(template: None) -> None:
    process = await trio.lowlevel.open_process([*COMMAND, "--wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    await process.stdin.send_all(b"line\n")
    assert await process.stdout.receive_some() == b"line\n"
    assert process.returncode is None
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert await process.stdout.receive_some() == b""
    await process.stdin.aclose()
    await process.stdout.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"PYTHONPATH": "/nowhere", "PATH": os.defpath}},
        {"start_new_session": True},
        {"preexec_fn": lambda: None},
        {"env": {"COLD_START": "1"}},
    ],
    ids=["variables of Python", "a session of its own", "a function before the start", "asked for"],
)
def test_a_process_that_a_template_would_change_starts_afresh(template: None, options: dict[str, Any]) -> None:
    assert not told(**options)["is_forked"]


def test_a_process_in_another_folder_starts_afresh(template: None, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "told_process.py").write_text('print(\'{"is_forked": false, "is": "another"}\')')
    assert told(cwd=tmp_path) == {"is_forked": False, "is": "another"}
