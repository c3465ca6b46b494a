"""The generator's loop for a mixed load: sends, marks, typing, and pages that are read over HTTP.

Like sends, the other operations leave at their times, whether or not earlier answers have come, and their latencies
count from there. All users are connected over WebSocket. Their HTTP requests come over few keep-alive connections, as
from a reverse proxy; a request that finds all of them busy opens a new one.
"""

from __future__ import annotations

import random
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from bench.adapters import SYNCED
from bench.connection import LoadConnection
from bench.cpu import CpuMeter
from bench.generator import NOT_THE_SERVERS, Generator, Plan, Stretch, clock
from bench.http import MAX_REQUESTS, HttpClientConnection
from bench.http_paths import HTTP_PATHS
from bench.mixture import Mixture, Operation, OperationKind
from bench.pace import Load
from bench.recorder import Recorder, milliseconds
from bench.workload import Chat, ChatParticipant

IDLE_S: Final = 3.0
"""An HTTP connection that was idle for longer is not used again: the servers close theirs after 5 s."""

MARK_TRIES: Final = 200
"""Places in which a mark is tried: a user only marks what the device has received and the user has not marked."""

READS: Final = frozenset({OperationKind.HISTORY, OperationKind.LIST})


def left_out(protocol: str) -> frozenset[OperationKind]:
    """The kinds of operations that a server cannot do."""
    adapter = SYNCED[protocol]
    over_http = READS if protocol in HTTP_PATHS else frozenset[OperationKind]()
    return frozenset(OperationKind) - {OperationKind.SEND} - adapter.answered - adapter.unanswered - over_http


class PageReader:
    """One HTTP connection."""

    def __init__(self, port: int, epoll: select.epoll, idle: list[PageReader], failed: Callable[[str], None]) -> None:
        self._connection = HttpClientConnection(port)
        self._epoll, self._idle, self._failed = epoll, idle, failed
        self._done: Callable[[], None] | None = None
        self._idle_since = 0.0
        epoll.register(self._connection, select.EPOLLIN)

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def is_fresh(self) -> bool:
        """Whether the connection can take a request."""
        return time.monotonic() - self._idle_since < IDLE_S and self._connection.asked < MAX_REQUESTS

    def ask(self, request: bytes, done: Callable[[], None]) -> None:
        """Send a request; `done` is called when its answer has come and is good."""
        self._done = done
        self._connection.ask(request)

    def ready(self, events: int) -> bool:
        """Read the socket, which is ready. Returns whether the connection goes on."""
        if self._done is None:  # the server ends an idle connection
            self._idle.remove(self)
            self.close()
            return False
        error = self._connection.read()
        if error is None:
            return True
        done, self._done = self._done, None
        if error:
            self._failed(error)
            self.close()
            return False
        done()
        self._idle_since = time.monotonic()
        self._idle.append(self)
        return True

    def close(self) -> None:
        self._epoll.unregister(self._connection)
        self._connection.close()


