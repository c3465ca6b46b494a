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
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.databases import Shared
from bench.ours import Ours
from bench.pace import parse_loads
from bench.peers import PEERS, Peer, build, missing
from bench.processes import ServerError
from bench.servers import Endpoint, Server
from bench.summary import OURS, summarize
from bench.workload import write_chats
from embedded.errors import EmbeddedError
from embedded.services import services

FOLDER: Final = Path(__file__).parent.parent / "var" / "bench"


@dataclass(frozen=True)
class Settings:
    """What to compare, and for how long.

    :ivar peers: the folder of the peers' sources; only needed if `servers` names one of them.
    :ivar loads: as `bench.pace.parse_loads` reads them.
    """

    servers: tuple[str, ...]
    peers: Path | None
    rounds: int
    seconds: float
    warm_s: float
    loads: str
    chats: int
    window: int
    content_bytes: int
    mark_interval_s: float


def compare(settings: Settings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    runs: list[dict[str, Any]] = []
    if any(name in PEERS for name in settings.servers):
        assert settings.peers is not None
        say("building the peers, unless that is done")
        build(settings.peers, FOLDER / "peers")
    with services(FOLDER / "services", durable=True) as running:
        shared = Shared(running.postgres.url, running.postgres.pid, running.redis.url, running.redis.pid)
        contestants = [_contestant(name, shared) for name in settings.servers]
        for server in contestants:
            say(f"{server.name}: making {2 * settings.chats} users and {settings.chats} chats")
            write_chats(_chats_file(server), server.prepare(settings.chats))
        for round_ in range(1, settings.rounds + 1):
            for server in rotated(contestants, round_ - 1):
                say(f"round {round_} of {settings.rounds}: {server.name}")
                for line in _measure(server, settings):
                    runs.append({"kind": "run", "round": round_, **line})
                    print_line(runs[-1])
        durability = shared.durability(running.postgres.url)
    for line in summarize(runs):
        print_line({**line, **durability})
    return all(run["valid"] for run in runs)


@contextmanager
def alone() -> Iterator[None]:
    """No other comparison runs meanwhile: each would measure the other.

    SIGTERM ends the block in good order, or it would leave servers behind.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another comparison is running")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        yield


def rotated(servers: Sequence[Server], turns: int) -> list[Server]:
    """The servers in another order, so that none always comes after the same one, or first."""
    first = turns % len(servers)
    return [*servers[first:], *servers[:first]]


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


def print_line(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def usable(wanted: Sequence[str], peers: Path | None) -> tuple[str, ...]:
    """Those of the servers that can be run here; says what is left out, and why."""
    why = missing(peers)
    left_out = [name for name in wanted if name in PEERS] if why else []
    if left_out:
        say(f"left out: {', '.join(left_out)} ({why})")
    return tuple(name for name in wanted if name not in left_out)


def _contestant(name: str, shared: Shared) -> Server:
    return Ours(shared, FOLDER) if name == OURS else Peer(name, shared, FOLDER, FOLDER / "peers")


def _chats_file(server: Server) -> Path:
    return FOLDER / f"{server.name}.chats.json"


def _measure(server: Server, settings: Settings) -> Iterator[dict[str, Any]]:
    """Start the server and put the loads on it; one line for each."""
    durability = server.shared.even_out(server.database_url)
    with server.started() as endpoint:
        for line in _generate(server, endpoint, settings):
            yield {"server": server.name, **line, **durability}


def _generate(server: Server, endpoint: Endpoint, settings: Settings) -> Iterator[dict[str, Any]]:
    """The generator runs as a process of its own, with a heap that no earlier run has grown."""
    groups = {**endpoint.pids, "postgres": [server.shared.postgres_pid], "redis": [server.shared.redis_pid]}
    command = [
        *(sys.executable, "-m", "bench.load"),
        *("--protocol", server.protocol),
        *("--url", endpoint.url),
        *("--chats-file", str(_chats_file(server))),
        *("--loads", settings.loads),
        *("--window", str(settings.window)),
        *("--content-bytes", str(settings.content_bytes)),
        *("--warm", str(settings.warm_s)),
        *("--seconds", str(settings.seconds)),
        *("--mark-interval", str(settings.mark_interval_s)),
    ]
    for name, pids in groups.items():
        command += ["--cpu", f"{name}={','.join(map(str, pids))}"]
    missing_loads = [load.name for load in parse_loads(settings.loads, settings.window)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=FOLDER.parent.parent) as generator:
        assert generator.stdout is not None
        for text in generator.stdout:
            line = json.loads(text)
            missing_loads.remove(line["load"])
            yield line
    # It said why on standard error. One server's failure must not cost the figures of the others.
    for name in missing_loads:
        error = f"the load generator ended with status {generator.returncode}"
        yield {"protocol": server.protocol, "load": name, "valid": False, "first_error": error}


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
        seconds=options.seconds,
        warm_s=options.warm,
        loads=",".join(["closed", *filter(None, options.rate.split(","))]),
        chats=options.chats,
        window=options.window,
        content_bytes=options.content_bytes,
        mark_interval_s=options.mark_interval,
    )
    if not settings.servers:
        sys.exit("nothing to compare")
    try:
        with alone():
            all_valid = compare(settings)
    except (ServerError, EmbeddedError) as error:
        sys.exit(str(error))
    sys.exit(0 if all_valid else 1)


if __name__ == "__main__":
    main()
