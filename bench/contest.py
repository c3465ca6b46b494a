"""Measure servers in turn: the choice of servers, their order, and the load on each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.databases import Shared
from bench.ours import Ours
from bench.pace import parse_loads
from bench.peers import PEERS, Peer, lacks
from bench.program import FOLDER, report, say, shared_services
from bench.servers import Endpoint, Server
from bench.summary import OURS
from bench.workload import Chat, write_chats

_T = TypeVar("_T")


@dataclass(frozen=True)
class Traffic:
    """The load on a server, as `bench.load` takes it.

    :ivar loads: as `bench.pace.parse_loads` reads them.
    :ivar is_mixed: whether the open loops mix other operations into the sends.
    :ivar headers: "NAME:VALUE" each, of the HTTP requests among these.
    """

    loads: str
    window: int = 1
    content_bytes: int = 200
    warm_s: float = 3.0
    seconds: float = 6.0
    mark_interval_s: float = 1.0
    is_mixed: bool = False
    headers: tuple[str, ...] = ()


def usable(wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted servers that can run here; prints which ones are left out, and why."""
    left_out = {name: why for name in wanted if name in PEERS and (why := lacks(name))}
    for name, why in left_out.items():
        say(f"left out: {name} ({why})")
    return tuple(name for name in wanted if name not in left_out)


def contestant(name: str, shared: Shared) -> Server:
    """Our server, or a peer."""
    return Ours(shared, FOLDER) if name == OURS else Peer(name, shared, FOLDER)


def compare_servers(
    runs: Callable[[Shared], Iterable[dict[str, Any]]],
    summarize: Callable[[Sequence[dict[str, Any]]], Iterable[dict[str, Any]]],
) -> bool:
    """Run servers on the same services, and report; see `bench.program.report`."""
    with shared_services() as shared:
        return report(runs(shared), summarize)


def turns(contestants: Sequence[Server], rounds: int) -> Iterator[tuple[int, Server]]:
    """The servers of each round, in a rotated order, with the number of the round; the user is told of each."""
    for round_ in range(1, rounds + 1):
        for server in rotated(contestants, round_ - 1):
            say(f"round {round_} of {rounds}: {server.name}")
            yield round_, server


def rotated(contestants: Sequence[_T], turns: int) -> list[_T]:
    """The same servers in a rotated order, so that no server always comes first, or always after the same one."""
    first = turns % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def measure(server: Server, chats: Sequence[Chat], traffic: Traffic, *, nodes: int = 1) -> Iterator[dict[str, Any]]:
    """Start the server and put the loads on it; one line for each load.

    :param nodes: number of nodes; the participants of all chats are spread over them in turn.
    """
    durability = server.shared.even_out(server.database_url)
    with server.started(nodes) as endpoint:
        for line in generate(server, endpoint, chats, traffic):
            yield {"server": server.name, **line, **durability}


@dataclass(frozen=True)
class CompareSettings:
    """The settings of a comparison on direct chats."""

    servers: tuple[str, ...]
    rounds: int
    chats: int
    traffic: Traffic


def in_turns(shared: Shared, settings: CompareSettings, *, nodes: int = 1) -> Iterator[dict[str, Any]]:
    """Measure each server in every round, on this number of direct chats; a line for each load, with its round."""
    contestants = [contestant(name, shared) for name in settings.servers]
    prepared = {}
    for server in contestants:
        say(f"{server.name}: making {2 * settings.chats} users and {settings.chats} chats")
        prepared[server.name] = server.prepare([2] * settings.chats)
    for round_, server in turns(contestants, settings.rounds):
        for line in measure(server, prepared[server.name], settings.traffic, nodes=nodes):
            yield {"kind": "run", "round": round_, **line}


def generate(server: Server, endpoint: Endpoint, chats: Sequence[Chat], traffic: Traffic) -> Iterator[dict[str, Any]]:
    """Put the loads on a server that runs.

    The generator runs as a process of its own, with a heap that no earlier run has grown.
    """
    chats_file = server.folder / f"{server.name}.chats.json"
    write_chats(chats_file, chats)
    groups = {**endpoint.pids, "postgres": [server.shared.postgres_pid], "redis": [server.shared.redis_pid]}
    command = [
        *(sys.executable, "-m", "bench.load"),
        *("--protocol", server.protocol),
        *("--url", endpoint.url),
        *("--chats-file", str(chats_file)),
        *("--loads", traffic.loads),
        *("--window", str(traffic.window)),
        *("--content-bytes", str(traffic.content_bytes)),
        *("--warm", str(traffic.warm_s)),
        *("--seconds", str(traffic.seconds)),
        *("--mark-interval", str(traffic.mark_interval_s)),
    ]
    if traffic.is_mixed:
        command += ["--mixed", "--http-port", str(endpoint.http_port)]
        command += [f"--http-header={header}" for header in traffic.headers]
    for name, pids in groups.items():
        command += ["--cpu", f"{name}={','.join(map(str, pids))}"]
    missing_loads = [load.name for load in parse_loads(traffic.loads, traffic.window)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=FOLDER.parent.parent) as generator:
        assert generator.stdout is not None
        for text in generator.stdout:
            line = json.loads(text)
            missing_loads.remove(line["load"])
            yield line
    # The generator has printed the reason to standard error. One server's failure must not cost the others' figures.
    for name in missing_loads:
        error = f"the load generator ended with status {generator.returncode}"
        yield {"protocol": server.protocol, "load": name, "valid": False, "first_error": error}
