"""Summaries of runs: medians with their spread, ratios, and whether the speed requirement holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final

from bench.generator import TOTAL
from bench.pace import CLOSED

OURS: Final = "alo"
PLAN: Final = "sio-redis"

CPU: Final = "server_us_per_send"
P50: Final = "ack_p50_ms"
P99: Final = "ack_p99_ms"

CONDITIONS: Final = ("generator_us_per_send", "late_p99_ms", "others_cores")
"""Metrics of the generator and of the machine; summaries show them, but do not compare them."""

METRICS: Final = (
    CPU,
    TOTAL,
    P50,
    P99,
    "delivery_p50_ms",
    "delivery_p99_ms",
    "acked_per_s",
    "postgres_us_per_send",
    "redis_us_per_send",
    "worker_us_per_send",
    "web_us_per_send",
    *CONDITIONS,
)

MOST_CPU: Final = 0.5
"""The most server CPU per acked send that ours may use, as a share of the plan's."""

MOST_TOTAL: Final = 0.35
"""The most total CPU per acked send that ours may use in the closed loop, as a share of the plan's."""

Run = Mapping[str, Any]


def spread(values: Iterable[float], digits: int) -> dict[str, float] | None:
    """Median, least and greatest; None of no values."""
    kept = list(values)
    if not kept:
        return None
    return {
        "median": round(median(kept), digits),
        "min": round(min(kept), digits),
        "max": round(max(kept), digits),
    }


def unsure(values: Sequence[float], digits: int) -> float | None:
    """Half the width of the interval in which the median of all such values lies in 95 of 100 cases, from the quartiles
    of these ones (McGill, Tukey, Larsen: Variations of box plots, 1978). None of fewer than two."""
    if len(values) < 2:
        return None
    first, _, third = quantiles(values, n=4)
    return round(1.57 * (third - first) / math.sqrt(len(values)), digits)


def summarize(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One line for each load and metric, and after those of a load one line with its requirement.

    The closed loop has two requirement lines: no chat idles in it, so the CPU of all processes together is a send's
    cost.
    """
    lines: list[dict[str, Any]] = []
    by_load: dict[str, list[Run]] = {}
    for run in runs:
        by_load.setdefault(run["load"], []).append(run)
    for load, its_runs in by_load.items():
        for metric in METRICS:
            table = by_server(its_runs, metric)
            if table:
                lines.append({"kind": "summary", "load": load, "metric": metric, **_metric(metric, table)})
        lines.append({"kind": "requirement", "load": load, **_requirement(its_runs, "cpu_at_most_half", CPU, MOST_CPU)})
        if load == CLOSED:
            total = _requirement(its_runs, "total_cpu_at_most_0.35", TOTAL, MOST_TOTAL)
            lines.append({"kind": "requirement", "load": load, **total})
    return lines


def ratios(ours: Mapping[int, float], plan: Mapping[int, float]) -> list[float]:
    """Ratios of ours to the plan's, for each round that has both."""
    return [ours[round_] / plan[round_] for round_ in ours if plan.get(round_)]


def by_server(runs: Iterable[Run], metric: str) -> dict[str, dict[int, float]]:
    """A metric's value of every valid run, by server and round."""
    table: dict[str, dict[int, float]] = {}
    for run in runs:
        if run["valid"] and run.get(metric) is not None:
            table.setdefault(run["server"], {})[run["round"]] = run[metric]
    return table


def _metric(metric: str, table: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
    if OURS in table:
        line["rounds"] = len(table[OURS])
        if PLAN in table and metric not in CONDITIONS:
            line["ours_to_plan"] = spread(ratios(table[OURS], table[PLAN]), 3)
    return line


def _requirement(runs: list[Run], name: str, metric: str, most: float) -> dict[str, Any]:
    """Whether ours meets the requirement, by the medians of the rounds' ratios; None where that is unknown."""
    line: dict[str, Any] = {"invalid_runs": sum(not run["valid"] for run in runs)}
    for key, compared, limit in ((name, metric, most), ("p50_no_worse", P50, 1.0), ("p99_no_worse", P99, 1.0)):
        table = by_server(runs, compared)
        of_rounds = ratios(table.get(OURS, {}), table.get(PLAN, {}))
        line[key] = median(of_rounds) <= limit if of_rounds else None
    return line
