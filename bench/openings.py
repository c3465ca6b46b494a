"""How many connections a second a server opens, beside the plan and the lean peer.

    python -m bench.openings --rounds 5

Users connect, `--at-once` of them at any moment: as soon as one is connected, the next begins. Each stays. A connection
is open when the server has authenticated its user. Ours has three cases, each with users of its own:

- `welcome`: the client says hello, and asks for nothing;
- `synced`: it also fetches all conversations of its user, as a new device does;
- `resumed`: its hello has a cursor, as that of a device that was connected before, and is answered with a sync.

The peers have the one case `open`. Each round restarts the servers, which take turns.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from bench import websocket
from bench.adapters import ADAPTERS, Adapter, Events
from bench.adapters.alo import AloResumed, AloSynced
from bench.command import parser_of, servers_of
from bench.contest import compare_servers, contestant, turns
from bench.cpu import CpuMeter, used
from bench.databases import Shared
from bench.program import allow_files, run_alone, say
from bench.recorder import milliseconds
from bench.servers import Server
from bench.summary import OURS, PLAN, by_server, ratios, spread
from bench.websocket import MessageReader, Opcode, ServerFault
from bench.workload import Body, ChatParticipant, body

LEAN: Final = "wsbatch"
WELCOME, SYNCED, RESUMED, OPEN = "welcome", "synced", "resumed", "open"
PER_S: Final = "opened_per_s"
METRICS: Final = (
    *(PER_S, "open_p50_ms", "open_p99_ms"),
    *("server_us_per_opening", "postgres_us_per_opening", "redis_us_per_opening", "generator_us_per_opening"),
)
TIMEOUT_S: Final = 60.0
SETTLE_S: Final = 1.0
"""Time between two cases: meanwhile servers tell contacts which users came online."""

_CONTENT_BYTES: Final = 200
_READ_BYTES: Final = 65536

MakeAdapter: TypeAlias = Callable[[Events, ChatParticipant, Body], Adapter]

clock = time.perf_counter


@dataclass(frozen=True)
class OpeningSettings:
    """The settings.

    :ivar connections: of each case.
    :ivar at_once: connections that are being opened at any moment.
    """

    servers: tuple[str, ...]
    rounds: int
    connections: int
    at_once: int


class Opening:
    """One connection, from connecting until the server has authenticated it. Implements `bench.adapters.Events`.

    :ivar seconds: infinite until then.
    :ivar fault: why it failed; "" if it has not.
    """

    def __init__(self, address: tuple[str, int], make: MakeAdapter, participant: ChatParticipant) -> None:
        self._address = address
        self.adapter = make(self, participant, body(_CONTENT_BYTES))
        self._reader: MessageReader | None = None
        self._head = b""
        self.fault = ""
        self.seconds = math.inf
        self._began = clock()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)  # epoll reports the outcome

    def upgrade(self) -> None:
        """The TCP connection is made, or has failed.

        :raises OSError: if it has failed.
        """
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        host = "{}:{}".format(*self._address)
        self.socket.send(websocket.handshake(host, self.adapter.target(), self.adapter.subprotocol))

    def read(self) -> None:
        """
        :raises OSError: if the connection is lost.
        :raises ServerFault: if the server refuses it.
        """
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ServerFault("ended by the server")
        if self._reader is None:
            self._head += data
            end = websocket.handshake_end(self._head)
            if end is None:
                return
            self._reader, data = MessageReader(), self._head[end:]
            self.adapter.start()
        for opcode, payload in self._reader.feed(data):
            if opcode <= Opcode.BINARY:
                self.adapter.receive(payload)
            elif opcode == Opcode.CLOSE:
                raise ServerFault(f"close code {int.from_bytes(payload[:2], 'big')}")

    # Reports of the adapter.

    def opened(self) -> None:
        self.seconds = clock() - self._began

    def acked(self, request: int) -> None:
        self.fault = "an ack without a send"

    def delivered(self, stamp: float) -> None:
        self.fault = "a message that nobody sent"

    def passed(self, messages: int) -> None:
        self.fault = "a message that nobody sent"

    def failed(self, why: str) -> None:
        self.fault = why

    def reply(self, payload: bytes) -> None:
        self.socket.send(websocket.encode(self.adapter.opcode, payload))  # a new socket's buffer takes it at once


class Openings:
    """All connections of a run, which stay open until `close`."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        assert split.hostname is not None
        assert split.port is not None
        self._address = (split.hostname, split.port)
        self._epoll = select.epoll()
        self._all: dict[int, Opening] = {}

    def open(
        self, make: MakeAdapter, participants: Sequence[ChatParticipant], at_once: int
    ) -> tuple[list[Opening], float]:
        """Connect all; returns their connections, as far as they were begun, and the seconds that they took together.
        Ends early if one fails, or after `TIMEOUT_S`."""
        began, made = clock(), []
        waiting = list(reversed(participants))
        opening: set[Opening] = set()
        while (waiting or opening) and clock() < began + TIMEOUT_S and not any(each.fault for each in opening):
            while waiting and len(opening) < at_once:
                each = Opening(self._address, make, waiting.pop())
                self._all[each.socket.fileno()] = each
                self._epoll.register(each.socket, select.EPOLLOUT)
                opening.add(each)
                made.append(each)
            for fd, events in self._epoll.poll(0.05):
                self._serve(self._all[fd], events)
            opening = {each for each in opening if math.isinf(each.seconds)}
        return made, clock() - began

    def rest(self, seconds: float) -> None:
        """Only read incoming frames for this time."""
        end = clock() + seconds
        while (left := end - clock()) > 0:
            for fd, events in self._epoll.poll(left):
                self._serve(self._all[fd], events)

    def close(self) -> None:
        for each in self._all.values():
            each.socket.close()
        self._epoll.close()

    def _serve(self, opening: Opening, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._epoll.modify(opening.socket, select.EPOLLIN)
                opening.upgrade()
            else:
                opening.read()
        except BlockingIOError:
            pass
        except (OSError, ServerFault) as error:
            opening.fault = str(error)
            self._epoll.unregister(opening.socket)


def measure_openings(
    server: Server, participants: Sequence[ChatParticipant], settings: OpeningSettings
) -> Iterator[dict[str, Any]]:
    """Start the server; a line for each of its cases."""
    durability = server.shared.even_out(server.database_url)
    count = settings.connections
    with server.started() as endpoint, closing(Openings(endpoint.url)) as openings:
        groups = {**endpoint.pids, "postgres": [server.shared.postgres_pid], "redis": [server.shared.redis_pid]}
        stretch = _Stretch(server.name, openings, CpuMeter(groups), settings.at_once)
        if server.name != OURS:
            yield {**stretch.run(OPEN, ADAPTERS[server.protocol], participants[:count]), **durability}
            return
        first, second = participants[:count], participants[count:]
        yield {**stretch.run(WELCOME, ADAPTERS[OURS], first), **durability}
        openings.rest(SETTLE_S)
        synced: dict[str, bytes] = {}
        yield {**stretch.run(SYNCED, partial(AloSynced, cursors=synced), second), **durability}
        openings.rest(SETTLE_S)
        # Each device has a second connection now, which goes on from where the first one was.
        yield {**stretch.run(RESUMED, partial(AloResumed, cursors=synced), second), **durability}


class _Stretch:
    """Runs cases, and makes a line of each."""

    def __init__(self, server: str, openings: Openings, meter: CpuMeter, at_once: int) -> None:
        self._server, self._openings, self._meter, self._at_once = server, openings, meter, at_once

    def run(self, case: str, make: MakeAdapter, participants: Sequence[ChatParticipant]) -> dict[str, Any]:
        before = self._meter.read()
        made, seconds = self._openings.open(make, participants, self._at_once)
        cpu = used(before, self._meter.read())
        opened = array("d", [each.seconds for each in made if math.isfinite(each.seconds)])
        faults = [each.fault for each in made if each.fault]
        line: dict[str, Any] = {
            "kind": "run",
            "server": self._server,
            "case": case,
            "valid": len(opened) == len(participants) and not faults,
            "connections": len(opened),
            "at_once": self._at_once,
            PER_S: round(len(opened) / seconds, 1),
            "open_p50_ms": milliseconds(opened, 50),
            "open_p99_ms": milliseconds(opened, 99),
            **{f"{name}_us_per_opening": round(cpu[name] / max(1, len(opened)) * 1e6, 1) for name in cpu},
            "others_cores": round(cpu["others"] / seconds, 3),
        }
        return {**line, "first_error": faults[0]} if faults else line


def summarize_openings(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each case of ours and metric, beside the peers, and one with the requirement (None: unknown)."""
    lines: list[dict[str, Any]] = []
    peers = [run for run in runs if run["case"] == OPEN]
    for case in (WELCOME, SYNCED, RESUMED):
        its_runs = [*(run for run in runs if run["case"] == case), *peers]
        for metric in METRICS:
            table = by_server(its_runs, metric)
            line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
            for name, peer in (("ours_to_plan", PLAN), ("ours_to_lean", LEAN)):
                line[name] = spread(ratios(table.get(OURS, {}), table.get(peer, {})), 3)
            lines.append({"kind": "summary", "case": case, "metric": metric, **line})
        table = by_server(its_runs, PER_S)
        of_rounds = ratios(table.get(OURS, {}), table.get(PLAN, {}))
        requirement = {
            "invalid_runs": sum(not run["valid"] for run in its_runs),
            "at_least_the_plans": median(of_rounds) >= 1.0 if of_rounds else None,
        }
        lines.append({"kind": "requirement", "case": case, **requirement})
    return lines


def openings(settings: OpeningSettings) -> bool:
    """Print a line for each case, then the summary; returns whether every run was valid."""
    return compare_servers(lambda shared: _rounds(shared, settings), summarize_openings)


def _rounds(shared: Shared, settings: OpeningSettings) -> Iterator[dict[str, Any]]:
    contestants = [contestant(name, shared) for name in settings.servers]
    participants = {}
    for server in contestants:
        say(f"{server.name}: making {2 * settings.connections} users")
        chats = server.prepare([2] * settings.connections)
        participants[server.name] = [participant for chat in chats for participant in chat.participants]
    for round_, server in turns(contestants, settings.rounds):
        for line in measure_openings(server, participants[server.name], settings):
            yield {**line, "round": round_}


def main() -> None:
    parser = parser_of("python -m bench.openings", __doc__, (OURS, PLAN, LEAN))
    parser.add_argument("--connections", type=int, default=1000, help="connections of each case")
    parser.add_argument("--at-once", type=int, default=50, help="connections that are being opened at any moment")
    options = parser.parse_args()
    settings = OpeningSettings(
        servers=servers_of(options),
        rounds=options.rounds,
        connections=options.connections,
        at_once=options.at_once,
    )
    allow_files(3 * settings.connections)
    run_alone(lambda: openings(settings))


if __name__ == "__main__":
    main()
