"""The cost of delivering a message to each participant of a group, beside the lean peer.

    python -m bench.fanout --sizes 20,200 --rounds 5

For each size the same number of participants is connected, in as many groups as that makes; the first participant of
each group sends. Ours and the lean peer take turns. The lean peer keeps no order and no marks, and has nothing in
Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from bench.command import add_traffic, parser_of, servers_of, traffic_of
from bench.contest import Traffic, compare_servers, contestant, measure, rotated
from bench.databases import Shared
from bench.program import run_alone, say
from bench.summary import OURS, by_server, ratios, spread

LEAN: Final = "ws"

CPU: Final = "server_us_per_delivery"
ALL_CPU: Final = "processes_us_per_delivery"
METRICS: Final = (CPU, ALL_CPU, "delivery_p50_ms", "delivery_p99_ms", "ack_p99_ms", "delivered_per_s", "others_cores")

MOST_CPU: Final = 1.25
"""The most server CPU per delivery that ours may use, as a multiple of the lean peer's."""

_PROCESSES: Final = ("server", "web", "worker")


@dataclass(frozen=True)
class FanoutSettings:
    """The settings.

    :ivar participants: connected participants, for each size.
    :ivar deliveries_per_s: rate of the open loop, the same for each size; None for no open loop.
    :ivar traffic: the load; each size replaces its `loads`.
    """

    servers: tuple[str, ...]
    sizes: tuple[int, ...]
    participants: int
    rounds: int
    deliveries_per_s: float | None
    traffic: Traffic


def fanout(settings: FanoutSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    return compare_servers(lambda shared: _rounds(shared, settings), summarize_fanout)


def _rounds(shared: Shared, settings: FanoutSettings) -> Iterator[dict[str, Any]]:
    sizes = [size for size in settings.sizes for _ in range(max(1, settings.participants // size))]
    contestants = [contestant(name, shared) for name in settings.servers]
    chats = {}
    for server in contestants:
        say(f"{server.name}: making {sum(sizes)} users in {len(sizes)} groups")
        chats[server.name] = server.prepare(sizes)
    for round_ in range(1, settings.rounds + 1):
        for size in settings.sizes:
            for server in rotated(contestants, round_ - 1):
                say(f"round {round_} of {settings.rounds}: groups of {size}, {server.name}")
                groups = [chat for chat in chats[server.name] if len(chat.participants) == size]
                traffic = replace(settings.traffic, loads=loads(size, settings.deliveries_per_s))
                for line in measure(server, groups, traffic):
                    yield {"kind": "run", "round": round_, "participants": size, **line, **per_delivery(line)}


def loads(size: int, deliveries_per_s: float | None) -> str:
    """The closed loop and the open one, in sends a second."""
    return "closed" if deliveries_per_s is None else f"closed,{deliveries_per_s / (size - 1):.6g}"


def per_delivery(line: Mapping[str, Any]) -> dict[str, float]:
    """CPU of the process that clients are connected to, and of all processes of the server, in µs per delivered
    message."""
    if not line["valid"]:
        return {}
    sends = line["acked_per_s"] / line["delivered_per_s"]
    of_each = {name: line.get(f"{name}_us_per_send", 0.0) * sends for name in _PROCESSES}
    return {CPU: round(of_each["server"], 3), ALL_CPU: round(sum(of_each.values()), 3)}


def summarize_fanout(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each size and kind of loop a line for each metric, and one with the requirement."""
    lines: list[dict[str, Any]] = []
    tables: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        tables.setdefault((run["participants"], run["load"]), []).append(run)
    for (size, load), its_runs in tables.items():
        about = {"participants": size, "load": load}
        for metric in METRICS:
            table = by_server(its_runs, metric)
            line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
            line["ours_to_lean"] = spread(ratios(table.get(OURS, {}), table.get(LEAN, {})), 3)
            lines.append({"kind": "summary", **about, "metric": metric, **line})
        table = by_server(its_runs, CPU)
        of_rounds = ratios(table.get(OURS, {}), table.get(LEAN, {}))
        requirement = {
            "invalid_runs": sum(not run["valid"] for run in its_runs),
            "cpu_at_most_1.25": median(of_rounds) <= MOST_CPU if of_rounds else None,
            "cpu_below_1": median(of_rounds) < 1 if of_rounds else None,
        }
        lines.append({"kind": "requirement", **about, **requirement})
    return lines


def main() -> None:
    parser = parser_of("python -m bench.fanout", __doc__, (OURS, LEAN))
    add_traffic(parser)
    parser.add_argument("--sizes", default="20,200", help="participants of a group")
    parser.add_argument("--participants", type=int, default=800, help="connected participants, for each size")
    parser.add_argument("--deliveries", type=float, default=4000.0, help="a second in the open loop; 0: no open loop")
    options = parser.parse_args()
    settings = FanoutSettings(
        servers=servers_of(options),
        sizes=tuple(map(int, options.sizes.split(","))),
        participants=options.participants,
        rounds=options.rounds,
        deliveries_per_s=options.deliveries or None,
        traffic=traffic_of(options, "closed"),
    )
    run_alone(lambda: fanout(settings))


if __name__ == "__main__":
    main()
