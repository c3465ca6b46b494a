"""Where each microsecond of a send and of a delivery goes, beside what no server can avoid.

    python -m bench.costs > costs.jsonl              # two minutes
    python -m bench.cost_picture costs.jsonl docs/images/costs.svg

A gateway runs under `bench.sampler`, with 64 direct chats (a send and its one delivery) and then with groups of 200 (a
delivery). Its samples give each stage its share of the processor time that the kernel reports for the process. In one
session of Postgres, batches of sends alternate with an empty query and with bare writes of the same rows. The limits
are those of `bench.limits`. Devices send no marks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.contest import Traffic, measure
from bench.limits import flush_ms, system_calls_us
from bench.ours import Ours
from bench.postgres_costs import postgres_us
from bench.processes import running
from bench.program import FOLDER, report, run_alone, say, shared_services

SAMPLES: Final = FOLDER / "samples.json"

SEND: Final = "send"
DELIVERY: Final = "delivery"

SIZES: Final[Mapping[str, tuple[int, ...]]] = {SEND: (2,) * 64, DELIVERY: (200,) * 4}
"""Participants of each chat, for each unit. In a direct chat a send has one delivery; in a group of 200 it has 199,
beside which the send itself is little."""

SYSTEM_CALLS: Final = "system calls"
RUNNER: Final = "tasks and waits"
OTHER: Final = "other"

STAGES: Final[Mapping[str, tuple[str, ...]]] = {
    SYSTEM_CALLS: (
        "server/transport/outbox.py:_send",
        "server/transport/stream.py:receive_some",
        "trio/_core/_io_epoll.py:_update_registrations",
        "trio/_core/_io_epoll.py:get_events",
    ),
    "collector": ("runtime/metrics/process_samples.py:_collecting",),
    "wire": ("protocol/websocket.py",),
    "encode": (
        "protocol/codec.py:encode",
        "protocol/codec.py:_item",
        "protocol/encoded.py",
        "server/gateway/sends.py:_sent",
        "server/gateway/sends.py:_deliver",
    ),
    "decode": ("protocol/codec.py", "protocol/items.py", "protocol/fields.py"),
    "rules": (
        "protocol/",
        "server/gateway/connection.py",
        "server/gateway/budgets.py",
        "server/gateway/process.py:send_nowait",
    ),
    "driver": ("store/postgres/", "psycopg"),
    "fan-out": ("server/delivery/", "server/transport/outbox.py", "server/gateway/deliver", "store/distribution.py"),
    "batch": ("server/gateway/sends.py", "store/batching/", "store/messages.py", "store/participant_lists.py"),
    RUNNER: ("trio/", "outcome/"),
}
"""Stage of the gateway -> beginnings of the functions that belong to it; the first stage that matches counts.

