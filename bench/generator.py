"""The load generator's loop: one thread, one epoll, no framework, since it shares the machine with the server.

Every adapter runs under the same loop, so the cost of the loop is the same for every server.
"""

from __future__ import annotations

import gc
import heapq
import math
import random
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from bench.adapters import ADAPTERS, WRITERS, Adapter
from bench.connection import LoadConnection
from bench.cpu import CpuMeter, used
from bench.pace import Load, OpenLoop
from bench.recorder import Recorder, milliseconds
from bench.websocket import ServerFault
from bench.workload import Body, Chat, ChatParticipant, body

OPEN_TIMEOUT_S: Final = 20.0
SERVED_BETWEEN: Final = 50
"""Connections that open one after the other before those that are open are served: servers ping them, and 1,000 take
a while to open on a busy machine."""

_MOMENT_S: Final = 0.001
SETTLE_S: Final = 0.5
"""Time between the last connection and the first send; meanwhile servers tell contacts which users came online."""

DRAIN_TIMEOUT_S: Final = 10.0
"""Time for the last acks and deliveries; later ones count as missing."""

TOTAL: Final = "total_us_per_send"
"""CPU of everything that a server needs: its processes, and the services that no other server uses during the run."""

NOT_THE_SERVERS: Final = ("generator", "others")

clock = time.perf_counter


class NotOpenError(Exception):
    """The server refused a connection, or did not open it in time."""


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    :ivar protocol: a key of `ADAPTERS`.
    :ivar urls: ws://HOST:PORT each; they share the participants of all chats in turn.
    :ivar warm_s: seconds of load before the measured stretch, for each load.
    :ivar mark_interval_s: least time between a device's marks, where the protocol has marks; 0: no marks.
    """

    protocol: str
    urls: tuple[str, ...]
    chats: tuple[Chat, ...]
    content_bytes: int = 200
    warm_s: float = 2.0
    seconds: float = 6.0
    mark_interval_s: float = 1.0


class Ready(Protocol):
    """A socket's owner, which handles epoll's events."""

    def ready(self, events: int) -> bool:
        """Read or write the socket, which is ready. Returns whether it goes on."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Stretch:
    """The counts of the measured stretch.

    :ivar counts: events that came during the stretch, whenever their cause had left: "acked", "delivered".
    :ivar cpu_s: seconds of each group of processes.
    """

    seconds: float
    counts: Counter[str]
    cpu_s: dict[str, float]


