"""`python -m protocol.conformance`, as an author of a client types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.conformance.__main__ import main
from protocol.conformance.scenario import load_scenarios

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 120
ABOUT = '{"id": 1, "name": "robot/1", "can": []}'

Output = pytest.CaptureFixture[str]


@pytest.fixture
def output(capsys: Output) -> Output:
    """What the command prints."""
    return capsys


def run(output: Output, *arguments: str) -> tuple[int | str, str, str]:
    """The exit status, or what Python prints for it, and what the command has printed."""
    try:
        status: int | str = main(arguments)
    except SystemExit as end:
        status = str(end.code)
    return status, *output.readouterr()


OVER_A_PIPE = ("edit_conflict", "lag", "lost_reply", "move", "outgoing_order", "stop_and_resume")
"""Scenarios in which an adapter has to do several things at once. `test_wrong_clients.py` plays all of them."""


def test_the_python_client_passes_as_a_process_of_its_own(tmp_path: Path, output: Output) -> None:
    report = tmp_path / "report.json"
    chosen = [each for name in OVER_A_PIPE for each in ("--scenario", name)]
    options = ["--json", str(report), "--jobs", "3", "--patience-s", "30"]
    status, told, _ = run(output, *options, *chosen, "--", sys.executable, "-m", "client.conformance")
    read = json.loads(report.read_text())
    assert {each["name"]: each["reason"] for each in read["scenarios"]} == dict.fromkeys(OVER_A_PIPE, "")
    assert status == 0
    assert f"{len(OVER_A_PIPE)} passed, 0 failed, 0 left out" in told
    assert set(read["sections"].values()) == {"passed"}


def test_the_command_ends_quietly_if_its_reader_has_seen_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "protocol.conformance", "--list"]
    ended = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


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
def test_a_broken_adapter_is_named_and_gives_another_status_than_a_wrong_client(
    adapter: str, reason: str, output: Output
) -> None:
    status, told, error = run(output, "--scenario", "pings", "--", sys.executable, "-c", adapter)
    assert (status, told) == (2, "")
    assert reason in error


def test_an_adapter_that_ends_in_a_scenario_fails_it(output: Output) -> None:
    adapter = f"import sys; sys.stdin.readline(); print('{ABOUT}', flush=True); sys.stdin.readline()"
    status, told, _ = run(output, "--scenario", "pings", "--", sys.executable, "-c", adapter)
    assert status == 1
    assert "the adapter has ended" in told


def test_scenarios_that_need_what_an_adapter_cannot_do_are_left_out(output: Output) -> None:
    adapter = f"import sys; sys.stdin.readline(); print('{ABOUT}', flush=True); sys.stdin.read()"
    chosen = ["--scenario", "edit_conflict", "--scenario", "device_list"]
    status, told, _ = run(output, *chosen, "--", sys.executable, "-c", adapter)
    assert status == 0
    assert "robot/1, version 1 of the protocol: 0 passed, 0 failed, 2 left out" in told
    assert "the adapter cannot do: devices" in told


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ((), 2, "give the command that starts the adapter, or --by-hand"),
        (("--scenario", "nonsense", "--list"), "no scenario is called nonsense; --list prints all", ""),
        (("--", "/nonsense"), 2, "the adapter '/nonsense' cannot be started"),
    ],
)
def test_a_wrong_call_is_refused_with_a_hint(
    arguments: tuple[str, ...], status: int | str, reason: str, output: Output
) -> None:
    ended, told, error = run(output, *arguments)
    assert (ended, told) == (status, "")
    assert reason in error


def test_the_check_list_has_each_scenario_that_a_person_can_play(output: Output) -> None:
    _, told, _ = run(output, "--list")
    names = {line.split("`")[1] for line in told.splitlines()[2:]}
    assert "lag" in names
    assert "device_list" not in names
    assert names <= {each.name for each in load_scenarios()}


def test_a_person_is_asked_on_the_terminal(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts a client here: the person says so."""
    typed = iter(["", "n", ""])
    asked: list[str] = []

    def type_next(text: str) -> str:
        asked.append(text)
        return next(typed)

    monkeypatch.setattr("builtins.input", type_next)
    status, told, _ = run(output, "--by-hand", "--scenario", "revoked")
    assert status == 1
    assert "Start the client, with nothing stored. Its server has the addresses ws://127.0.0.1:" in asked[0]
    assert "the person says that it is not so" in told


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(EOFError, 1, "the input has ended: nobody drives the client"), (KeyboardInterrupt, 130, "")],
)
def test_a_person_may_leave(
    error: type[BaseException], status: int, reason: str, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: str) -> str:
        raise error

    monkeypatch.setattr("builtins.input", leave)
    ended, told, _ = run(output, "--by-hand", "--scenario", "revoked")
    assert ended == status
    assert reason in told
