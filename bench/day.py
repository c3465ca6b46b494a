"""A mixed day: sends, marks, reads over HTTP and typing at a steady rate, beside the plan.

    python -m bench.day --rate 200,800

1,000 users take part in 500 conversations whose sizes and activity follow Zipf's law (`bench.population`), and all are
connected. 70 % of the operations are sends, 10 % marks (the user has read a conversation), 10 % read the newest page of
a conversation, 5 % read the user's list, and 5 % say that the user types. Operations leave at their times, evenly
spaced, whether or not earlier answers have come; each server gets the same ones.

Ours is one gateway, one web process and one worker. The plan answers HTTP in the process that its clients are connected
to, where its worker is, too. The CPU of all processes together, with Postgres and Redis, is shared out among the
operations.

- The plan has no event for typing: it gets one, and drops it.
- The lean peer has neither marks nor typing, which are left out, and reads pages over the WebSocket.
- As the reference client does, our devices have synced, so that their cursors move on, and mark what they have
  received, once a second at most, beside the 10 %. The peers know neither. `--mark-interval 0` turns these marks off.
- Ours and the plan get the same headers with HTTP requests: by default none that allow compression (`--compressed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from bench.across import KEPT_UP
from bench.command import add_traffic, parser_of, servers_of, traffic_of
from bench.contest import Traffic, compare_servers, contestant, measure, turns
from bench.databases import Shared
from bench.mixture import SHARES, OperationKind
from bench.population import Population, fill_ours, fill_peers, populate
from bench.program import allow_files, run_alone, say
from bench.servers import Server
from bench.summary import OURS, PLAN, by_server, ratios, spread

LEAN: Final = "wsbatch"

TOTAL: Final = "total_us_per_operation"
PARTS: Final = ("server", "web", "worker", "postgres", "redis")
METRICS: Final = (
    TOTAL,
    *(f"{part}_us_per_operation" for part in PARTS),
    "operations_per_s",
    "delivered_per_s",
    "ack_p50_ms",
    "ack_p99_ms",
    "delivery_p50_ms",
    "delivery_p99_ms",
    *(
        f"{kind}_{percent}_ms"
        for kind in (OperationKind.MARK, OperationKind.HISTORY, OperationKind.LIST)
        for percent in ("p50", "p99")
    ),
)
CONDITIONS: Final = ("generator_us_per_operation", "late_p99_ms", "others_cores")

MOST_CPU: Final = 0.5
"""The most CPU of all processes for an operation that ours may use, as a share of the plan's."""


@dataclass(frozen=True)
class DaySettings:
    """The settings.

    :ivar is_by_kind: whether further runs leave one kind of operation out each, to see its share.
    """

    servers: tuple[str, ...]
    population: Population
    rounds: int
    is_by_kind: bool
    traffic: Traffic


