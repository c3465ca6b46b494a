"""The figures of `bench.batches`."""

from __future__ import annotations

from typing import Any

from bench.batches import summarize_batches
from bench.envelopes import KINDS, PLAIN

MORE = {PLAIN: 0.0, "versioned": 0.5, "control": 1.5, "envelopes": 12.0}


def rounds(machine: list[float], more: dict[str, float]) -> list[dict[str, Any]]:
    """Rounds in which the machine is slower or faster."""
    return [{"round": n, **{kind: base + more[kind] for kind in KINDS}} for n, base in enumerate(machine)]


def test_the_difference_within_a_round_counts() -> None:
    lines = summarize_batches(rounds([40.0, 90.0, 50.0, 300.0], MORE))
    [control] = [line for line in lines if line["what"] == "control" and line["kind"] == "summary"]
    assert (control["more_postgres_us"], control["unsure_postgres_us"], control["rounds"]) == (1.5, 0.0, 4)
    assert [line["is_within"] for line in lines if line["kind"] == "requirement"] == [True] * 3


def test_a_cost_above_its_bar_is_told_and_how_sure_it_is() -> None:
    runs = rounds([40.0] * 4, MORE)
    for n, each in enumerate(runs):
        each["versioned"] += n
    lines = summarize_batches(runs)
    [versioned] = [line for line in lines if line["what"] == "versioned" and line["kind"] == "summary"]
    assert (versioned["more_postgres_us"], versioned["unsure_postgres_us"]) == (2.0, 1.96)
    missed = [line["what"] for line in lines if line["kind"] == "requirement" and not line["is_within"]]
    assert missed == ["versioned"]


def test_no_round_has_no_figures() -> None:
    assert [line["rounds"] for line in summarize_batches([])] == [0] * len(KINDS)