- system calls: `recv`, `send` and `epoll`, with Python's own part of these calls
- collector: Python's search for garbage
- wire: bytes to WebSocket messages and back
- encode, decode: frames
- rules: order of frames, budgets, limits
- batch: from the queue to the parameters of the statement, and the outcome of each send
- driver: parameters to bytes, the system calls of libpq, rows to values
- fan-out: recipients, order, outboxes, figures of the delivery
- tasks and waits: Trio
"""


@dataclass(frozen=True)
class CostSettings:
    """The settings.

    :ivar batch: sends of a batch in Postgres.
    :ivar rounds: of batches.
    """

    seconds: float
    batch: int
    rounds: int


class SampledGateway(Ours):
    """Our server, whose gateway runs under the sampler."""

    @contextmanager
    def _process(
        self, name: str, module: list[str], environment: Mapping[str, str], *, is_ready: Callable[[], bool]
    ) -> Iterator[int]:
        if name != "socket":
            with super()._process(name, module, environment, is_ready=is_ready) as pid:
                yield pid
            return
        SAMPLES.unlink(missing_ok=True)
        with running(
            [sys.executable, "-m", "bench.sampler", str(SAMPLES), *module],
            folder=FOLDER.parent.parent,
            environment={**self._environment(), **environment},
            log=self._log_of(name),
            is_ready=is_ready,
        ) as pid:
            yield pid


def stage_of(stack: Sequence[str]) -> str:
    """The stage of a sample: that of the innermost function that belongs to one."""
    for function in stack:
        for stage, beginnings in STAGES.items():
            if function.startswith(beginnings):
                return stage
    return OTHER


def shares(samples: Iterable[tuple[int, Sequence[str], int]], began: float, ended: float) -> dict[str, float]:
    """The share of each stage in the samples of whole seconds between two times."""
    counts: Counter[str] = Counter(dict.fromkeys((*STAGES, OTHER), 0))
    for second, stack, count in samples:
        if began <= second and second + 1 <= ended:
            counts[stage_of(stack)] += count
    total = counts.total()
    return {stage: count / total for stage, count in counts.items()} if total else {}


def _measure_gateway(server: SampledGateway, unit: str, seconds: float) -> dict[str, Any]:
    """One run, and the microseconds of each stage for each send or delivery."""
    chats = server.prepare(SIZES[unit])
    traffic = Traffic("closed", warm_s=2.0, seconds=seconds, mark_interval_s=0)
    # To its end: only a gateway that has ended has written its samples.
    [(line, ended)] = [(line, time.monotonic()) for line in measure(server, chats, traffic)]
    found: dict[str, Any] = {"kind": "run", "unit": unit, **line}
    if line["valid"]:
        # The generator waits for the last deliveries and counts before it prints the line.
        of_stages = shares(json.loads(SAMPLES.read_text()), ended - seconds, ended - 1)
        units = 1 if unit == SEND else line["delivered_per_s"] / line["acked_per_s"]
        found["stages_us"] = {
            stage: round(share * line["server_us_per_send"] / units, 2) for stage, share in of_stages.items()
        }
    return found


def measure_costs(server: SampledGateway, settings: CostSettings) -> Iterator[dict[str, Any]]:
    """A line for each unit, one for Postgres, one for the limits."""
    for unit in SIZES:
        say(f"the gateway: {unit}")
        yield _measure_gateway(server, unit, settings.seconds)
    say("Postgres")
    found = postgres_us(server, settings.batch, settings.rounds)
    yield {"kind": "run", "unit": "postgres", "valid": True, "batch": settings.batch, **found}
    limits = {"system_calls_us": system_calls_us(), "flush_ms": flush_ms(FOLDER)}
    yield {"kind": "run", "unit": "limits", "valid": True, **limits}


def summarize_costs(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table: a line for each stage, with its microseconds for a send and for a delivery, and the limit of both
    where there is one; then those of Postgres for a send."""
    by_unit = {run["unit"]: run for run in runs if run["valid"]}
    if not {SEND, DELIVERY, "postgres", "limits"} <= by_unit.keys():
        return []
    send, delivery = (by_unit[unit]["stages_us"] for unit in (SEND, DELIVERY))
    calls, postgres = by_unit["limits"]["system_calls_us"], by_unit["postgres"]["postgres_us"]
    least = {SEND: calls["epoll"] + calls["recv"] + calls["reply"] + calls["push"], DELIVERY: calls["push"]}
    lines = []
    for stage in (*STAGES, OTHER):
        line: dict[str, Any] = {"kind": "summary", "stage": stage}
        for unit, stages in ((SEND, send), (DELIVERY, delivery)):
            line[f"{unit}_us"] = stages.get(stage)
            line[f"{unit}_limit_us"] = round(least[unit], 2) if stage == SYSTEM_CALLS else 0
        lines.append(line)
    limits = {"statement": postgres["bare_writes"], "round trip": postgres["empty_query"]}
    parts = {"round trip": postgres["empty_query"], "statement": postgres["sends"] - postgres["empty_query"]}
    limits["statement"] = round(max(0.0, limits["statement"] - limits["round trip"]), 2)
    parts["commit to disk"] = postgres["sends_flushed"] - postgres["sends"]
    limits["commit to disk"] = round(max(0.0, postgres["bare_writes_flushed"] - postgres["bare_writes"]), 2)
    for part, us in parts.items():
        stage = f"Postgres: {part}"
        lines.append({"kind": "summary", "stage": stage, "send_us": round(us, 2), "send_limit_us": limits[part]})
    return lines


def costs(settings: CostSettings) -> bool:
    """Print a line for each run, then the table; returns whether every run was valid."""
    with shared_services() as shared:
        return report(measure_costs(SampledGateway(shared, FOLDER), settings), summarize_costs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run of the gateway; at least 4")
    parser.add_argument("--batch", type=int, default=32, help="sends of a batch in Postgres")
    parser.add_argument("--rounds", type=int, default=200, help="of batches")
    options = parser.parse_args()
    run_alone(lambda: costs(CostSettings(max(4.0, options.seconds), options.batch, options.rounds)))


if __name__ == "__main__":
    main()
