"""The report of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from protocol.conformance.player import Result
from protocol.conformance.report import as_json, as_table, sections_of
from protocol.conformance.scenario import Scenario, load_scenarios
from protocol.conformance.sections import NOT_COVERED, RULES

SPEC = Path(__file__).parents[3] / "protocol" / "SPEC.md"


def scenario(name: str, *sections: str) -> Scenario:
    return Scenario(name, f"do {name}", list(sections), [])


RESULTS = [
    Result(scenario("one", "5.2", "10.1"), "passed", 0.25),
    Result(scenario("two", "5.2", "5.10"), "failed", 1.0, "nothing came", 3),
    Result(scenario("three", "19.3", "10.1"), "left out", reason="the adapter cannot do: devices"),
]


def sections_of_the_specification() -> set[str]:
    """Its numbered paragraphs, and the chapters and parts that have text above the first of these."""
    found, heading = set(), ""
    for line in SPEC.read_text().splitlines():
        if told := re.match(r"#+ (\d+(?:\.\d+)*)\.? ", line):
            heading = told[1]
            found.update([heading] if "." in heading else [])
        elif told := re.match(r"(\d+(?:\.\d+)+) ", line):
            found.add(told[1])
            heading = ""
        elif line.strip() and heading:
            found.add(heading)
            heading = ""
    return found


def test_each_section_of_the_specification_is_tested_or_there_is_a_reason() -> None:
    tested = {section for each in load_scenarios() for section in each.sections} | set(RULES)
    specified = sections_of_the_specification()
    chapters = tuple(each.removesuffix("*") for each in NOT_COVERED if each.endswith("*"))
    excused = {each for each in NOT_COVERED if not each.endswith("*")}
    assert sorted(tested & excused) == []
    assert sorted(each for each in specified - tested - excused if not each.startswith(chapters)) == []
    assert sorted((tested | excused) - specified) == []


def test_a_section_failed_if_a_scenario_about_it_did_and_is_left_out_if_all_were() -> None:
    told = {section: verdict for section, verdict in sections_of(RESULTS).items() if section not in RULES}
    assert list(told.items()) == [
        ("5.2", "failed"),
        ("5.10", "failed"),
        ("10.1", "passed"),
        ("19.3", "left out"),
    ]


def test_a_scenario_that_passed_has_tested_the_rules_that_hold_at_any_time() -> None:
    assert {sections_of(RESULTS)[section] for section in RULES} == {"passed"}
    assert not RULES & sections_of(RESULTS[1:]).keys()
    broken = Result(scenario("four", "5.2"), "failed", 1.0, "SPEC 13.1: another token", 2, "13.1")
    assert sections_of([broken]) == {"5.2": "failed", "13.1": "failed"}
    assert sections_of([*RESULTS, broken])["13.1"] == "failed"


def test_the_report_for_programs_has_each_scenario_and_section() -> None:
    report = json.loads(json.dumps(as_json("robot/1", RESULTS)))
    assert (report["client"], report["protocol_version"]) == ("robot/1", 1)
    assert [(each["name"], each["verdict"], each["step"]) for each in report["scenarios"]] == [
        ("one", "passed", None),
        ("two", "failed", 3),
        ("three", "left out", None),
    ]
    assert report["sections"]["19.3"] == "left out"
    assert report["not_covered"] == NOT_COVERED


def test_the_report_for_people_says_why_a_scenario_failed() -> None:
    table = as_table("robot/1", RESULTS)
    assert table.startswith("robot/1, version 1 of the protocol: 1 passed, 1 failed, 1 left out\n")
    assert "two, step 3: do two\n    nothing came" in table
    assert "three: do three\n    the adapter cannot do: devices" in table
    assert "    2.3 2.3.1 14 15: It is about bytes of frames: the test vectors test it.\n" in table
