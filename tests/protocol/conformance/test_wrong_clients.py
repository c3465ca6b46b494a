"""A wrong client fails each scenario, for the reason for which it is wrong."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from protocol.conformance.player import play
from protocol.conformance.scenario import Scenario, load_scenarios
from tests.protocol.conformance.kit_world import open_python_client, skipping_clock
from tests.protocol.conformance.wrong_clients import WRONG

SCENARIOS = load_scenarios()


@pytest.fixture
def clock() -> MockClock:
    return skipping_clock()


def test_each_scenario_has_a_wrong_client() -> None:
    assert [each.name for each in SCENARIOS] == sorted(WRONG)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
async def test_the_python_client_passes_a_scenario_and_a_wrong_one_fails_it(
    scenario: Scenario, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_python_client() as adapter:
        passed = await play(scenario, adapter)
    assert (passed.verdict, passed.reason) == ("passed", "")
    wrong = WRONG[scenario.name]
    wrong.change(monkeypatch)
    async with open_python_client() as adapter:
        failed = await play(scenario, adapter)
    assert failed.verdict == "failed"
    assert wrong.reason in failed.reason
