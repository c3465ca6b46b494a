"""The report of a run."""

from __future__ import annotations

import json

from protocol.conformance.player import Result
from protocol.conformance.report import as_json, as_table, sections_of
from protocol.conformance.scenario import Scenario


def scenario(name: str, *sections: str) -> Scenario:
    return Scenario(name, f"do {name}", list(sections), [])


RESULTS = [
    Result(scenario("one", "5.2", "10.1"), "passed", 0.25),
    Result(scenario("two", "5.2", "5.10"), "failed", 1.0, "nothing came", 3),
    Result(scenario("three", "19.3", "10.1"), "left out", reason="the adapter cannot do: devices"),
]


def test_a_section_failed_if_a_scenario_about_it_did_and_is_left_out_if_all_were() -> None:
    assert list(sections_of(RESULTS).items()) == [
        ("5.2", "failed"),
        ("5.10", "failed"),
        ("10.1", "passed"),
        ("19.3", "left out"),
    ]


def test_the_report_for_programs_has_each_scenario_and_section() -> None:
    report = json.loads(json.dumps(as_json("robot/1", RESULTS)))
    assert (report["client"], report["protocol_version"]) == ("robot/1", 1)
    assert [(each["name"], each["verdict"], each["step"]) for each in report["scenarios"]] == [
        ("one", "passed", None),
        ("two", "failed", 3),
        ("three", "left out", None),
    ]
    assert report["sections"]["19.3"] == "left out"


def test_the_report_for_people_says_why_a_scenario_failed() -> None:
    table = as_table("robot/1", RESULTS)
    assert table.startswith("robot/1, version 1 of the protocol: 1 passed, 1 failed, 1 left out\n")
    assert "two, step 3: do two\n    nothing came" in table
    assert "three: do three\n    the adapter cannot do: devices" in table
