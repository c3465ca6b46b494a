"""The cost of a participant that stops reading: for the other participants of a group, and for the gateway.

    python -m bench.stuck --participants 200 --rounds 5 --seconds 60 --rate 20 --content-bytes 4096

Rounds with a stuck reader alternate with rounds in which all participants read. Each round starts its own servers, so
the gateway's memory holds nothing of an earlier round. One participant sends at a steady rate. In both kinds of round
the latencies leave out the participant that may be stuck. It is stuck from before the first message on, and when the
gateway cuts it off it comes back and is stuck again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from bench.bystander import Bystander
from bench.contest import Traffic, generate
from bench.memory import PeakWatch
from bench.ours import Ours
from bench.program import FOLDER, report, run_alone, say, shared_services
from bench.summary import ratios, spread
from bench.workload import Chat
from server.transport.outbox import MAX_BYTES

METRICS: Final = ("delivery_p50_ms", "delivery_p99_ms", "ack_p50_ms", "ack_p99_ms", "server_us_per_send")
P99: Final = "delivery_p99_ms"
PEAK: Final = "rss_peak_bytes"

MOST_P99: Final = 1.25
"""The most p99 of the other participants, as a multiple of their p99 without a stuck reader."""


@dataclass(frozen=True)
class StuckSettings:
    participants: int
    rounds: int
    traffic: Traffic


def stuck(settings: StuckSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        return report(_rounds(Ours(shared, FOLDER), settings), summarize_stuck)


def _rounds(server: Ours, settings: StuckSettings) -> Iterator[dict[str, Any]]:
    say(f"making a group of {settings.participants}")
    [chat] = server.prepare([settings.participants])
    for round_ in range(1, settings.rounds + 1):
        for is_stuck in (round_ % 2 == 0, round_ % 2 == 1):
            say(f"round {round_} of {settings.rounds}: {'one is stuck' if is_stuck else 'all read'}")
            yield {"kind": "run", "round": round_, "stuck": is_stuck, **_run(server, chat, is_stuck, settings)}


def _run(server: Ours, chat: Chat, is_stuck: bool, settings: StuckSettings) -> dict[str, Any]:
    durability = server.shared.even_out(server.database_url)
    measured = Chat(chat.conversation, chat.participants[:-1])
    with server.started() as endpoint:
        bystander = Bystander(endpoint.url, chat.participants[-1], is_stuck=is_stuck)
        [gateway] = endpoint.pids["server"]
        with bystander.present(), PeakWatch(gateway) as watch:
            [line] = generate(server, endpoint, [measured], settings.traffic)
        line[PEAK] = watch.peak_bytes
    if bystander.error is not None:
        line = {**line, "valid": False, "first_error": f"the bystander: {bystander.error}"}
    return {**line, "cut_after_s": bystander.cuts, **durability}


def summarize_stuck(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each metric, one for memory, and one with the requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    with_, without = ([run for run in runs if run["valid"] and run["stuck"] is kind] for kind in (True, False))
    for metric in METRICS:
        of_stuck, of_reading = _by_round(with_, metric), _by_round(without, metric)
        lines.append(
            {
                "kind": "summary",
                "metric": metric,
                "stuck": spread(of_stuck.values(), 3),
                "reading": spread(of_reading.values(), 3),
                "stuck_to_reading": spread(ratios(of_stuck, of_reading), 3),
            }
        )
    peaks, others = _by_round(with_, PEAK), _by_round(without, PEAK)
    costs = [peaks[round_] - others[round_] for round_ in peaks if round_ in others]
    lines.append({"kind": "summary", "metric": "stuck_reader_bytes", "cost": spread(costs, 0), "limit": MAX_BYTES})
    of_rounds = ratios(_by_round(with_, P99), _by_round(without, P99))
    lines.append(
        {
            "kind": "requirement",
            "invalid_runs": sum(not run["valid"] for run in runs),
            "cut": sum(len(run["cut_after_s"]) for run in with_),
            "p99_within_25_percent": median(of_rounds) < MOST_P99 if of_rounds else None,
            "memory_below_limit": median(costs) < MAX_BYTES if costs else None,
        }
    )
    return lines


def _by_round(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    return {run["round"]: run[metric] for run in runs if run.get(metric) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stuck", description=__doc__.partition("\n")[0])
    parser.add_argument("--participants", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured seconds of each round")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before the measurement")
    parser.add_argument("--rate", type=float, default=20.0, help="sends a second")
    parser.add_argument("--content-bytes", type=int, default=4096, help="size of each message")
    options = parser.parse_args()
    traffic = Traffic(f"{options.rate:g}", 1, options.content_bytes, options.warm, options.seconds)
    run_alone(lambda: stuck(StuckSettings(options.participants, options.rounds, traffic)))


if __name__ == "__main__":
    main()
