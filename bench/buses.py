"""The cost of a send with several Redis servers: is it that with one?

    python -m bench.buses --rounds 3

All senders are connected to the first of two gateways, all recipients to the second, so each message passes Redis. The
gateways have one server and `--servers` servers in turn, at the same rate; each round starts them again. As in
`bench.nodes`, what the processes cost without sends is subtracted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, Final

from bench.contest import Traffic, generate, rotated
from bench.nodes import COST, RECEIVING, SENDING, NodesSettings, costs, make_people
from bench.ours import Ours
from bench.pace import IDLE
from bench.processes import LOOPBACK
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.servers import Endpoint
from bench.summary import ratios, spread
from bench.workload import Chat
from embedded.ports import free_port
from embedded.redis import RedisServer

BUSES: Final = "buses"
"""The Redis servers that have the nodes' messages."""

TOTAL: Final = "total_us_per_send"
"""CPU of both gateways, of Redis and of Postgres."""

METRICS: Final = (
    TOTAL,
    COST,
    *(f"{name}_us_per_send" for name in (SENDING, RECEIVING, BUSES, "postgres")),
    *("idle_gateways_cores", "ack_p99_ms", "delivery_p50_ms", "delivery_p99_ms", "others_cores"),
)

MOST_COST: Final = 1.05
"""The most cost of a send with several servers, as a multiple of its cost with one."""


def buses(settings: NodesSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid.

    :param settings: its sizes are numbers of Redis servers.
    """
    with shared_services() as shared, redis_servers(max(settings.sizes)) as servers:
        return report(_rounds(Ours(shared, FOLDER), servers, settings), summarize_buses)


@contextmanager
def redis_servers(count: int) -> Iterator[list[RedisServer]]:
    """Redis servers that keep nothing on disk."""
    made = [RedisServer(FOLDER / f"bus{number}", durable=False) for number in range(count)]
    try:
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(RedisServer.start, made))
        yield made
    finally:
        for each in made:
            each.stop()


def _rounds(server: Ours, servers: Sequence[RedisServer], settings: NodesSettings) -> Iterator[dict[str, Any]]:
    people = make_people(server, settings)
    for round_ in range(1, settings.rounds + 1):
        for size in rotated(settings.sizes, round_ - 1):
            say(f"round {round_} of {settings.rounds}: {size} Redis servers")
            yield {"kind": "run", "round": round_, **_measure(server, servers[:size], people.chats, settings)}


def _measure(
    server: Ours, servers: Sequence[RedisServer], chats: Sequence[Chat], settings: NodesSettings
) -> dict[str, Any]:
    durability = server.shared.even_out(server.database_url)
    traffic = Traffic(f"{settings.rate:g},{IDLE}", warm_s=settings.warm_s, seconds=settings.seconds)
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        environment = {"REDIS_BUS_URL": " ".join(each.url for each in servers)}
        gateways = [stack.enter_context(server.gateway(port, environment=environment)) for port in ports]
        pids = {SENDING: gateways[:1], RECEIVING: gateways[1:], BUSES: [each.pid for each in servers]}
        url = ",".join(f"ws://{LOOPBACK}:{port}" for port in ports)
        busy, idle = generate(server, Endpoint(url, pids), list(chats), traffic)
    line = costs(busy, idle)
    if line["valid"]:
        spent = (busy[f"{BUSES}_cores"] - idle[f"{BUSES}_cores"]) / busy["acked_per_s"] * 1e6
        line[f"{BUSES}_us_per_send"] = round(spent, 1)
        line[COST] = round(line[COST] + spent, 1)
        line[TOTAL] = round(line[COST] + line["postgres_us_per_send"], 1)
    return {"servers": len(servers), **line, **durability}


def summarize_buses(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each metric, by the number of servers, and one with the requirement (None: unknown)."""
    all_runs = list(runs)
    sizes = sorted({run["servers"] for run in all_runs})
    lines: list[dict[str, Any]] = []
    for metric in METRICS:
        of_sizes = {str(size): spread(_by_round(all_runs, size, metric).values(), 4) for size in sizes}
        lines.append({"kind": "summary", "metric": metric, "servers": of_sizes})
    most, fewest = max(sizes, default=0), min(sizes, default=0)
    requirement: dict[str, Any] = {"invalid_runs": sum(not run["valid"] for run in all_runs)}
    for name, metric in (("total", TOTAL), ("without_postgres", COST)):
        found = ratios(_by_round(all_runs, most, metric), _by_round(all_runs, fewest, metric))
        requirement[f"{name}_at_{most}_to_{fewest}"] = spread(found, 3)
        if metric == TOTAL:
            requirement["total_at_most_1.05"] = median(found) <= MOST_COST if found else None
    return [*lines, {"kind": "requirement", **requirement}]


def _by_round(runs: Iterable[Mapping[str, Any]], size: int, metric: str) -> dict[int, float]:
    return {run["round"]: run[metric] for run in runs if run["valid"] and run["servers"] == size and metric in run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.buses", description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=3, help="Redis servers, compared with one")
    parser.add_argument("--chats", type=int, default=64, help="direct chats")
    parser.add_argument("--rate", type=float, default=1000.0, help="sends a second of all chats together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured seconds of sending and of idling")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of each before its measurement")
    options = parser.parse_args()
    settings = NodesSettings(
        sizes=(1, options.servers),
        chats=options.chats,
        rate=options.rate,
        unconcerned=0,
        rounds=options.rounds,
        warm_s=options.warm,
        seconds=options.seconds,
    )
    run_alone(lambda: buses(settings))


if __name__ == "__main__":
    main()