class Generator:
    """All connections of a plan. Implements `connection.Reports`.

    :cvar adapters: by protocol, of participants who read what comes.
    """

    adapters: ClassVar[Mapping[str, type[Adapter]]] = ADAPTERS

    def __init__(self, plan: Plan, cpu: CpuMeter) -> None:
        self._plan, self._cpu = plan, cpu
        self._epoll = select.epoll()
        self._connections: dict[int, Ready] = {}
        self._by_user: dict[str, LoadConnection] = {}
        self._recorder = Recorder()
        self._load = Load()
        self._open_loop: OpenLoop | None = None
        self._sending = False
        self._marks_due: list[tuple[float, int, LoadConnection]] = []
        self._errors: list[str] = []
        self._sent = self._acked = self._delivered = self._expected = 0

    def open(self) -> None:
        """Connect every participant of every chat.

        :raises NotOpenError: if one of them fails.
        """
        participants = {participant.user: participant for chat in self._plan.chats for participant in chat.participants}
        content = body(self._plan.content_bytes)
        for number, participant in enumerate(participants.values()):
            try:
                self._open_one(self._plan.urls[number % len(self._plan.urls)], participant, content)
            except (OSError, ServerFault) as error:
                raise NotOpenError(str(error)) from error
            if number % SERVED_BETWEEN == SERVED_BETWEEN - 1:
                self._serve(_MOMENT_S)
        self._serve(OPEN_TIMEOUT_S, lambda: bool(self._errors) or all(c.is_open for c in self._by_user.values()))
        if self._errors or not all(c.is_open for c in self._by_user.values()):
            raise NotOpenError(self._errors[0] if self._errors else f"no answer in {OPEN_TIMEOUT_S:g} s")
        self._serve(SETTLE_S)
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing below makes cycles, and a collection would count as the server's latency

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._epoll.close()
        gc.unfreeze()
        gc.enable()

    def run(self, load: Load) -> dict[str, Any]:
        """Warm up, measure, and wait for the sends in flight; returns the figures."""
        self._sent = self._acked = self._delivered = self._expected = 0
        self._load, self._sending = load, True
        if load.rate is None:
            self._fill()
        else:
            self._open_loop = OpenLoop(load.rate, clock())
        self._serve(self._plan.warm_s)
        before, counts, began = self._cpu.read(), self._counts(), clock()
        for recorder in self._recorders():
            recorder.open(began)
        self._serve(self._plan.seconds)
        ended = clock()
        for recorder in self._recorders():
            recorder.close(ended)
        # A server that cannot keep up also pays later for its late answers, so only the acks until now count.
        stretch = Stretch(ended - began, self._counts() - counts, used(before, self._cpu.read()))
        self._sending, self._open_loop = False, None
        self._serve(DRAIN_TIMEOUT_S, self._is_drained)
        figures = self._figures(load, stretch)
        self._errors.clear()
        return figures

    def _recorders(self) -> Iterable[Recorder]:
        return [self._recorder]

    def _counts(self) -> Counter[str]:
        return Counter(acked=self._acked, delivered=self._delivered)

    # Reports of the connections.

    def acked(self, connection: LoadConnection, chat: Chat, stamp: float) -> None:
        now = clock()
        self._recorder.acked(stamp, now)
        self._acked += 1
        self._expected += len(chat.participants) - 1
        if self._sending and self._open_loop is None:
            self._send(connection, chat, now)

    def delivered(self, connection: LoadConnection, stamp: float) -> None:
        now = clock()
        self._recorder.delivered(stamp, now)
        self._received(connection, 1, now)

    def passed(self, connection: LoadConnection, messages: int) -> None:
        self._received(connection, messages, clock())

    def failed(self, why: str) -> None:
        self._errors.append(why)

    def _received(self, connection: LoadConnection, messages: int, now: float) -> None:
        self._delivered += messages
        if self._plan.mark_interval_s and not connection.mark_pending:
            # The first mark comes at a random moment. Without that all devices would mark at once, every second.
            connection.mark_pending = True
            self._plan_mark(now + random.uniform(0, self._plan.mark_interval_s), connection)

    def _open_one(self, url: str, participant: ChatParticipant, content: Body) -> None:
        make = (self.adapters if participant.is_reader else WRITERS)[self._plan.protocol]
        connection = LoadConnection(url, self._epoll, self, lambda events: make(events, participant, content))
        self._connections[connection.fileno()] = connection
        self._by_user[participant.user] = connection

    def _fill(self) -> None:
        for chat in self._plan.chats:
            for participant in chat.participants[: chat.writers]:
                for _ in range(self._load.window):
                    self._send(self._by_user[participant.user], chat, clock())

    def _send(self, connection: LoadConnection, chat: Chat, stamp: float) -> None:
        if not connection.is_open:
            self.failed("a sender has lost its connection")
            return
        self._sent += 1
        connection.send(chat, stamp)
        if self._open_loop is not None:
            self._recorder.sent(stamp, clock())

    def _serve(self, seconds: float, is_done: Callable[[], bool] | None = None) -> None:
        """Handle events for this number of seconds, or until `is_done`."""
        end = clock() + seconds
        while (now := clock()) < end and not (is_done is not None and is_done()):
            for fd, events in self._wait(min(end, self._next_due()) - now):
                if not self._connections[fd].ready(events):
                    del self._connections[fd]
            self._send_due()

    def _wait(self, seconds: float) -> list[tuple[int, int]]:
        """Wait for epoll's events, at most this number of seconds."""
        seconds = max(0.0, seconds)
        if self._open_loop is None:
            return self._epoll.poll(seconds)
        # epoll rounds up to whole milliseconds, which is most of a good server's latency. select has microseconds, and
        # an epoll is itself a file that select can wait for.
        select.select([self._epoll], [], [], seconds)
        return self._epoll.poll(0)

    def _next_due(self) -> float:
        mark = self._marks_due[0][0] if self._marks_due else math.inf
        return mark if self._open_loop is None else min(mark, self._open_loop.next)

    def _send_due(self) -> None:
        now = clock()
        if self._open_loop is not None:
            for number, stamp in self._open_loop.due(now):
                self._operate(number, stamp)
        while self._marks_due and self._marks_due[0][0] <= now:
            _, _, connection = heapq.heappop(self._marks_due)
            if connection.is_open:
                connection.send_marks()
                self._plan_mark(now + self._plan.mark_interval_s, connection)

    def _operate(self, number: int, stamp: float) -> None:
        """Do what is due in the open loop: the chats send in turn."""
        chats = self._plan.chats
        chat = chats[number % len(chats)]
        writer = chat.participants[number // len(chats) % chat.writers]
        self._send(self._by_user[writer.user], chat, stamp)

    def _plan_mark(self, due: float, connection: LoadConnection) -> None:
        heapq.heappush(self._marks_due, (due, connection.fileno(), connection))

    def _is_drained(self) -> bool:
        return not any(c.in_flight for c in self._by_user.values()) and self._delivered >= self._expected

    def _figures(self, load: Load, stretch: Stretch) -> dict[str, Any]:
        recorder, seconds = self._recorder, stretch.seconds
        unit, count = self._unit(stretch)
        unacked = self._sent - self._acked
        undelivered = self._expected - self._delivered
        figures: dict[str, Any] = {
            "load": load.name,
            "rate": load.rate,
            "window": load.window if load.rate is None else None,
            "chats": len(self._plan.chats),
            "connections": len(self._by_user),
            "content_bytes": self._plan.content_bytes,
            "seconds": round(seconds, 3),
            "valid": not (self._errors or unacked or undelivered) and (count > 0 or load.is_idle),
            "errors": len(self._errors),
            "unacked": unacked,
            "undelivered": undelivered,
            "first_error": self._errors[0] if self._errors else None,
            "acked_per_s": round(stretch.counts["acked"] / seconds, 1),
            "delivered_per_s": round(stretch.counts["delivered"] / seconds, 1),
            "ack_p50_ms": milliseconds(recorder.acks, 50),
            "ack_p99_ms": milliseconds(recorder.acks, 99),
            "delivery_p50_ms": milliseconds(recorder.deliveries, 50),
            "delivery_p99_ms": milliseconds(recorder.deliveries, 99),
            "late_p99_ms": milliseconds(recorder.lateness, 99),
        }
        for name, used_s in stretch.cpu_s.items():
            if name != "others":
                figures[f"{name}_us_per_{unit}"] = round(used_s / count * 1e6, 1) if count else None
            figures[f"{name}_cores"] = round(used_s / seconds, 4)
        of_server = [used_s for name, used_s in stretch.cpu_s.items() if name not in NOT_THE_SERVERS]
        figures[f"total_us_per_{unit}"] = round(sum(of_server) / count * 1e6, 1) if of_server and count else None
        return figures

    def _unit(self, stretch: Stretch) -> tuple[str, int]:
        """The unit among which CPU is shared out, and the number of them."""
        return "send", stretch.counts["acked"]
