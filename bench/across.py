"""How long a message takes from one node to another, beside the plan's two processes.

    python -m bench.across --peers DIR --rounds 5

The sender of each direct chat is connected to the first of two nodes, the recipient to the second: of ours two
gateways, of the plan two processes with Socket.IO's Redis adapter. Both get the same steady rate, in turn, each started
anew for each round, and warmed up by a closed loop before. Acks stand beside the deliveries, so nobody can be quick by
telling the recipient before the message is safe without its showing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.contest import Traffic, build_peers, contestant, measure, rotated, usable
from bench.generator import TOTAL
from bench.pace import CLOSED
from bench.program import print_line, run_alone, say, shared_services
from bench.summary import OURS, PLAN, by_server, ratios, spread

NODES: Final = 2

P50, P99 = "delivery_p50_ms", "delivery_p99_ms"
METRICS: Final = (
    *(P50, P99, "ack_p50_ms", "ack_p99_ms", "acked_per_s"),
    *("server_us_per_send", "redis_us_per_send", "postgres_us_per_send", TOTAL),
)
CONDITIONS: Final = ("generator_us_per_send", "late_p99_ms", "others_cores")

KEPT_UP: Final = 0.98
"""Of the rate: who acknowledges less has a queue that grows, and its latencies say how long it was measured."""

MOST: Final = 0.5
"""Of the plan's delivery latency: what ours should take at most."""


@dataclass(frozen=True)
class Settings:
    """What to compare.

    :ivar peers: the folder of the peers' sources; only needed if `servers` names one of them.
    """

    servers: tuple[str, ...]
    peers: Path | None
    chats: int
    rounds: int
    traffic: Traffic


def across(settings: Settings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    runs: list[dict[str, Any]] = []
    build_peers(settings.servers, settings.peers)
    with shared_services() as shared:
        contestants = [contestant(name, shared) for name in settings.servers]
        chats = {}
        for server in contestants:
            say(f"{server.name}: making {2 * settings.chats} users and {settings.chats} chats")
            chats[server.name] = server.prepare([2] * settings.chats)
        for round_ in range(1, settings.rounds + 1):
            for server in rotated(contestants, round_ - 1):
                say(f"round {round_} of {settings.rounds}: {server.name}")
                for line in measure(server, chats[server.name], settings.traffic, nodes=NODES):
                    runs.append({"kind": "run", "round": round_, "nodes": NODES, **line})
                    print_line(runs[-1])
    for line in summarize_across(runs):
        print_line(line)
    return all(run["valid"] for run in runs)


def summarize_across(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each load and metric, and for the steady rate one that says what is required (None: unknown)."""
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
    """Whether the server acknowledged what it was sent, in all rounds."""
    its_runs = [run for run in runs if run["server"] == server and run["valid"]]
    return all(run["acked_per_s"] >= KEPT_UP * run["rate"] for run in its_runs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.across", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--peers", type=Path, default=os.environ.get("PEERS") or None, help="folder of the peers (or PEERS)"
    )
    parser.add_argument("--servers", default=f"{OURS},{PLAN}")
    parser.add_argument("--chats", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1000.0, help="sends a second of all chats together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="that are measured, of each load")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of each load before that")
    parser.add_argument("--content-bytes", type=int, default=200)
    parser.add_argument("--mark-interval", type=float, default=1.0, help="s between a device's marks; 0: no marks")
    options = parser.parse_args()
    settings = Settings(
        servers=usable(options.servers.split(","), options.peers),
        peers=options.peers,
        chats=options.chats,
        rounds=options.rounds,
        traffic=Traffic(
            loads=f"{CLOSED},{options.rate:g}",
            content_bytes=options.content_bytes,
            warm_s=options.warm,
            seconds=options.seconds,
            mark_interval_s=options.mark_interval,
        ),
    )
    if not settings.servers:
        sys.exit("nothing to measure")
    run_alone(lambda: across(settings))


if __name__ == "__main__":
    main()
