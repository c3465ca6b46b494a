"""All comparisons in one run: the steps, their options, and the results file."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import campaign, contest
from bench.campaign import STEPS, Step, chosen, command
from bench.curves import pages, sends


def entry(step: Step) -> ModuleType:
    module = importlib.import_module(step.module)
    return importlib.import_module(f"{step.module}.__main__") if hasattr(module, "__path__") else module


@pytest.mark.parametrize("is_quick", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_each_program_understands_the_options_of_its_step(
    name: str, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = STEPS[name]
    program, ran = entry(step), []
    monkeypatch.setattr(program, "run_alone", ran.append)
    if hasattr(program, "allow_files"):
        monkeypatch.setattr(program, "allow_files", lambda _: None)
    monkeypatch.setattr(contest, "lacks", lambda _: None)
    _, _, module, *options = command(step, is_quick=is_quick)
    monkeypatch.setattr(sys, "argv", [module, *options])
    program.main()
    assert len(ran) == 1


def test_the_quick_form_leaves_long_steps_out() -> None:
    assert chosen(None, is_quick=False) == list(STEPS)
    assert chosen(None, is_quick=True) == [name for name, step in STEPS.items() if step.quick is not None]
    assert chosen("day,wire", is_quick=True) == ["day", "wire"]


def test_an_unknown_step_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(ValueError, match="no step is called week; the steps are latency, connections"):
        chosen("week,day", is_quick=False)


def test_a_step_that_fails_stops_no_other_and_each_line_has_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {"one": 'print(\'{"kind": "run"}\'); exit(1)', "two": 'print(\'{"kind": "point"}\')'}
    monkeypatch.setattr(campaign, "STEPS", {name: Step(code) for name, code in programs.items()})
    monkeypatch.setattr(campaign, "command", lambda step, **_: [sys.executable, "-c", step.module])
    results = tmp_path / "results.jsonl"
    assert campaign.campaign(programs, results, is_quick=True) is False
    lines: list[dict[str, Any]] = [json.loads(text) for text in results.read_text().splitlines()]
    assert [(line["kind"], line.get("step"), line.get("status")) for line in lines] == [
        ("machine", None, None),
        ("run", "one", None),
        ("step", "one", 1),
        ("point", "two", None),
        ("step", "two", 0),
    ]
    assert lines[0]["cores"] > 0
    campaign.campaign(["two"], results, is_quick=True)
    assert len(results.read_text().splitlines()) == len(lines) + 3


def test_the_cost_of_a_send_is_shared_out_among_its_deliveries() -> None:
    assert sends.per_delivery({"total_us_per_send": 190.0}, 20) == {"total_us_per_delivery": 10.0}
    assert sends.per_delivery({"valid": False}, 20) == {}


def test_no_two_writers_of_a_curve_share_a_user() -> None:
    chats = pages.rows.chats(users=10, neighbours=3)
    users = [participant.user for chat in chats for participant in chat.participants]
    assert len(chats) == 5
    assert len(set(users)) == 10
