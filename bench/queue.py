"""The cost of a job in our queue, beside BullMQ on the same Redis.

    python -m bench.queue --rounds 3

Three contestants take turns: `bullmq`, and our queue with `volatile` tasks, whose jobs are in Redis alone as BullMQ's
are, and with `durable` tasks, whose jobs are in Postgres, which waits for the disk at each commit. Each case of each
contestant is a process of its own that begins with an empty Redis: `bench.queue_ours`, which lists the cases, or
`peers/node/queue.mjs`. Jobs do nothing. A job's cost is the CPU of the client that enqueues it, of the worker, of Redis
and of Postgres. BullMQ's client and worker are one process, so a case measures them together.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg

from bench.command import parser_of
from bench.contest import rotated
from bench.cpu import CpuMeter
from bench.databases import Shared
from bench.ours import Ours
from bench.peers import NODE, node_lacks
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.queue_ours import CASES, KINDS
from bench.summary import by_server, ratios, spread

BULLMQ: Final = "bullmq"
CONTESTANTS: Final = (BULLMQ, *KINDS)

_REPOSITORY: Final = Path(__file__).parent.parent
_TIMEOUT_S: Final = 600.0
"""Time for one case; the slowest case takes half a minute on an idle machine."""

TOTAL: Final = "total_us"
METRICS: Final = (
    "jobs_per_s",
    TOTAL,
    *("client_us", "worker_us", "redis_us", "postgres_us"),
    *("start_p50_ms", "start_p99_ms", "enqueue_p50_ms", "enqueue_p99_ms"),
    *("waiting_bytes", "pending_bytes"),
    "others_cores",
)

WHOLE: Final = "bulk+proc32"
"""The sum of both cases; not a case of its own."""

WHOLE_CASES: Final = ("bulk", "proc32")

_COST: Final = {"volatile": 1.0, "durable": 2.0}
_LATENCY: Final = {"volatile": 1.0, "durable": 1.5}
BARS: Final[Mapping[tuple[str, str], Mapping[str, float]]] = {
    **{(case, TOTAL): _COST for case in ("add64", "bulk", "proc1", "proc32")},
    ("lat", "start_p50_ms"): _LATENCY,
}
"""The most that a metric of a case may be, as a multiple of BullMQ's."""


@dataclass(frozen=True)
class QueueSettings:
    """The settings.

    :ivar jobs: jobs of each case but `lat`.
    :ivar lats: jobs of `lat`.
    """

    contestants: tuple[str, ...]
    cases: tuple[str, ...]
    rounds: int
    jobs: int
    lats: int


class Failed(Exception):
    """A case has ended without figures."""


