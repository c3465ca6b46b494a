"""`python -m protocol.conformance`, as an author of a client types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.conformance.scenario import load_scenarios

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 120
ABOUT = '{"id": 1, "name": "robot/1", "can": []}'


def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "protocol.conformance", *arguments]
    return subprocess.run(
        command, cwd=ROOT, input=typed, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def test_the_python_client_passes_all_scenarios_as_a_process_of_its_own(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run("--json", str(report), "--patience-s", "30", "--", sys.executable, "-m", "client.conformance")
    told = json.loads(report.read_text())
    assert {each["name"]: each["reason"] for each in told["scenarios"] if each["verdict"] != "passed"} == {}
    assert (result.returncode, result.stderr) == (0, "")
    assert [each["name"] for each in told["scenarios"]] == [each.name for each in load_scenarios()]
    assert f"{len(load_scenarios())} passed, 0 failed, 0 left out" in result.stdout
    assert set(told["sections"].values()) == {"passed"}


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ("", "the adapter has ended"),
        ("print('hello')", "writes a line that is not JSON"),
        ("print('[]')", "must be an object with the `id`"),
        ("""print('{"id": 1}')""", "the answer to `about` must have `name`"),
        ("""print('{"id": 1, "error": "not now"}')""", "with the error 'not now'"),
    ],
)
def test_a_broken_adapter_is_named_and_gives_another_status_than_a_wrong_client(adapter: str, reason: str) -> None:
    result = run("--scenario", "pings", "--", sys.executable, "-c", adapter)
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_an_adapter_that_ends_in_a_scenario_fails_it() -> None:
    adapter = f"import sys; sys.stdin.readline(); print('{ABOUT}', flush=True); sys.stdin.readline()"
    result = run("--scenario", "pings", "--", sys.executable, "-c", adapter)
    assert result.returncode == 1
    assert "the adapter has ended" in result.stdout


def test_scenarios_that_need_what_an_adapter_cannot_do_are_left_out() -> None:
    adapter = f"import sys; sys.stdin.readline(); print('{ABOUT}', flush=True); sys.stdin.read()"
    result = run("--scenario", "edit_conflict", "--scenario", "device_list", "--", sys.executable, "-c", adapter)
    assert result.returncode == 0
    assert "robot/1, version 1 of the protocol: 0 passed, 0 failed, 2 left out" in result.stdout
    assert "the adapter cannot do: devices" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ((), 2, "give the command that starts the adapter, or --by-hand"),
        (("--scenario", "nonsense", "--list"), 1, "no scenario is called nonsense; --list prints all"),
        (("--", "/nonsense"), 2, "the adapter '/nonsense' cannot be started"),
    ],
)
def test_a_wrong_call_is_refused_with_a_hint(arguments: tuple[str, ...], status: int, reason: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_the_check_list_has_each_scenario_that_a_person_can_play() -> None:
    lines = run("--list").stdout.splitlines()[2:]
    names = {line.split("`")[1] for line in lines}
    assert "lag" in names
    assert "device_list" not in names
    assert names <= {each.name for each in load_scenarios()}


def test_a_person_is_told_what_to_do_and_asked_what_the_client_shows() -> None:
    """Nobody starts a client here: the person says so."""
    result = run("--by-hand", "--scenario", "revoked", typed="\nn\n\n")
    assert result.returncode == 1
    assert "Start the client, with nothing stored. It connects to [ws://127.0.0.1:" in result.stdout
    assert "the person says that it is not so" in result.stdout
