"""The cost of a send as the cluster grows: do nodes have work with a send that does not concern them?

    python -m bench.nodes --sizes 1,2,4,8 --rounds 5

The gateways of each size form one cluster. All senders are connected to the first gateway, all recipients to the second
(with one gateway, both to that one); each other gateway holds idle connections of users who are in none of these chats.
The rate is the same for every size. Right after each run the benchmark measures the same processes and connections
without any sends, and subtracts that: the difference is the cost of the sends. Each round starts the gateways of each
size again, in an order that moves on.
The figures leave out the web process and the worker, for there is one of each, whatever the number of gateways.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Event, Thread
from typing import Any, Final

from bench.contest import Traffic, generate, rotated
from bench.herd import Herd
from bench.ours import Ours
from bench.pace import IDLE
from bench.processes import LOOPBACK
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.servers import Endpoint
from bench.summary import ratios, spread
from bench.workload import Chat

SENDING, RECEIVING, UNCONCERNED = ROLES = ("sending", "receiving", "unconcerned")
"""The gateways, by the users connected to them; a single gateway is `sending`."""

COST: Final = "cost_us_per_send"
"""CPU of all gateways and of Redis."""

METRICS: Final = (
    COST,
    *(f"{name}_us_per_send" for name in (*ROLES, "redis", "postgres")),
    *(f"idle_{name}_cores" for name in ("gateways", "redis", "postgres")),
    *("ack_p99_ms", "delivery_p99_ms", "others_cores"),
)

FEW, MANY = 2, 8
MOST_COST: Final = 1.15
"""The most cost of a send with many nodes, as a multiple of its cost with few."""

OPEN_TIMEOUT_S: Final = 60.0
CONCURRENCY: Final = 16


@dataclass(frozen=True)
class NodesSettings:
    """The settings.

    :ivar sizes: sizes of the cluster, in gateways.
    :ivar unconcerned: idle connections to each gateway but the first two.
    """

    sizes: tuple[int, ...]
    chats: int
    rate: float
    unconcerned: int
    rounds: int
    warm_s: float
    seconds: float


@dataclass(frozen=True)
class ClusterUsers:
    """The users of a benchmark.

    :ivar tokens: tokens of the users who are in none of the chats.
    """

    chats: list[Chat]
    tokens: list[str]


def nodes(settings: NodesSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(_rounds(Ours(shared, FOLDER), settings), summarize_nodes)


def _rounds(server: Ours, settings: NodesSettings) -> Iterator[dict[str, Any]]:
    people = make_people(server, settings)
    for round_ in range(1, settings.rounds + 1):
        for size in rotated(settings.sizes, round_ - 1):
            say(f"round {round_} of {settings.rounds}: {size} nodes")
            yield {"kind": "run", "round": round_, **measure_nodes(server, people, size, settings)}


def make_people(server: Ours, settings: NodesSettings) -> ClusterUsers:
    """Make the users; each is in a direct chat with another."""
    tokens = max(0, max(settings.sizes) - 2) * settings.unconcerned
    say(f"making {2 * settings.chats + tokens} users")
    chats = server.prepare([2] * (settings.chats + -(-tokens // 2)))
    others = [participant.token for chat in chats[settings.chats :] for participant in chat.participants]
    return ClusterUsers(chats[: settings.chats], others[:tokens])


def measure_nodes(server: Ours, people: ClusterUsers, size: int, settings: NodesSettings) -> dict[str, Any]:
    """Start this number of gateways, let the users send and then be idle; the line of this run."""
    durability = server.shared.even_out(server.database_url)
    traffic = Traffic(f"{settings.rate:g},{IDLE}", warm_s=settings.warm_s, seconds=settings.seconds)
    with server.gateways(size) as gateways:
        ports = list(gateways)
        of_role = {SENDING: ports[:1], RECEIVING: ports[1:2], UNCONCERNED: ports[2:]}
        pids = {role: [gateways[port] for port in its_ports] for role, its_ports in of_role.items() if its_ports}
        url = ",".join(f"ws://{LOOPBACK}:{port}" for port in ports[:2])
        with idlers(of_role[UNCONCERNED], people.tokens, settings.unconcerned) as herds:
            busy, idle = generate(server, Endpoint(url, pids), people.chats, traffic)
        are_there = all(herd.is_whole and not herd.losses for herd in herds)
    return {"nodes": size, **costs(busy, idle), "unconcerned_stayed": are_there, **durability}


@contextmanager
def idlers(ports: Sequence[int], tokens: Sequence[str], each: int) -> Iterator[list[Herd]]:
    """Hold `each` idle connections to each gateway while the block runs; a thread for each gateway serves them."""
    is_over = Event()
    with ExitStack() as stack:
        herds = []
        for number, port in enumerate(ports):
            herd = stack.enter_context(closing(Herd(port, tokens[number * each : (number + 1) * each])))
            herd.open(CONCURRENCY, OPEN_TIMEOUT_S)
            herds.append(herd)
        threads = [Thread(target=herd.stay, args=(math.inf, is_over.is_set)) for herd in herds if each]
        for thread in threads:
            thread.start()
        try:
            yield herds
        finally:
            is_over.set()
            for thread in threads:
                thread.join()


def costs(busy: Mapping[str, Any], idle: Mapping[str, Any]) -> dict[str, Any]:
    """The cost of a send: the figures of the busy run less those of the idle run."""
    line = {"valid": busy["valid"] and idle["valid"], "first_error": busy["first_error"] or idle["first_error"]}
    if not line["valid"]:
        return line
    roles = [role for role in ROLES if f"{role}_cores" in busy]
    for name in (*roles, "redis", "postgres"):
        more = busy[f"{name}_cores"] - idle[f"{name}_cores"]
        line[f"{name}_us_per_send"] = round(more / busy["acked_per_s"] * 1e6, 1)
    line[COST] = round(sum(line[f"{name}_us_per_send"] for name in (*roles, "redis")), 1)
    line["idle_gateways_cores"] = round(sum(idle[f"{role}_cores"] for role in roles), 4)
    for name in ("redis", "postgres"):
        line[f"idle_{name}_cores"] = idle[f"{name}_cores"]
    kept = ("rate", "chats", "seconds", "acked_per_s", "ack_p50_ms", "ack_p99_ms", "delivery_p50_ms", "delivery_p99_ms")
    return {**line, **{name: busy[name] for name in (*kept, "late_p99_ms", "generator_cores", "others_cores")}}


def summarize_nodes(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each metric, by size, and one with the requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    all_runs = list(runs)
    sizes = sorted({run["nodes"] for run in all_runs})
    for metric in METRICS:
        of_sizes = {str(size): spread(_by_round(all_runs, size, metric).values(), 4) for size in sizes}
        lines.append({"kind": "summary", "metric": metric, "nodes": of_sizes})
    of_rounds = ratios(_by_round(all_runs, MANY, COST), _by_round(all_runs, FEW, COST))
    lines.append(
        {
            "kind": "requirement",
            "invalid_runs": sum(not run["valid"] for run in all_runs),
            f"cost_at_{MANY}_to_{FEW}": spread(of_rounds, 3),
            "cost_at_most_1.15": median(of_rounds) <= MOST_COST if of_rounds else None,
        }
    )
    return lines


def _by_round(runs: Iterable[Mapping[str, Any]], size: int, metric: str) -> dict[int, float]:
    return {run["round"]: run[metric] for run in runs if run["valid"] and run["nodes"] == size and metric in run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.nodes", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1,2,4,8", help="gateways of a cluster")
    parser.add_argument("--chats", type=int, default=64, help="direct chats")
    parser.add_argument("--rate", type=float, default=1000.0, help="sends a second of all chats together")
    parser.add_argument(
        "--unconcerned", type=int, default=100, help="idle connections to each gateway after the second"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured seconds of sending and of idling")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of each before its measurement")
    options = parser.parse_args()
    settings = NodesSettings(
        sizes=tuple(map(int, options.sizes.split(","))),
        chats=options.chats,
        rate=options.rate,
        unconcerned=options.unconcerned,
        rounds=options.rounds,
        warm_s=options.warm,
        seconds=options.seconds,
    )
    run_alone(lambda: nodes(settings))


if __name__ == "__main__":
    main()
