"""How long a message takes from one node to another, beside the plan's two processes.

    python -m bench.across --rounds 5

The sender of each direct chat is connected to the first of two nodes, the recipient to the second: two of our gateways,
or two processes of the plan with Socket.IO's Redis adapter. Both servers get the same steady rate, in turn. Each round
restarts the server, and a closed loop warms it up. Each line has the acks beside the deliveries, so it shows a server
that delivers a message before it is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from bench.command import add_traffic, parser_of, servers_of, traffic_of
from bench.contest import CompareSettings, compare_servers, in_turns
from bench.generator import TOTAL
from bench.pace import CLOSED
from bench.program import run_alone
from bench.summary import OURS, PLAN, by_server, ratios, spread

NODES: Final = 2

P50, P99 = "delivery_p50_ms", "delivery_p99_ms"
METRICS: Final = (
    *(P50, P99, "ack_p50_ms", "ack_p99_ms", "acked_per_s"),
    *("server_us_per_send", "redis_us_per_send", "postgres_us_per_send", TOTAL),
)
CONDITIONS: Final = ("generator_us_per_send", "late_p99_ms", "others_cores")

KEPT_UP: Final = 0.98
"""Least share of the rate that a server acknowledges. Below it the server's queue grows, and its latencies depend on
how long the run lasts."""

MOST: Final = 0.5
"""The most delivery latency that ours should have, as a share of the plan's."""


def across(settings: CompareSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    return compare_servers(
        lambda shared: ({**line, "nodes": NODES} for line in in_turns(shared, settings, nodes=NODES)),
        summarize_across,
    )


def summarize_across(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each load and metric, and for the steady rate one with its requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    for load in dict.fromkeys(run["load"] for run in runs):
        its_runs = [run for run in runs if run["load"] == load]
        compared: dict[str, list[float]] = {}
        for metric in (*METRICS, *CONDITIONS):
            table = by_server(its_runs, metric)
            line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
            if metric not in CONDITIONS:
                compared[metric] = ratios(table.get(OURS, {}), table.get(PLAN, {}))
                line["ours_to_plan"] = spread(compared[metric], 3)
            lines.append({"kind": "summary", "load": load, "metric": metric, **line})
        if load != CLOSED:
            requirement = {
                "kept_up": {server: _has_kept_up(its_runs, server) for server in by_server(its_runs, P50)},
                "invalid_runs": sum(not run["valid"] for run in its_runs),
                "p50_at_most_half": median(compared[P50]) <= MOST if compared[P50] else None,
                "p99_at_most_half": median(compared[P99]) <= MOST if compared[P99] else None,
            }
            lines.append({"kind": "requirement", "load": load, **requirement})
    return lines


def _has_kept_up(runs: Sequence[Mapping[str, Any]], server: str) -> bool:
    """Whether the server acknowledged at least `KEPT_UP` of the rate, in all valid rounds."""
    its_runs = [run for run in runs if run["server"] == server and run["valid"]]
    return all(run["acked_per_s"] >= KEPT_UP * run["rate"] for run in its_runs)


def main() -> None:
    parser = parser_of("python -m bench.across", __doc__, (OURS, PLAN))
    add_traffic(parser)
    parser.add_argument("--chats", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1000.0, help="sends a second of all chats together")
    options = parser.parse_args()
    settings = CompareSettings(
        servers=servers_of(options),
        chats=options.chats,
        rounds=options.rounds,
        traffic=traffic_of(options, f"{CLOSED},{options.rate:g}"),
    )
    run_alone(lambda: across(settings))


if __name__ == "__main__":
    main()