class MixedGenerator(Generator):
    """All connections of a plan, under open loops of `bench.mixture`.

    :param http_port: where the server answers HTTP requests, if it does.
    :param headers: of all HTTP requests.
    """

    adapters = SYNCED

    def __init__(self, plan: Plan, cpu: CpuMeter, http_port: int, headers: Mapping[str, str]) -> None:
        super().__init__(plan, cpu)
        self._port, self._headers = http_port, headers
        self._paths = HTTP_PATHS.get(plan.protocol)
        self._mixture = Mixture(plan.chats)
        self._operations: Iterator[Operation] = iter(())
        self._left_out = frozenset[OperationKind]()
        self._chance = random.Random(0)
        self._idle: list[PageReader] = []
        self._of_kind: dict[OperationKind, Recorder] = {
            kind: Recorder() for kind in OperationKind if kind is not OperationKind.SEND
        }
        self._asked = self._unmarked = 0
        self._answered: Counter[str] = Counter()

    def run(self, load: Load) -> dict[str, Any]:
        """As in `Generator`, with the operations from the beginning."""
        self._operations = self._mixture.operations()
        self._left_out = left_out(self._plan.protocol) | load.without
        self._asked = self._unmarked = 0
        self._answered.clear()
        return super().run(load)

    def _recorders(self) -> Iterable[Recorder]:
        return [self._recorder, *self._of_kind.values()]

    def _counts(self) -> Counter[str]:
        return super()._counts() + self._answered

    def _operate(self, number: int, stamp: float) -> None:
        kind, chat, participant = next(self._operations)
        if kind in self._left_out:
            return
        if kind is OperationKind.SEND:
            self._send(self._by_user[participant.user], chat, stamp)
        elif kind is OperationKind.MARK:
            self._mark(chat, participant, stamp)
        elif kind in READS and self._paths is not None:
            self._read(kind, chat, participant, stamp)
        else:
            self._ask(kind, chat, self._by_user[participant.user], stamp)

    def _ask(self, kind: OperationKind, chat: Chat, connection: LoadConnection, stamp: float) -> bool:
        if not connection.is_open:
            self.failed("a user has lost the connection")
            return True
        is_asked = connection.operate(kind, chat.conversation, partial(self._done, kind, stamp))
        self._asked += is_asked
        return is_asked

    def _mark(self, chat: Chat, participant: ChatParticipant, stamp: float) -> None:
        for _ in range(MARK_TRIES):
            if self._ask(OperationKind.MARK, chat, self._by_user[participant.user], stamp):
                return
            chat, participant = self._mixture.place(self._chance)
        self._unmarked += 1

    def _read(self, kind: OperationKind, chat: Chat, participant: ChatParticipant, stamp: float) -> None:
        assert self._paths is not None
        if kind is OperationKind.HISTORY:
            request = self._paths.history(participant, chat.conversation, **self._headers)
        else:
            request = self._paths.list(participant, **self._headers)
        self._asked += 1
        self._reader().ask(request, partial(self._done, kind, stamp))

    def _reader(self) -> PageReader:
        while self._idle:
            reader = self._idle.pop()
            if reader.is_fresh:
                return reader
            del self._connections[reader.fileno()]
            reader.close()
        reader = PageReader(self._port, self._epoll, self._idle, self.failed)
        self._connections[reader.fileno()] = reader
        return reader

    def _done(self, kind: OperationKind, stamp: float) -> None:
        self._answered[kind] += 1
        self._of_kind[kind].acked(stamp, clock())

    def _is_drained(self) -> bool:
        return super()._is_drained() and self._answered.total() >= self._asked

    def _unit(self, stretch: Stretch) -> tuple[str, int]:
        return "operation", stretch.counts["acked"] + sum(stretch.counts[kind] for kind in self._of_kind)

    def _figures(self, load: Load, stretch: Stretch) -> dict[str, Any]:
        figures = super()._figures(load, stretch)
        of_server = [cores for name, cores in stretch.cpu_s.items() if name not in NOT_THE_SERVERS]
        unanswered = self._asked - self._answered.total()
        _, operations = self._unit(stretch)
        figures |= {
            "valid": figures["valid"] and not unanswered,
            "unanswered": unanswered,
            "unmarked": self._unmarked,
            "without": sorted(load.without),
            "left_out": sorted(self._left_out - load.without),
            "operations_per_s": round(operations / stretch.seconds, 1),
            "total_cores": round(sum(of_server) / stretch.seconds, 4),
        }
        for kind, recorder in self._of_kind.items():
            figures |= {
                f"{kind}_per_s": round(stretch.counts[kind] / stretch.seconds, 1),
                f"{kind}_p50_ms": milliseconds(recorder.acks, 50),
                f"{kind}_p99_ms": milliseconds(recorder.acks, 99),
            }
        return figures
