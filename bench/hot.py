"""One hot conversation: a group where all participants write at once, beside the plan.

    python -m bench.hot --participants 256 --rounds 5 --seconds 6

Each participant has one send in flight: the next leaves when the ack has come. The benchmark compares the acknowledged
sends per second. All senders are connected, so both servers also deliver each message to all other participants: 255
deliveries are part of a send's price, as in real use, and most of it.
If the generator read them all, the benchmark would measure the generator. So all participants but one, the witness,
read their acks only, and count messages by a search for bytes, with both servers alike; each line has the generator's
own share. A run is valid only if each acknowledged message has reached each other participant, so a server gains
nothing by dropping deliveries. It gains nothing by delaying them either: a participant's acks come after all messages
before them on the same connection. The witness sees how long deliveries take.

Ours and the plan take turns, and each round restarts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from bench.command import add_traffic, parser_of, servers_of, traffic_of
from bench.contest import Traffic, compare_servers, contestant, measure, turns
from bench.databases import Shared
from bench.generator import TOTAL
from bench.program import run_alone, say
from bench.servers import Server
from bench.summary import OURS, PLAN, by_server, ratios, spread
from bench.workload import Chat

SENDS: Final = "acked_per_s"
METRICS: Final = (
    SENDS,
    "delivered_per_s",
    "ack_p50_ms",
    "ack_p99_ms",
    "delivery_p50_ms",
    "delivery_p99_ms",
    "server_us_per_send",
    "postgres_us_per_send",
    "redis_us_per_send",
    TOTAL,
)
CONDITIONS: Final = ("generator_us_per_send", "generator_cores", "others_cores")

LEAST_SENDS: Final = 3.0
"""Least acked sends per second that ours should reach, as a multiple of the plan's."""


@dataclass(frozen=True)
class HotSettings:
    """The settings; the traffic's loads are ignored, since the load is one closed loop."""

    servers: tuple[str, ...]
    participants: int
    rounds: int
    traffic: Traffic


def crowded(group: Chat) -> Chat:
    """The group with all of its participants as writers; only the first of them, the witness, reads."""
    witness, *others = group.participants
    participants = (witness, *(replace(participant, is_reader=False) for participant in others))
    return Chat(group.conversation, participants, writers=len(participants))


def measure_hot(server: Server, group: Chat, traffic: Traffic) -> dict[str, Any]:
    """Start the server and let all participants of its group write; the run's figures."""
    [line] = measure(server, [crowded(group)], traffic)
    return {"participants": len(group.participants), **line}


def hot(settings: HotSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    return compare_servers(lambda shared: _rounds(shared, settings), summarize_hot)


def _rounds(shared: Shared, settings: HotSettings) -> Iterator[dict[str, Any]]:
    contestants = [contestant(name, shared) for name in settings.servers]
    groups = {}
    for server in contestants:
        say(f"{server.name}: making a group of {settings.participants}")
        [groups[server.name]] = server.prepare([settings.participants])
    for round_, server in turns(contestants, settings.rounds):
        yield {"kind": "run", "round": round_, **measure_hot(server, groups[server.name], settings.traffic)}


def summarize_hot(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each metric, and one with the requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    for metric in (*METRICS, *CONDITIONS):
        table = by_server(runs, metric)
        line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
        if metric not in CONDITIONS:
            line["ours_to_plan"] = spread(ratios(table.get(OURS, {}), table.get(PLAN, {})), 3)
        lines.append({"kind": "summary", "metric": metric, **line})
    table = by_server(runs, SENDS)
    of_rounds = ratios(table.get(OURS, {}), table.get(PLAN, {}))
    lines.append(
        {
            "kind": "requirement",
            "invalid_runs": sum(not run["valid"] for run in runs),
            "sends_at_least_3": median(of_rounds) >= LEAST_SENDS if of_rounds else None,
        }
    )
    return lines


def main() -> None:
    parser = parser_of("python -m bench.hot", __doc__, (OURS, PLAN))
    add_traffic(parser)
    parser.add_argument("--participants", type=int, default=256, help="participants of the group; all write")
    options = parser.parse_args()
    settings = HotSettings(
        servers=servers_of(options),
        participants=options.participants,
        rounds=options.rounds,
        traffic=traffic_of(options, "closed"),
    )
    run_alone(lambda: hot(settings))


if __name__ == "__main__":
    main()
