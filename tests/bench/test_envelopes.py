"""The figures of `bench.envelopes`."""

from __future__ import annotations

from typing import Any

from bench.envelopes import BARS, KINDS, PLAIN, summarize_envelopes

MORE = {PLAIN: 0.0, "versioned": 0.5, "control": 1.0, "envelopes": 19.0}


def runs(machine: dict[int, float], more: dict[str, float]) -> list[dict[str, Any]]:
    """Rounds in which the machine is slower or faster."""
    return [
        {"round": round_, "what": kind, "postgres_us": base + more[kind], "server_us": base + more[kind] / 2}
        for round_, base in machine.items()
        for kind in KINDS
    ]


def requirements(lines: list[dict[str, Any]]) -> list[bool]:
    return [line["is_within"] for line in lines if line["kind"] == "requirement"]


def test_the_difference_within_a_round_counts_however_fast_the_machine_is() -> None:
    lines = summarize_envelopes(runs({2: 70.0, 3: 300.0, 4: 90.0}, MORE))
    [envelopes] = [line for line in lines if line.get("what") == "envelopes" and line["kind"] == "summary"]
    assert envelopes["more_postgres_us"] == {"median": 19.0, "min": 19.0, "max": 19.0}
    assert envelopes["more_server_us"]["median"] == 9.5
    assert envelopes["unsure_postgres_us"] == 0.0
    assert requirements(lines) == [True] * len(BARS)


def test_a_cost_above_its_bar_is_told() -> None:
    for kind in KINDS[1:]:
        lines = summarize_envelopes(runs({2: 70.0, 3: 80.0}, {**MORE, kind: 45.0}))
        assert requirements(lines).count(False) == sum(of == kind for of, _ in BARS)


def test_a_round_that_was_cut_short_does_not_count() -> None:
    whole = runs({2: 70.0}, MORE)
    assert summarize_envelopes([*whole, *runs({3: 70.0}, MORE)[:2]])[0]["rounds"] == 1