def queue(settings: QueueSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(measure_queue(Ours(shared, FOLDER), settings), summarize_queue)


def measure_queue(server: Ours, settings: QueueSettings) -> Iterator[dict[str, Any]]:
    """A line for each run.

    :param server: the owner of the database that holds our jobs; its processes do not run.
    """
    server.prepare([])
    for round_ in range(1, settings.rounds + 1):
        for case in settings.cases:
            for contestant in rotated(settings.contestants, round_ - 1):
                say(f"round {round_} of {settings.rounds}: {case}, {contestant}")
                durability = _clear(server)
                yield {
                    "kind": "run",
                    "round": round_,
                    "load": case,
                    "server": contestant,
                    **_measure(server, contestant, case, settings),
                    **(durability if contestant == "durable" else {}),
                }


def _clear(server: Ours) -> dict[str, str]:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("truncate jobs, dead_jobs")
    return server.shared.even_out(server.database_url)


def _measure(server: Ours, contestant: str, case: str, settings: QueueSettings) -> dict[str, Any]:
    shared = server.shared
    meter = CpuMeter({"postgres": [shared.postgres_pid], "redis": [shared.redis_pid]})
    before, ended, begun = meter.read(), _ended_s(), time.perf_counter()
    jobs = settings.lats if case == "lat" else settings.jobs
    try:
        figures = bullmq_figures(shared, case, jobs) if contestant == BULLMQ else _ours(server, contestant, case, jobs)
    except Failed as error:
        return {"valid": False, "first_error": str(error)}
    after = meter.read()
    known = sum(after[name] - before[name] for name in ("postgres", "redis", "generator")) + _ended_s() - ended
    others = max(0.0, after["machine"] - before["machine"] - known) / (time.perf_counter() - begun)
    return {"valid": True, **figures, "others_cores": round(others, 3)}


def _ended_s() -> float:
    """CPU of children that have ended: only cases run as children meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ours(server: Ours, kind: str, case: str, jobs: int) -> dict[str, Any]:
    shared = server.shared
    environment = {
        "DATABASE_URL": server.database_url,
        "REDIS_URL": shared.redis_url,
        "POSTGRES_PID": str(shared.postgres_pid),
        "REDIS_PID": str(shared.redis_pid),
    }
    command = [sys.executable, "-m", "bench.queue_ours", case, kind, "--jobs", str(jobs)]
    [figures] = _lines(command, environment, _REPOSITORY)
    return figures


def bullmq_figures(shared: Shared, case: str, jobs: int) -> dict[str, Any]:
    """The figures of BullMQ for a case."""
    environment = {"REDIS_URL": shared.redis_url, "REDIS_PID": str(shared.redis_pid)}
    [figures] = _lines(["node", "queue.mjs", case, str(jobs)], environment, NODE)
    return figures


def _lines(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """The JSON lines that a program prints to standard output; its standard error goes to ours."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise Failed(str(error)) from None
    return [json.loads(line) for line in done.stdout.splitlines()]


def summarize_queue(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each case a line for each metric, then the requirement lines."""
    lines: list[dict[str, Any]] = []
    for case in dict.fromkeys(run["load"] for run in runs):
        its_runs = [run for run in runs if run["load"] == case]
        tables = {metric: by_server(its_runs, metric) for metric in METRICS}
        lines += [
            {"kind": "summary", "load": case, "metric": metric, **_compared(table)}
            for metric, table in tables.items()
            if table
        ]
    judged = {(case, metric): by_server([run for run in runs if run["load"] == case], metric) for case, metric in BARS}
    totals = [judged[case, TOTAL] for case in WHOLE_CASES]
    if all(totals):
        lines.append({"kind": "summary", "load": WHOLE, "metric": TOTAL, **_compared(_added(*totals))})
    invalid = sum(not run["valid"] for run in runs)
    for (case, metric), table in judged.items():
        for kind, bar in BARS[case, metric].items():
            of_rounds = ratios(table.get(kind, {}), table.get(BULLMQ, {}))
            holds = median(of_rounds) < bar if of_rounds else None
            verdict = {"to_bullmq": spread(of_rounds, 3), "below": bar, "holds": holds, "invalid_runs": invalid}
            lines.append({"kind": "requirement", "load": case, "server": kind, "metric": metric, **verdict})
    return lines


def _compared(table: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in table.items()}
    for kind in KINDS:
        if compared := ratios(table.get(kind, {}), table.get(BULLMQ, {})):
            line[f"{kind}_to_bullmq"] = spread(compared, 3)
    return line


def _added(*tables: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """The sums of the tables, by server, for the rounds that are in all tables."""
    first, *others = tables
    return {
        server: {
            round_: value + sum(other[server][round_] for other in others)
            for round_, value in values.items()
            if all(round_ in other.get(server, {}) for other in others)
        }
        for server, values in first.items()
    }


def main() -> None:
    parser = parser_of("python -m bench.queue", __doc__, CONTESTANTS, rounds=3)
    parser.add_argument("--cases", default=",".join(CASES), help=f"by default {', '.join(CASES)}")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of each case but lat")
    options = parser.parse_args()
    contestants = tuple(options.servers.split(","))
    if BULLMQ in contestants and (why := node_lacks()):
        say(f"left out: {BULLMQ} ({why})")
        contestants = tuple(name for name in contestants if name != BULLMQ)
    settings = QueueSettings(
        contestants=contestants,
        cases=tuple(options.cases.split(",")),
        rounds=options.rounds,
        jobs=options.jobs,
        lats=500,
    )
    run_alone(lambda: queue(settings))


if __name__ == "__main__":
    main()
