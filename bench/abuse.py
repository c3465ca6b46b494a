"""The cost of one user's abuse for everybody else on the node.

    python -m bench.abuse --attacks unknown_frames,groups,large_contents --rounds 3 --seconds 6

Each run starts its own servers. Pairs of well-behaved users write to each other at a fixed rate, first alone and then
under an attack by one user (`bench.abuser`), who has four connections and may also use HTTP. 300 participants of the
abuser's group are connected and read. The two stretches of a run are compared with each other, so a noisy machine
disturbs both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from bench.abuser import ATTACKS
from bench.contest import Traffic, generate
from bench.memory import PeakWatch, resident_bytes
from bench.ours import Ours
from bench.program import FOLDER, allow_files, report, run_alone, say, shared_services
from bench.summary import spread
from bench.workload import Chat, write_chats

NAMES: Final = (*ATTACKS, "reconnects", "groups")
METRICS: Final = ("ack_p50_ms", "ack_p99_ms", "delivery_p50_ms", "delivery_p99_ms", "server_cores", "rss_peak_mb")
JUDGED: Final = ("ack_p99_ms", "delivery_p99_ms")
MOST: Final = 2.0
"""The most p99 of the others under an attack, as a multiple of their p99 without it."""

GROUP: Final = 981


@dataclass(frozen=True)
class AbuseSettings:
    """The settings.

    :ivar readers: participants of the abuser's group who are connected and read.
    """

    attacks: tuple[str, ...]
    rounds: int
    pairs: int
    readers: int
    traffic: Traffic


def abuse(settings: AbuseSettings) -> bool:
    """Print a line for each stretch, then the summary; returns whether every stretch was valid."""
    with shared_services() as shared:
        return report(_rounds(Ours(shared, FOLDER), settings), summarize_abuse)


def _rounds(server: Ours, settings: AbuseSettings) -> Iterator[dict[str, Any]]:
    for round_ in range(1, settings.rounds + 1):
        say(f"round {round_} of {settings.rounds}: making {GROUP} users in a group, and {settings.pairs + 1} pairs")
        direct, group, *pairs = server.prepare([2, GROUP, *[2] * settings.pairs])
        for attack in settings.attacks:
            say(attack)
            for line in _run(server, attack, (direct, group), pairs, settings):
                yield {"kind": "run", "round": round_, "attack": attack, **line}


def _run(
    server: Ours, attack: str, attacked: Sequence[Chat], pairs: Sequence[Chat], settings: AbuseSettings
) -> Iterator[dict[str, Any]]:
    server.shared.even_out(server.database_url)
    chats_file = server.folder / "abuser.chats.json"
    write_chats(chats_file, attacked)
    traffic = settings.traffic
    with server.started() as endpoint:
        [gateway] = endpoint.pids["server"]
        with PeakWatch(gateway) as watch:
            [line] = generate(server, endpoint, pairs, traffic)
        yield {"attacked": False, **line, "rss_peak_mb": round(watch.peak_bytes / 1e6, 1)}
        command = [
            *(sys.executable, "-m", "bench.abuser", "--attack", attack),
            *("--port", str(urlsplit(endpoint.url).port), "--http-port", str(endpoint.http_port)),
            *("--chats-file", str(chats_file), "--readers", str(settings.readers)),
        ]
        pipe, root = subprocess.PIPE, FOLDER.parent.parent
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as abuser:
            assert abuser.stdin is not None
            assert abuser.stdout is not None
            abuser.stdout.readline()
            before = resident_bytes(gateway)
            with PeakWatch(gateway) as watch:
                [line] = generate(server, endpoint, pairs, traffic)
            abuser.stdin.close()
            said = abuser.stdout.readline()
        abused = json.loads(said) if said else {}
        yield {
            "attacked": True,
            **line,
            "valid": line["valid"] and bool(said),
            "rss_before_mb": round(before / 1e6, 1),
            "rss_peak_mb": round(watch.peak_bytes / 1e6, 1),
            "abuser": abused,
        }


def summarize_abuse(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each attack, and one with the requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    worst: dict[str, float] = {}
    for attack in dict.fromkeys(run["attack"] for run in runs):
        of_attack = [run for run in runs if run["attack"] == attack and run["valid"]]
        quiet, under = ({run["round"]: run for run in of_attack if run["attacked"] is kind} for kind in (False, True))
        line: dict[str, Any] = {"kind": "summary", "attack": attack}
        for metric in METRICS:
            line[metric] = {
                "quiet": spread((run[metric] for run in quiet.values()), 3),
                "attacked": spread((run[metric] for run in under.values()), 3),
            }
        line["pushed_mb"] = spread((run["abuser"]["pushed_mb"] for run in under.values()), 1)
        for metric in JUDGED:
            ratios = [under[n][metric] / quiet[n][metric] for n in under if n in quiet]
            line[f"{metric}_ratio"] = spread(ratios, 2)
            if ratios:
                worst[attack] = max(worst.get(attack, 0.0), median(ratios))
        lines.append(line)
    lines.append(
        {
            "kind": "requirement",
            "invalid_runs": sum(not run["valid"] for run in runs),
            "p99_ratio": {attack: round(ratio, 2) for attack, ratio in worst.items()},
            "p99_at_most_doubles": max(worst.values()) <= MOST if worst else None,
        }
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.abuse", description=__doc__.partition("\n")[0])
    parser.add_argument("--attacks", default=",".join(NAMES), help="by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=30, help="pairs of well-behaved users")
    parser.add_argument("--rate", type=float, default=60.0, help="sends a second of all of them together")
    parser.add_argument("--readers", type=int, default=300, help="participants of the abuser's group who are connected")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured seconds of each stretch")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds of load before the measurement")
    options = parser.parse_args()
    attacks = tuple(options.attacks.split(","))
    if unknown := set(attacks) - set(NAMES):
        parser.error(f"unknown attacks: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    allow_files(options.readers + 4 * options.pairs + 100)
    traffic = Traffic(f"{options.rate:g}", warm_s=options.warm, seconds=options.seconds)
    settings = AbuseSettings(attacks, options.rounds, options.pairs, options.readers, traffic)
    run_alone(lambda: abuse(settings))


if __name__ == "__main__":
    main()
