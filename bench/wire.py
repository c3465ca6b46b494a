"""Bytes that a message takes on the wire: to be sent, to be acknowledged, and to be delivered.

    python -m bench.wire

Two participants of a direct chat are connected; one of them sends messages. The benchmark counts all bytes between both
and the server for each message, WebSocket framing included, TCP/IP left out. It counts marks apart: a device sends them
at most once a second, for any number of messages.
"""

from __future__ import annotations

import argparse
import select
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Final

from bench.adapters import ADAPTERS
from bench.adapters.base import Adapter
from bench.connection import LoadConnection
from bench.contest import contestant, usable
from bench.peers import PEERS
from bench.program import print_line, run_alone, say, shared_services
from bench.servers import Server
from bench.summary import OURS, PLAN
from bench.workload import Chat, ChatParticipant, body

OPEN_TIMEOUT_S: Final = 20.0
QUIET_S: Final = 0.3
"""After this time without a byte, everything that belongs to a message has come."""

MOST_BYTES: Final = 0.5
"""The most bytes for a message sent and delivered that ours should use, as a share of the plan's."""


@dataclass(frozen=True)
class Exchange:
    """Bytes of one message between two participants, by direction.

    :ivar send: bytes from the sender.
    :ivar ack: bytes to the sender; with the plan, the server sends the sender its own message, too.
    :ivar push: bytes to the recipient.
    :ivar mark: bytes from and to the recipient for its mark of the message; None if the protocol has no marks.
    """

    send: float
    ack: float
    push: float
    mark: float | None = None

    @property
    def total(self) -> float:
        """All bytes but the mark's."""
        return self.send + self.ack + self.push


PLAN_MEASURED: Final = Exchange(send=555, ack=1459.8, push=776.9)
"""The bytes that this program measured with the plan's peer and 200 bytes of content, for machines without Node. All
fields are of fixed length but the time: Postgres leaves out its last zeros."""

_MEASURED_CONTENT_BYTES: Final = 200


class Tap(LoadConnection):
    """A connection that counts its bytes."""

    __slots__ = ("received", "sent")

    def __init__(
        self, url: str, epoll: select.epoll, reports: Silent, make: Callable[[LoadConnection], Adapter]
    ) -> None:
        self.received = self.sent = 0
        super().__init__(url, epoll, reports, make)

    def take_counts(self) -> tuple[int, int]:
        """Bytes sent and received since the last call."""
        counts = self.sent, self.received
        self.sent = self.received = 0
        return counts

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        super()._take(data)

    def _write(self, data: bytes) -> None:
        self.sent += len(data)
        super()._write(data)


class Silent:
    """Ignores all reports except for failures."""

    def acked(self, connection: LoadConnection, chat: Chat, stamp: float) -> None: ...
    def passed(self, connection: LoadConnection, messages: int) -> None: ...
    def delivered(self, connection: LoadConnection, stamp: float) -> None: ...

    def failed(self, why: str) -> None:
        raise ConnectionError(why)


@dataclass(frozen=True)
class WireSettings:
    servers: tuple[str, ...]
    messages: int
    content_bytes: int


def wire(settings: WireSettings) -> bool:
    """Print a line for each server, and one that compares them. Returns true, since an uncountable exchange raises."""
    exchanges: dict[str, Exchange] = {}
    with shared_services() as shared:
        for name in settings.servers:
            say(f"{name}: {settings.messages} messages")
            exchanges[name] = _measure(contestant(name, shared), settings)
            print_line(
                {"kind": "run", "server": name, "content_bytes": settings.content_bytes, **figures(exchanges[name])}
            )
    print_line({"kind": "requirement", **compare_bytes(exchanges, settings.content_bytes)})
    return True


def figures(exchange: Exchange) -> dict[str, Any]:
    """Bytes of each part, and of the message as a whole."""
    parts = {f"{name}_bytes": value for name, value in asdict(exchange).items()}
    return {**parts, "message_bytes": round(exchange.total, 1)}


def compare_bytes(exchanges: dict[str, Exchange], content_bytes: int) -> dict[str, Any]:
    """Compare ours with the plan's bytes: measured now, or `PLAN_MEASURED` for content of that size. None if
    unknown."""
    plan = exchanges.get(PLAN) or (PLAN_MEASURED if content_bytes == _MEASURED_CONTENT_BYTES else None)
    ours = exchanges.get(OURS)
    ratio = round(ours.total / plan.total, 3) if ours and plan else None
    return {
        "plan_measured_now": PLAN in exchanges,
        "plan_message_bytes": round(plan.total, 1) if plan else None,
        "ours_to_plan": ratio,
        "bytes_at_most_half": None if ratio is None else ratio <= MOST_BYTES,
    }


def _measure(server: Server, settings: WireSettings) -> Exchange:
    [chat] = server.prepare([2])
    server.shared.even_out(server.database_url)
    with server.started() as endpoint, select.epoll() as epoll:
        content, make = body(settings.content_bytes), ADAPTERS[server.protocol]

        def connect(participant: ChatParticipant) -> Tap:
            return Tap(endpoint.url, epoll, Silent(), lambda events: make(events, participant, content))

        sender, receiver = taps = [connect(participant) for participant in chat.participants]
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while not all(tap.is_open for tap in taps):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{server.name} did not welcome its clients within {OPEN_TIMEOUT_S:g} s")
            _serve_until_quiet(epoll, taps)
        _serve_until_quiet(epoll, taps)
        counted = []
        for _ in range(settings.messages):
            for tap in taps:
                tap.take_counts()
            sender.send(chat, time.perf_counter())
            _serve_until_quiet(epoll, taps)
            (send, ack), (answered, push) = (tap.take_counts() for tap in taps)
            if answered or sender.in_flight or not push:
                raise ConnectionError(f"{server.name}: unexpected bytes, no ack, or no delivery")
            receiver.send_marks()
            _serve_until_quiet(epoll, taps)
            counted.append((send, ack, push, sum(receiver.take_counts())))
        for tap in taps:
            tap.close()
    send, ack, push, mark = (round(mean(values), 1) for values in zip(*counted, strict=True))
    return Exchange(send, ack, push, mark or None)


def _serve_until_quiet(epoll: select.epoll, taps: list[Tap]) -> None:
    by_fd = {tap.fileno(): tap for tap in taps}
    while ready := epoll.poll(QUIET_S):
        for fd, events in ready:
            by_fd[fd].ready(events)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", default=f"{OURS},{PLAN}", help=f"which of {', '.join([OURS, *PEERS])}")
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--content-bytes", type=int, default=200)
    options = parser.parse_args()
    names = usable(options.servers.split(","))
    if not names:
        sys.exit("nothing to measure")
    run_alone(lambda: wire(WireSettings(names, options.messages, options.content_bytes)))


if __name__ == "__main__":
    main()