def day(settings: DaySettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    return compare_servers(lambda shared: _rounds(shared, settings), summarize_day)


def _rounds(shared: Shared, settings: DaySettings) -> Iterator[dict[str, Any]]:
    traffic = with_each_left_out(settings.traffic) if settings.is_by_kind else settings.traffic
    population, chats = settings.population, settings.population.chats()
    contestants = [contestant(name, shared) for name in settings.servers]
    for server in contestants:
        say(f"{server.name}: making {population.users} users and {len(chats)} conversations")
        prepare(server, population)
    for round_, server in turns(contestants, settings.rounds):
        for line in measure(server, chats, traffic):
            yield {"kind": "run", "round": round_, **line}


def prepare(server: Server, population: Population) -> None:
    """Make the server's database with this population."""
    server.prepare([])
    (fill_ours if server.name == OURS else fill_peers)(server.database_url, population)


def with_each_left_out(traffic: Traffic) -> Traffic:
    """The same loads, each followed by one for each kind that leaves this kind out."""
    loads = [
        load for rate in traffic.loads.split(",") for load in (rate, *(f"{rate}-{kind}" for kind in OperationKind))
    ]
    return replace(traffic, loads=",".join(loads))


def summarize_day(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each load a line for each metric, and one with the requirement; then the CPU of each kind of operation."""
    lines: list[dict[str, Any]] = []
    for load in dict.fromkeys(run["load"] for run in runs):
        its_runs = [run for run in runs if run["load"] == load]
        if its_runs[0].get("without"):
            continue
        for metric in (*METRICS, *CONDITIONS):
            if table := by_server(its_runs, metric):
                line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
                if metric not in CONDITIONS:
                    line["ours_to_plan"] = spread(ratios(table.get(OURS, {}), table.get(PLAN, {})), 3)
                lines.append({"kind": "summary", "load": load, "metric": metric, **line})
        lines.append({"kind": "requirement", "load": load, **_requirement(its_runs)})
        lines += _by_kind(load, its_runs, runs)
    return lines


def _requirement(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether ours costs little enough, by the median of the rounds' ratios; None: unknown."""
    table = by_server(runs, TOTAL)
    of_rounds = ratios(table.get(OURS, {}), table.get(PLAN, {}))
    return {
        "kept_up": {server: _has_kept_up(runs, server) for server in table},
        "invalid_runs": sum(not run["valid"] for run in runs),
        "total_cpu_at_most_half": median(of_rounds) <= MOST_CPU if of_rounds else None,
    }


def _has_kept_up(runs: Sequence[Mapping[str, Any]], server: str) -> bool:
    """Whether the server answered at least `KEPT_UP` of the operations that it can do, in all valid rounds."""
    its_runs = [run for run in runs if run["server"] == server and run["valid"]]
    shares = [sum(SHARES[kind] for kind in OperationKind if kind not in run["left_out"]) / 100 for run in its_runs]
    due = [run["rate"] * share for run, share in zip(its_runs, shares, strict=True)]
    return all(run["operations_per_s"] >= KEPT_UP * rate for run, rate in zip(its_runs, due, strict=True))


def _by_kind(
    load: str, whole: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The CPU of each kind of operation: of the whole load, less that of the load without this kind, by round."""
    for kind in OperationKind:
        without = [run for run in runs if run["load"] == f"{load}-{kind}"]
        line: dict[str, Any] = {}
        for server in dict.fromkeys(run["server"] for run in without):
            costs = {
                part: spread(_differences(server, f"{part}_cores", whole, without, SHARES[kind] / 100), 1)
                for part in ("total", *PARTS)
            }
            line[server] = {f"{part}_us": cost for part, cost in costs.items() if cost}
        if line:
            yield {"kind": "by_kind", "load": load, "operation": kind, **line}


def _differences(
    server: str, metric: str, whole: Iterable[Mapping[str, Any]], less: Iterable[Mapping[str, Any]], share: float
) -> list[float]:
    """Microseconds for an operation that the second runs leave out, in each round that has both."""
    rates = {run["round"]: run["rate"] for run in whole}
    all_, others = (by_server(runs, metric).get(server, {}) for runs in (whole, less))
    return [(all_[n] - others[n]) / (rates[n] * share) * 1e6 for n in all_ if n in others]


def main() -> None:
    parser = parser_of("python -m bench.day", __doc__, (OURS, PLAN, LEAN), rounds=3)
    add_traffic(parser, seconds=10.0, warm=12.0)
    parser.add_argument("--rate", default="200,800", help="operations a second; several with commas")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--largest", type=int, default=200, help="participants of the largest conversation")
    parser.add_argument("--by-kind", action="store_true", help="add runs that leave each kind of operation out")
    parser.add_argument("--compressed", action="store_true", help="ask for compressed answers")
    options = parser.parse_args()
    allow_files(2 * options.users)
    headers = ("Accept-Encoding:gzip, deflate, br, zstd",) if options.compressed else ()
    settings = DaySettings(
        servers=servers_of(options),
        population=populate(options.users, options.conversations, options.largest),
        rounds=options.rounds,
        is_by_kind=options.by_kind,
        traffic=replace(traffic_of(options, options.rate), is_mixed=True, headers=headers),
    )
    run_alone(lambda: day(settings))


if __name__ == "__main__":
    main()
