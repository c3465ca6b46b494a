"""A participant that repeats a send, unchanged, when the server asks for that; its latencies are not measured."""

from __future__ import annotations

import heapq
import select
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import cbor2

from bench.adapters.alo import Alo
from bench.adapters.base import FIRST_SEND, Events
from bench.connection import LoadConnection
from bench.threads import in_thread
from bench.websocket import ServerFault
from bench.workload import Chat, ChatParticipant, body
from protocol.frames import Key, Type

DRAIN_TIMEOUT_S: Final = 15.0
"""Time for the last acks: three times the wait after which the server refuses a send and asks for a retry."""

_POLL_S: Final = 0.05

clock = time.monotonic


class Retrier:
    """One connection to our server that keeps some sends in flight, in a thread of its own. Implements
    `connection.Reports`.

    Read the attributes only after the retrier has left.

    :ivar acks: the `seq`s in the acks of each send, by its number.
    :ivar errors: number of refused sends by error code; the retrier sends each of them again.
    :ivar longest_s: from a send's first try to its ack.
    :ivar error: why the retrier gave up, if it did.
    """

    def __init__(self, url: str, chat: Chat, window: int) -> None:
        self._url, self._chat, self._window = url, chat, window
        self._is_sending = threading.Event()
        self._is_over = threading.Event()
        self._give_up_at = 0.0
        self._sends: dict[int, tuple[bytes, float]] = {}
        """Sends without an ack: the content and the time of the first try, by number."""
        self._again: list[tuple[float, int]] = []
        self.acks: dict[int, list[int]] = {}
        self.errors: Counter[str] = Counter()
        self.longest_s = 0.0
        self.error: str | None = None

    def present(self) -> AbstractContextManager[None]:
        """Send while the block runs, and wait for the missing acks at its end."""
        return in_thread(self._run, begun=self._is_sending, end=self._end)

    def _end(self) -> None:
        self._give_up_at = clock() + DRAIN_TIMEOUT_S
        self._is_over.set()

    # Reports of the device.

    def sent(self, request: int, seq: int) -> None:
        """An ack has come."""
        self.acks[request].append(seq)
        first = self._sends.pop(request, None)
        if first is not None:
            self.longest_s = max(self.longest_s, clock() - first[1])

    def refused(self, request: int, code: str, retry_after_ms: int | None) -> None:
        """An error has come."""
        if retry_after_ms is None:
            self.failed(f"{code}, which no retry mends")
            return
        self.errors[code] += 1
        heapq.heappush(self._again, (clock() + retry_after_ms / 1000, request))

    def acked(self, connection: LoadConnection, chat: Chat, stamp: float) -> None: ...
    def passed(self, connection: LoadConnection, messages: int) -> None: ...
    def delivered(self, connection: LoadConnection, stamp: float) -> None: ...

    def failed(self, why: str) -> None:
        self.error = self.error or why

    def _run(self) -> None:
        try:
            with select.epoll() as epoll:
                self._send_all(epoll)
        except (OSError, ServerFault) as error:
            self.failed(str(error))
        finally:
            self._is_sending.set()

    def _send_all(self, epoll: select.epoll) -> None:
        devices: list[_Device] = []

        def make(events: LoadConnection) -> _Device:
            devices.append(_Device(events, self._chat.participants[0], self))
            return devices[0]

        connection = LoadConnection(self._url, epoll, self, make)
        while self.error is None and not self._is_done():
            for _, events in epoll.poll(self._wait_s()):
                if not connection.ready(events):
                    return
            if connection.is_open:
                self._fill(devices[0], connection.reply)
                self._is_sending.set()
        connection.close()

    def _is_done(self) -> bool:
        return self._is_over.is_set() and (not self._sends or clock() > self._give_up_at)

    def _wait_s(self) -> float:
        return min(_POLL_S, max(0.0, self._again[0][0] - clock())) if self._again else _POLL_S

    def _fill(self, device: _Device, write: Callable[[bytes], None]) -> None:
        """Repeat the sends that are due, and send new messages up to the window."""
        while self._again and self._again[0][0] <= clock():
            write(self._sends[heapq.heappop(self._again)[1]][0])
        while len(self._sends) < self._window and not self._is_over.is_set():
            request = FIRST_SEND + len(self.acks)
            payload = device.send(request, self._chat.conversation, clock())
            self.acks[request] = []
            self._sends[request] = payload, clock()
            write(payload)


class _Device(Alo):
    """Tells the retrier which request a reply is for, and whether an error asks for a retry."""

    __slots__ = ("_retrier",)

    def __init__(self, events: Events, participant: ChatParticipant, retrier: Retrier) -> None:
        super().__init__(events, participant, body(200))
        self._retrier = retrier

    def receive(self, payload: bytes) -> None:
        for frame in cbor2.loads(b"\x9f" + payload + b"\xff"):
            match frame[Key.TYPE]:
                case Type.SENT:
                    self._retrier.sent(frame[Key.REQUEST], frame[Key.SEQ])
                case Type.ERROR:
                    self._retrier.refused(frame[Key.REQUEST], frame[Key.CODE], frame.get(Key.RETRY_AFTER_MS))
                case Type.WELCOME:
                    self.events.opened()
