"""The cost of a storm, when thousands of devices come back to one gateway at once, also for other clients.

    python -m bench.storm --devices 5000 --spread 10 --rounds 3

The devices are connected to one gateway, each with a cursor. Then all lose their connections and come back, each at a
random moment of `--spread` seconds, as after a close code that asks for it: TCP, WebSocket, hello, and a sync with its
cursor. Beside them bystanders send at a steady rate; the benchmark compares their latencies during the storm with those
before. Two kinds of storm take turns, each on a gateway started for it:

- `killed`: the gateway is killed (SIGKILL), and its successor is listening when the storm begins; the bystanders are on
  another node, which shares Postgres and Redis with it;
- `cut`: the gateway goes on, and has all the dead connections to clear away; the bystanders are on this very node, and
  keep their connections.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import SimpleQueue
from statistics import median
from threading import Thread
from typing import Any, Final

from bench.contest import Traffic, generate
from bench.cpu import CpuMeter, used
from bench.herd import Herd
from bench.ours import Ours
from bench.processes import LOOPBACK, free_port
from bench.program import FOLDER, allow_files, report, run_alone, say, shared_services
from bench.servers import Endpoint
from bench.summary import ratios, spread
from bench.wave import describe
from bench.workload import Chat

KILLED, CUT = KINDS = ("killed", "cut")
WARM, BEFORE, DOWN, DURING = "warm", "before", "down", "during"
"""Stretches of the bystanders. In `down` the gateway is killed and its successor started; `cut` has no `down`."""

OPEN_TIMEOUT_S: Final = 120.0
STORM_TIMEOUT_S: Final = 60.0
CONCURRENCY: Final = 64
"""Connections being opened at the same time, before the storm."""

MARGIN_S: Final = 1.0
"""Time for the last device to be back after it has begun to connect."""

MOST_OPEN_MS: Final = 1000.0
"""The most time from connecting to welcome for 99 of 100 devices."""

MOST_P99: Final = 2.0
"""The most p99 of the bystanders during the storm, as a multiple of their p99 before."""

P99: Final = "ack_p99_ms"
OPEN_P99: Final = "open_p99_ms"
clock = time.perf_counter

METRICS: Final = (
    *("seconds", "open_p50_ms", OPEN_P99, "sync_p50_ms", "sync_p99_ms"),
    *("server_us_per_return", "postgres_us_per_return", "redis_us_per_return", "server_cores"),
)
"""Metrics of the storm."""


@dataclass(frozen=True)
class StormSettings:
    """The settings.

    :ivar spread_s: seconds over which the devices come back; each stretch of the bystanders is as long.
    :ivar chats: direct chats of the bystanders.
    :ivar rate: sends a second of all bystanders together.
    """

    devices: int
    spread_s: float
    chats: int
    rate: float
    rounds: int


@dataclass(frozen=True)
class StormUsers:
    """The users of a benchmark.

    :ivar tokens: tokens of the devices that come back.
    """

    bystanders: list[Chat]
    tokens: list[str]


def storm(settings: StormSettings) -> bool:
    """Print the lines of each round, then the summary; returns whether every line is valid."""
    with shared_services() as shared:
        lines = _rounds(Ours(shared, FOLDER), settings)
        return report(lines, lambda lines: summarize_storm(lines, settings.spread_s))


def _rounds(server: Ours, settings: StormSettings) -> Iterator[dict[str, Any]]:
    say(f"making {settings.devices} users, and {settings.chats} chats of bystanders")
    people = make_people(server, settings)
    for round_ in range(1, settings.rounds + 1):
        for kind in KINDS if round_ % 2 else KINDS[::-1]:
            say(f"round {round_} of {settings.rounds}: {kind}")
            for line in measure_storm(server, people, kind, settings):
                yield {**line, "round": round_, "storm": kind}


def make_people(server: Ours, settings: StormSettings) -> StormUsers:
    """Make the users; each is in a direct chat with another."""
    chats = server.prepare([2] * (settings.chats + -(-settings.devices // 2)))
    tokens = [participant.token for chat in chats[settings.chats :] for participant in chat.participants]
    return StormUsers(chats[: settings.chats], tokens[: settings.devices])


def measure_storm(server: Ours, people: StormUsers, kind: str, settings: StormSettings) -> Iterator[dict[str, Any]]:
    """One storm: a line for each stretch of the bystanders, and one for the devices that come back."""
    durability = server.shared.even_out(server.database_url)
    port = free_port()
    with ExitStack() as stack, ExitStack() as first:
        herd = stack.enter_context(closing(Herd(port, people.tokens, syncs=True)))
        gateway = first.enter_context(server.gateway(port))
        url, pid = f"ws://{LOOPBACK}:{port}", gateway
        if kind == KILLED:
            other = free_port()
            url, pid = f"ws://{LOOPBACK}:{other}", stack.enter_context(server.gateway(other))
        say(f"connecting {settings.devices}")
        herd.open(CONCURRENCY, OPEN_TIMEOUT_S)
        stretches = (WARM, BEFORE, DOWN, DURING) if kind == KILLED else (WARM, BEFORE, DURING)
        traffic = Traffic(",".join([f"{settings.rate:g}"] * len(stretches)), warm_s=0.0, seconds=settings.spread_s)
        lines = _Lines(generate(server, Endpoint(url, {"server": [pid]}), people.bystanders, traffic), herd)

        def run(stretch: str) -> dict[str, Any]:
            return {"kind": "run", "stretch": stretch, **lines.take(), **durability}

        lines.take()
        calm = _Span(server, gateway)
        yield run(BEFORE)
        cores, was_whole = calm.cores(), herd.is_whole
        herd.cut()
        if kind == KILLED:
            os.kill(gateway, signal.SIGKILL)
            first.close()
            gateway = stack.enter_context(server.gateway(port))
            yield run(DOWN)
        span = _Span(server, gateway)
        wave = herd.come_back_within(settings.spread_s, STORM_TIMEOUT_S)
        line = {"kind": "storm", "valid": was_whole and herd.is_whole, "devices": settings.devices}
        yield {**line, **describe(wave), **_costs(span, cores, settings.devices), **durability}
        yield run(DURING)


class _Lines:
    """The lines of successive loads. A thread reads them, and the herd's connected devices stay connected meanwhile."""

    def __init__(self, lines: Iterator[dict[str, Any]], herd: Herd) -> None:
        self._herd = herd
        self._queue: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._thread = Thread(target=self._read, args=(lines,))
        self._thread.start()

    def take(self) -> dict[str, Any]:
        """Wait for the next line. The load after it, if any, has then begun.

        :raises queue.Empty: if no line is left.
        """
        self._herd.stay(math.inf, lambda: not self._queue.empty() or not self._thread.is_alive())
        return self._queue.get_nowait()

    def _read(self, lines: Iterator[dict[str, Any]]) -> None:
        for line in lines:
            self._queue.put(line)


