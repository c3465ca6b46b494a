"""One port for all processes of a kind (SO_REUSEPORT), or a port each: the spread of connections, and restarts.

    python -m bench.spread

Four processes accept connections, and take 2 ms for each, as a gateway does for its greeting. First clients open 1,000
connections that stay open. Then clients come in bursts, each gets one answer and goes, while each process is restarted
in turn. With a port each, the client stands for a proxy: it takes the ports in turn, and the next one if a
connection is refused.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import trio

from bench.processes import LOOPBACK
from bench.program import print_line, say
from embedded.ports import free_port

WAYS: Final = ("shared_port", "port_each", "port_each_after_notice")
"""One port; a port each; the same, with a proxy that has stopped to use a process before the process ends."""

GREETING_S: Final = 0.002
BACKLOG: Final = 1024
BURST: Final = 100
PAUSE_S: Final = 0.2
"""Between two bursts: 500 connections a second."""

NOTICE_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class SpreadSettings:
    """The settings of a run."""

    processes: int
    connections: int
    rounds: int


def listen(port: int) -> None:
    """Accept connections until SIGTERM, then close the port at once; print how many were accepted."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
        held: list[socket.socket] = []
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        listener.settimeout(0.02)
        print("ready", flush=True)
        while not told:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            time.sleep(GREETING_S)
            connection.send(b"!")
            held.append(connection)
    print(len(held), flush=True)


class _Listening:
    """Processes that listen; with one port, all of them on that one."""

    def __init__(self, stack: ExitStack, ports: Sequence[int]) -> None:
        self._stack = stack
        self.ports = list(ports)
        self._processes = [self._start(port) for port in ports]

    def restart(self, number: int) -> None:
        """End one process, and start its successor on the same port."""
        self._end(self._processes[number])
        self._processes[number] = self._start(self.ports[number])

    def counts(self) -> list[int]:
        """End all processes; how many connections each has accepted."""
        return [self._end(process) for process in self._processes]

    def _start(self, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.spread", "--listen", str(port)]
        process = self._stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def _end(self, process: subprocess.Popen[str]) -> int:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        accepted = int(process.stdout.readline())
        process.wait()
        return accepted


@contextmanager
def _listening(way: str, processes: int) -> Iterator[_Listening]:
    with ExitStack() as stack:
        first = free_port()
        shared = way == "shared_port"
        yield _Listening(stack, [first] * processes if shared else [free_port() for _ in range(processes)])


def spread(way: str, settings: SpreadSettings) -> dict[str, Any]:
    """The line of a run in which all connections stay open."""
    with _listening(way, settings.processes) as listening, ExitStack() as connections:
        ports = listening.ports
        for number in range(settings.connections):
            sock = socket.create_connection((LOOPBACK, ports[number % len(ports)]), ANSWER_TIMEOUT_S)
            connections.enter_context(sock)
            if number % BURST == 0:  # no queue may overflow
                sock.recv(1)
        sock.recv(1)
        time.sleep(GREETING_S * BACKLOG)
        held = listening.counts()
    return {"held": held, "least": min(held), "greatest": max(held)}


def restart(way: str, settings: SpreadSettings) -> dict[str, Any]:
    """The line of a run in which each process is restarted while clients come."""
    with _listening(way, settings.processes) as listening:
        return trio.run(_restart, way, listening)


async def _restart(way: str, listening: _Listening) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    noticed: set[int] = set()
    turns = count()

    async def come() -> None:
        ports = [port for port in listening.ports if port not in noticed]
        turn = next(turns)
        outcomes[await _one_client([ports[(turn + step) % len(ports)] for step in range(len(ports))])] += 1

    async def keep_coming() -> None:
        while True:
            for _ in range(BURST):
                clients.start_soon(come)
            await trio.sleep(PAUSE_S)

    async with trio.open_nursery() as clients, trio.open_nursery() as coming:
        coming.start_soon(keep_coming)
        for number, port in enumerate(listening.ports):
            await trio.sleep(2 * PAUSE_S)
            if way == "port_each_after_notice":
                noticed.add(port)
                await trio.sleep(NOTICE_S)
            await trio.to_thread.run_sync(listening.restart, number)
            noticed.discard(port)
        coming.cancel_scope.cancel()
    named = ("served", "served_after_refusal", "lost", "refused")
    return {"clients": outcomes.total(), **{name: outcomes[name] for name in named}}


async def _one_client(ports: Sequence[int]) -> str:
    """The outcome of a client that tries these ports in turn: `lost` is a connection that was made, and not served."""
    with trio.move_on_after(ANSWER_TIMEOUT_S):
        for port in ports:
            try:
                stream = await trio.open_tcp_stream(LOOPBACK, port)
            except OSError:
                continue
            async with stream:
                try:
                    answer = await stream.receive_some(1)
                except trio.BrokenResourceError:
                    return "lost"
                if answer:
                    return "served" if port == ports[0] else "served_after_refusal"
            return "lost"
        return "refused"
    return "lost"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.spread", description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"by default {', '.join(WAYS)}")
    parser.add_argument("--listen", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.listen:
        listen(options.listen)
        return
    settings = SpreadSettings(options.processes, options.connections, options.rounds)
    for way in options.ways.split(","):
        say(way)
        for number in range(1, settings.rounds + 1):
            line = {"round": number, "way": way}
            if way != "port_each_after_notice":
                print_line({"kind": "spread", **line, **spread(way, settings)})
            print_line({"kind": "restart", **line, **restart(way, settings)})


if __name__ == "__main__":
    main()
