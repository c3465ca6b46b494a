"""The load generator's command line: one JSON line for each load.

    python -m bench.load --protocol alo --url ws://127.0.0.1:8001 --chats-file chats.json --cpu server=4711

Closed loop (`--loads closed`): each chat has one sender with `--window` sends in flight. Open loop (`--loads 200`):
this number of sends a second, spread evenly over the chats, each timed from the moment at which it was meant to leave.
All loads of one call use the same connections, one load after the other. With `--mixed` an open loop is a mixture of
sends, marks, reads and typing (`bench.mixture`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.adapters import ADAPTERS
from bench.cpu import CpuMeter
from bench.generator import Generator, Plan
from bench.mixed import MixedGenerator
from bench.pace import parse_loads
from bench.workload import read_chats


def _groups(options: list[str]) -> dict[str, list[int]]:
    """Parse `NAME=PID,PID` to process ids by name."""
    groups = {}
    for option in options:
        name, _, pids = option.partition("=")
        groups[name] = [int(pid) for pid in pids.split(",")]
    return groups


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--protocol", required=True, choices=sorted(ADAPTERS))
    parser.add_argument("--url", required=True, help="ws://HOST:PORT; several, with commas, share the connections")
    parser.add_argument("--chats-file", required=True, type=Path, help="file that bench.workload.write_chats wrote")
    parser.add_argument("--chats", type=int, help="use only this number of chats")
    parser.add_argument("--loads", default="closed", help="closed, idle, or sends a second; several with commas")
    parser.add_argument("--window", type=int, default=1, help="sends in flight of each chat in a closed loop")
    parser.add_argument("--content-bytes", type=int, default=200)
    parser.add_argument(
        "--warm", type=float, default=2.0, metavar="SECONDS", help="time of each load before its measurement"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="measured seconds of each load")
    parser.add_argument(
        "--mark-interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="alo: time between a device's marks; 0: no marks",
    )
    parser.add_argument("--mixed", action="store_true", help="mix other operations into the sends")
    parser.add_argument("--http-port", type=int, default=0, help="where --mixed reads over HTTP, on this machine")
    parser.add_argument("--http-header", action="append", default=[], metavar="NAME:VALUE", help="of these requests")
    parser.add_argument("--cpu", action="append", default=[], metavar="NAME=PID,PID", help="report these trees' CPU")
    return parser


def main() -> None:
    arguments = _parser().parse_args()
    plan = Plan(
        protocol=arguments.protocol,
        urls=tuple(arguments.url.split(",")),
        chats=tuple(read_chats(arguments.chats_file)[: arguments.chats]),
        content_bytes=arguments.content_bytes,
        warm_s=arguments.warm,
        seconds=arguments.seconds,
        mark_interval_s=arguments.mark_interval,
    )
    cpu = CpuMeter(_groups(arguments.cpu))
    generator = Generator(plan, cpu)
    if arguments.mixed:
        headers = dict(header.split(":", 1) for header in arguments.http_header)
        generator = MixedGenerator(plan, cpu, arguments.http_port, headers)
    generator.open()
    try:
        for load in parse_loads(arguments.loads, arguments.window):
            print(json.dumps({"protocol": plan.protocol, **generator.run(load)}), flush=True)
    finally:
        generator.close()


if __name__ == "__main__":
    main()
