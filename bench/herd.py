"""Clients that have nothing to say: they connect, stay, ping, and come back when the server has gone. One epoll.

They keep to the protocol's rules for clients (`protocol/SPEC.md`, sections 6 and 8): a ping about every 30 s, and after
a lost connection a random delay whose range doubles with each failure.
"""

from __future__ import annotations

import heapq
import math
import os
import select
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Final

from bench import websocket
from bench.pace import Schedule
from bench.processes import LOOPBACK
from bench.websocket import MessageReader, Opcode, WebSocketError
from client.backoff import FIRST_S, delay_s
from protocol import limits
from protocol.codec import decode_from_server, encode_request
from protocol.codes import CLOSES, CloseCode
from protocol.errors import RemoteProtocolError
from protocol.frames import Hello, Welcome

PING_INTERVAL_S: Final = 30.0
"""Of each client; all of them are spread evenly over it."""

ATTEMPT_TIMEOUT_S: Final = 10.0
"""From connecting to welcome; the server's own patience is as long."""

_READ_BYTES: Final = 65536

clock = time.perf_counter


class _State(Enum):
    AWAY = auto()
    CONNECTING = auto()
    UPGRADING = auto()
    GREETING = auto()
    OPEN = auto()


@dataclass
class Wave:
    """What it took until all were welcomed.

    :ivar seconds: from its beginning to the last welcome.
    :ivar first_s: to the first.
    :ivar hellos: from `hello` to `welcome`, of each client.
    :ivar openings: from connecting to `welcome`, of each client; attempts that failed before are not in it.
    :ivar failures: attempts that failed, by reason.
    """

    seconds: float = math.inf
    first_s: float = math.inf
    hellos: array[float] = field(default_factory=lambda: array("d"))
    openings: array[float] = field(default_factory=lambda: array("d"))
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Connections a second, from the first welcome on: a server that starts answers nobody for a while."""
        return len(self.openings) / (self.seconds - self.first_s) if self.seconds > self.first_s else 0.0


class _Client:
    """One of them.

    :ivar due: when it connects (AWAY) or gives the attempt up; for ever once it is open.
    """

    __slots__ = ("begun", "due", "failures", "greeted", "head", "reader", "socket", "state", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.state = _State.AWAY
        self.socket: socket.socket | None = None
        self.reader: MessageReader | None = None
        self.head = b""
        self.begun = self.greeted = 0.0
        self.due = math.inf
        self.failures = 0


class Herd:
    """All clients of one gateway on this machine.

    :ivar connected: clients that are welcomed.
    :ivar pings: that were sent.
    :ivar pongs: that came.
    :ivar losses: connections that ended after they were open.
    """

    def __init__(self, port: int, tokens: Sequence[str]) -> None:
        self._port = port
        self._clients = [_Client(token) for token in tokens]
        self._by_fd: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._timers: list[tuple[float, int, _Client]] = []
        self._timer_numbers = count()
        self._waiting: list[_Client] = []
        self._schedule: Schedule | None = None
        self._losses_to_come = 0
        self._wave = Wave()
        self._wave_began = 0.0
        self.connected = self.pings = self.pongs = self.losses = 0

    def open(self, concurrency: int, timeout_s: float) -> Wave:
        """Connect all, at most so many at once; returns when all are welcomed or the time is over."""
        self._begin_wave()
        self._waiting = self._clients[::-1]
        for _ in range(min(concurrency, len(self._clients))):
            self._begin(self._waiting.pop())
        return self._end_wave(timeout_s)

    def stay(self, seconds: float) -> None:
        """Do nothing but ping, for so long and until the last pong has come."""
        self._schedule = Schedule(len(self._clients) / PING_INTERVAL_S, clock())
        self._serve(seconds)
        self._schedule = None
        self._serve(ATTEMPT_TIMEOUT_S, lambda: self.pongs >= self.pings)

    def expect_loss(self) -> None:
        """From here on a new wave counts: the server is about to be killed."""
        self._begin_wave()
        self._losses_to_come = self.losses + self.connected

    def wait_back(self, timeout_s: float) -> Wave:
        """Return when all who were connected have lost that and everybody is welcomed again, or the time is over."""
        return self._end_wave(timeout_s, lambda: self.losses >= self._losses_to_come)

    @property
    def is_whole(self) -> bool:
        """Whether everybody is connected."""
        return self.connected == len(self._clients)

    def close(self) -> None:
        """End all connections without a word."""
        for client in self._by_fd.values():
            if client.socket is not None:
                client.socket.close()
        self._epoll.close()

    def _begin_wave(self) -> None:
        self._wave, self._wave_began = Wave(), clock()

    def _end_wave(self, timeout_s: float, has_begun: Callable[[], bool] = lambda: True) -> Wave:
        self._serve(timeout_s, lambda: has_begun() and self.is_whole)
        return self._wave

    def _serve(self, seconds: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Handle whatever happens for so long, or until something holds."""
        end = clock() + seconds
        while (now := clock()) < end and not is_done():
            due = self._timers[0][0] if self._timers else math.inf
            if self._schedule is not None:
                due = min(due, self._schedule.next)
            for fd, events in self._epoll.poll(max(0.0, min(end, due) - now)):
                if (client := self._by_fd.get(fd)) is not None:
                    self._handle(client, events)
            self._do_due(clock())

    def _do_due(self, now: float) -> None:
        if self._schedule is not None:
            for number, _ in self._schedule.due(now):
                client = self._clients[number % len(self._clients)]
                if client.state is _State.OPEN:
                    self._write(client, Opcode.PING, b"")
                    self.pings += 1
        while self._timers and self._timers[0][0] <= now:
            due, _, client = heapq.heappop(self._timers)
            if client.due != due:
                continue
            if client.state is _State.AWAY:
                self._begin(client)
            else:
                self._lose(client, "no welcome in time")

    def _begin(self, client: _Client) -> None:
        client.begun = clock()
        client.socket = made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect_ex((LOOPBACK, self._port))  # epoll reports whatever comes of it
        client.state = _State.CONNECTING
        self._by_fd[made.fileno()] = client
        self._epoll.register(made, select.EPOLLOUT)
        self._plan(client, client.begun + ATTEMPT_TIMEOUT_S)

    def _handle(self, client: _Client, events: int) -> None:
        assert client.socket is not None
        try:
            if client.state is _State.CONNECTING:
                self._upgrade(client, client.socket)
            else:
                data = client.socket.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("ended by the server")
                self._take(client, data)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(client, error.strerror or str(error))
        except (WebSocketError, RemoteProtocolError) as error:
            self._lose(client, str(error))

    def _upgrade(self, client: _Client, connected: socket.socket) -> None:
        if error := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        host = f"{LOOPBACK}:{self._port}"
        # A new socket takes these few bytes at once, as it does a hello and a ping each 30 s.
        connected.send(websocket.handshake(host, limits.SOCKET_PATH, limits.SUBPROTOCOL))
        client.state, client.head = _State.UPGRADING, b""
        self._epoll.modify(connected, select.EPOLLIN)

    def _take(self, client: _Client, data: bytes) -> None:
        if client.state is _State.UPGRADING:
            client.head += data
            end = websocket.handshake_end(client.head)
            if end is None:
                return
            data, client.head = client.head[end:], b""
            client.reader = MessageReader()
            client.state, client.greeted = _State.GREETING, clock()
            self._write(client, Opcode.BINARY, encode_request(Hello(0, client.token, limits.PROTOCOL_VERSION)))
        assert client.reader is not None
        for opcode, payload in client.reader.feed(data):
            match opcode:
                case Opcode.BINARY if client.state is _State.GREETING:
                    if any(isinstance(frame, Welcome) for frame in decode_from_server(payload)):
                        self._welcome(client)
                case Opcode.PONG:
                    self.pongs += 1
                case Opcode.PING:
                    self._write(client, Opcode.PONG, payload)
                case Opcode.CLOSE:
                    self._lose(client, f"close code {int.from_bytes(payload[:2], 'big')}", payload)
                    return

    def _welcome(self, client: _Client) -> None:
        now = clock()
        client.state, client.due, client.failures = _State.OPEN, math.inf, 0
        self.connected += 1
        wave = self._wave
        wave.hellos.append(now - client.greeted)
        wave.openings.append(now - client.begun)
        wave.first_s = min(wave.first_s, now - self._wave_began)
        if self.is_whole:
            wave.seconds = now - self._wave_began
        if self._waiting:
            self._begin(self._waiting.pop())

    def _lose(self, client: _Client, why: str, close_payload: bytes = b"") -> None:
        assert client.socket is not None
        del self._by_fd[client.socket.fileno()]
        client.socket.close()  # which takes it out of the epoll as well
        if client.state is _State.OPEN:
            self.connected -= 1
            self.losses += 1
        else:
            self._wave.failures[why] = self._wave.failures.get(why, 0) + 1
        client.socket = client.reader = None
        client.state = _State.AWAY
        self._plan(client, clock() + delay_s(client.failures, first_delay_s(close_payload)))
        client.failures += 1

    def _plan(self, client: _Client, due: float) -> None:
        client.due = due
        heapq.heappush(self._timers, (due, next(self._timer_numbers), client))

    def _write(self, client: _Client, opcode: int, payload: bytes) -> None:
        assert client.socket is not None
        client.socket.send(websocket.encode(opcode, payload))


def first_delay_s(close_payload: bytes) -> float:
    """The range of the first delay before connecting again; `close_payload` is empty where no close frame came."""
    try:
        return CLOSES[CloseCode(int.from_bytes(close_payload[:2], "big"))].delay_s or FIRST_S
    except ValueError:
        return FIRST_S