class _Span:
    """CPU since the span was made: of the devices' gateway, of Postgres and of Redis."""

    def __init__(self, server: Ours, gateway: int) -> None:
        shared = server.shared
        self._meter = CpuMeter({"server": [gateway], "postgres": [shared.postgres_pid], "redis": [shared.redis_pid]})
        self._start, self._began = self._meter.read(), clock()

    def cores(self) -> dict[str, float]:
        """The mean number of busy cores of each group until now."""
        seconds = self.seconds()
        return {name: used_s / seconds for name, used_s in used(self._start, self._meter.read()).items()}

    def seconds(self) -> float:
        return clock() - self._began


def _costs(span: _Span, calm: Mapping[str, float], devices: int) -> dict[str, float]:
    """The CPU of a returning device, less the load before the storm; `calm` is that load, in cores."""
    cores, seconds = span.cores(), span.seconds()
    line = {f"{name}_cores": round(cores[name], 3) for name in ("server", "generator")}
    for name in ("server", "postgres", "redis", "generator"):
        line[f"{name}_us_per_return"] = round((cores[name] - calm[name]) * seconds / devices * 1e6, 1)
    return line


def summarize_storm(lines: Iterable[Mapping[str, Any]], spread_s: float) -> list[dict[str, Any]]:
    """For each kind of storm a line for each metric, and one with the requirement (None: unknown)."""
    summary: list[dict[str, Any]] = []
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_kind.setdefault(line["storm"], []).append(line)
    for kind, its_lines in by_kind.items():
        storms = [line for line in its_lines if line["kind"] == "storm"]
        for metric in METRICS:
            values = _by_round(storms, metric).values()
            summary.append({"kind": "summary", "storm": kind, "metric": metric, "devices": spread(values, 3)})
        runs = [line for line in its_lines if line["kind"] == "run"]
        stretches = {
            name: _by_round([run for run in runs if run["stretch"] == name], P99) for name in (BEFORE, DOWN, DURING)
        }
        of_rounds = ratios(stretches[DURING], stretches[BEFORE])
        table = {name: spread(values.values(), 3) for name, values in stretches.items() if values}
        about = {"kind": "summary", "storm": kind, "metric": f"bystanders_{P99}"}
        summary.append({**about, **table, "during_to_before": spread(of_rounds, 3)})
        # An error of a bystander is worse than a wait, and so is a device that never comes back.
        harmed = any(not run["valid"] for run in runs if run["stretch"] == DURING)
        summary.append(
            {
                "kind": "requirement",
                "storm": kind,
                "invalid_runs": sum(not line["valid"] for line in its_lines),
                "back_in_time": _holds(storms, "seconds", spread_s + MARGIN_S),
                "open_p99_below_1_s": _holds(storms, OPEN_P99, MOST_OPEN_MS) and not any(map(_has_failed, storms)),
                "bystanders_p99_at_most_double": not harmed and median(of_rounds) <= MOST_P99
                if of_rounds or harmed
                else None,
            }
        )
    return summary


def _holds(storms: Sequence[Mapping[str, Any]], metric: str, most: float) -> bool | None:
    """Whether the median is at most `most`, and every storm was valid; None without storms."""
    values = _by_round(storms, metric).values()
    return len(values) == len(storms) and median(values) <= most if storms else None


def _has_failed(storm: Mapping[str, Any]) -> bool:
    """Whether more attempts failed than 1 % of the devices; percentiles leave failed attempts out, so p99 would hide
    them."""
    failed: int = sum(storm["failed_attempts"].values())
    devices: int = storm["devices"]
    return failed > devices / 100


def _by_round(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[int, float]:
    return {line["round"]: line[metric] for line in lines if line["valid"] and line.get(metric) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=5000, help="devices that come back")
    parser.add_argument("--spread", type=float, default=10.0, metavar="SECONDS", help="all come back within it")
    parser.add_argument("--chats", type=int, default=20, help="direct chats of the bystanders")
    parser.add_argument("--rate", type=float, default=200.0, help="sends a second of all bystanders together")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = StormSettings(options.devices, options.spread, options.chats, options.rate, options.rounds)
    allow_files(2 * settings.devices)  # the gateway holds theirs, and dead ones that it has not cleared away yet
    run_alone(lambda: storm(settings))


if __name__ == "__main__":
    main()
