"""Scenario files: their form, the sections that they name, and the frames that they give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from protocol.codec import decode_from_server
from protocol.conformance.scenario import Scenario, WrongScenario, load_scenarios, read_scenario
from protocol.conformance.stage import Stage
from protocol.conformance.values import encode_fields, read_value
from tests.rows import each_row

ROOT = Path(__file__).parents[3]
SCENARIOS = load_scenarios()
GOOD: dict[str, Any] = {"title": "do well", "sections": ["5.2"], "steps": [{"client": "start"}]}


def test_a_scenario_is_read_with_its_defaults() -> None:
    read = read_scenario("well", GOOD)
    assert read == Scenario("well", "do well", ["5.2"], [{"client": "start"}], talks={"talk": {"messages": ["one"]}})


@each_row(
    ("wrong", "reason"),
    [
        ({"sections": ["5.2"], "steps": []}, "must be an object with title"),
        ({**GOOD, "colour": "red"}, "no other keys"),
        ({**GOOD, "steps": [{"clinet": "start"}]}, "step 1: must have one of the keys"),
        ({**GOOD, "steps": [{"client": "start", "ping": True}]}, "step 1: must have one of the keys"),
        ({**GOOD, "features": ["flying"]}, "no feature is called flying"),
        ([], "must be an object"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_fault(wrong: Any, reason: str) -> None:
    with pytest.raises(WrongScenario, match=reason):
        read_scenario("wrong", wrong)


@each_row("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_scenario_names_sections_of_the_specification_and_gives_reasons_by_them(scenario: Scenario) -> None:
    spec = (ROOT / "protocol" / "SPEC.md").read_text()
    known = {
        *re.findall(r"^(\d+(?:\.\d+)+) ", spec, re.MULTILINE),
        *re.findall(r"^#+ (\d+(?:\.\d+)*)\.? ", spec, re.MULTILINE),
    }
    assert scenario.sections
    assert set(scenario.sections) <= known
    assert scenario.sections == sorted(scenario.sections, key=lambda each: [int(part) for part in each.split(".")])


@each_row("scenario", SCENARIOS, ids=lambda each: each.name)
def test_the_raw_frames_of_a_scenario_are_frames(scenario: Scenario) -> None:
    for step in scenario.steps:
        if step.get("server") == "push":
            frames = [read_value(frame, {}) for frame in step["frames"]]
            known = [frame for frame in frames if isinstance(frame["type"], str)]
            assert len(list(decode_from_server(b"".join(map(encode_fields, frames))))) == len(known)


def test_all_files_of_the_folder_are_scenarios_and_the_readme_names_what_they_use() -> None:
    folder = ROOT / "protocol" / "conformance"
    assert len(SCENARIOS) == len(list((folder / "scenarios").iterdir()))
    readme = (folder / "README.md").read_text()
    for file in (folder / "scenarios").iterdir():
        told = json.loads(file.read_text())
        assert {f"`{key}`" for key in told if f"`{key}`" not in readme} == set(), file
        commands = {step["client"] for step in told["steps"] if "client" in step}
        assert {command for command in commands if f"| `{command}` |" not in readme} == set(), file
        assert {need for need in told.get("needs", ()) if f"`{need}`" not in readme} == set(), file


def test_no_step_of_the_server_goes_unused() -> None:
    """A step that no scenario uses is not tested by any."""
    used = {step["server"] for scenario in SCENARIOS for step in scenario.steps if "server" in step}
    assert used == set(Stage.acts())
