"""Servers in turn on one Postgres and one Redis.

    python -m bench.compare --peers DIR --rounds 10 --seconds 6 --rate 200,1000

In each round every server is started, measured and stopped, one at a time, and the order moves on by one from round to
round. One at a time, because servers that idle are not free (they poll queues, renew leases, hold a dozen Postgres
backends each) and all of them share two or three cores with the one that is measured; and a server started anew gives
rounds that are independent of each other. What a fresh process lacks, compiled code and filled caches and pools, it
gets from a closed loop before anything is measured, and the loads follow each other on the same connections.

Before each run Postgres gets fresh statistics and a checkpoint, and Redis is emptied: whatever the server before left
to be written later, it does not write it now. Each server has a database of its own with the same users and chats.

Postgres runs with fsync and synchronous_commit on; each line says what it reports itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contest import Traffic, build_peers, contestant, measure, rotated, usable
from bench.peers import PEERS
from bench.program import print_line, run_alone, say, shared_services
from bench.summary import OURS, summarize


@dataclass(frozen=True)
class Settings:
    """What to compare.

    :ivar peers: the folder of the peers' sources; only needed if `servers` names one of them.
    """

    servers: tuple[str, ...]
    peers: Path | None
    rounds: int
    chats: int
    traffic: Traffic


def compare(settings: Settings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    runs: list[dict[str, Any]] = []
    build_peers(settings.servers, settings.peers)
    with shared_services() as shared:
        contestants = [contestant(name, shared) for name in settings.servers]
        chats = {}
        for server in contestants:
            say(f"{server.name}: making {2 * settings.chats} users and {settings.chats} chats")
            chats[server.name] = server.prepare([2] * settings.chats)
        for round_ in range(1, settings.rounds + 1):
            for server in rotated(contestants, round_ - 1):
                say(f"round {round_} of {settings.rounds}: {server.name}")
                for line in measure(server, chats[server.name], settings.traffic):
                    runs.append({"kind": "run", "round": round_, **line})
                    print_line(runs[-1])
        durability = shared.durability(shared.postgres_url)
    for line in summarize(runs):
        print_line({**line, **durability})
    return all(run["valid"] for run in runs)


def parser(prog: str, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The command line, with these defaults."""
    made = argparse.ArgumentParser(prog=prog, description=__doc__.partition("\n")[0])
    names = [OURS, *PEERS]
    made.add_argument(
        "--peers", type=Path, default=os.environ.get("PEERS") or None, help="folder of the peers (or PEERS)"
    )
    made.add_argument("--servers", default=",".join(names), help=f"which of {', '.join(names)}")
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds, help="that are measured, of each load")
    made.add_argument("--warm", type=float, default=3.0, help="seconds of each load before that")
    made.add_argument("--rate", default="200,1000", help="sends a second of the open loops; empty for none")
    made.add_argument("--chats", type=int, default=64)
    made.add_argument("--window", type=int, default=1, help="sends in flight of each chat in the closed loop")
    made.add_argument("--content-bytes", type=int, default=200)
    made.add_argument("--mark-interval", type=float, default=1.0, help="s between a device's marks; 0: no marks")
    return made


def main(prog: str = "python -m bench.compare", rounds: int = 10, seconds: float = 6.0) -> None:
    """Read the command line, compare, and exit with 1 if a run was not valid."""
    options = parser(prog, rounds, seconds).parse_args()
    settings = Settings(
        servers=usable(options.servers.split(","), options.peers),
        peers=options.peers,
        rounds=options.rounds,
        chats=options.chats,
        traffic=Traffic(
            loads=",".join(["closed", *filter(None, options.rate.split(","))]),
            window=options.window,
            content_bytes=options.content_bytes,
            warm_s=options.warm,
            seconds=options.seconds,
            mark_interval_s=options.mark_interval,
        ),
    )
    if not settings.servers:
        sys.exit("nothing to compare")
    run_alone(lambda: compare(settings))


if __name__ == "__main__":
    main()
