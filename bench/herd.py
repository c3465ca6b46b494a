"""Clients that send no messages: they connect, stay, ping, and come back after they lose the server. One epoll.

They may also sync, with their last cursor. They keep to the protocol's rules for clients (`protocol/SPEC.md`, 10.4 and
13.3): a ping about every 30 s, and after a lost connection a random delay whose range doubles with each failure.
"""

from __future__ import annotations

import heapq
import math
import os
import random
import select
import socket
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import count
from typing import Final

from bench import websocket
from bench.pace import OpenLoop
from bench.processes import LOOPBACK
from bench.wave import Wave
from bench.websocket import MessageReader, Opcode, ServerFault
from client.backoff import FIRST_S, after_s, delay_s
from protocol import limits
from protocol.codec import decode_from_server, encode_request
from protocol.codes import CLOSES, CloseCode
from protocol.errors import RemoteProtocolError
from protocol.frames import Error, Hello, Push, Reply, Sync, Synced, Welcome

PING_INTERVAL_S: Final = 30.0
"""Interval of each client's pings; all clients together spread their pings evenly over it."""

ATTEMPT_TIMEOUT_S: Final = 10.0
"""Time from connecting to welcome, and for a sync; the server waits as long for a hello."""

_LOOK_S: Final = 0.05
"""Interval at which a wait checks a condition that other threads fulfil."""

_READ_BYTES: Final = 65536

clock = time.perf_counter


class _State(Enum):
    AWAY = auto()
    CONNECTING = auto()
    UPGRADING = auto()
    GREETING = auto()
    SYNCING = auto()
    REFUSED = auto()
    OPEN = auto()


class _Client:
    """One client.

    :ivar due: time when it connects (AWAY), syncs again (REFUSED) or gives up the attempt; infinite once it is open.
    :ivar cursor: cursor of its last sync.
    """

    __slots__ = (
        "begun",
        "cursor",
        "due",
        "failures",
        "greeted",
        "head",
        "reader",
        "refusals",
        "socket",
        "state",
        "token",
        "welcomed",
    )

    def __init__(self, token: str) -> None:
        self.token = token
        self.state = _State.AWAY
        self.socket: socket.socket | None = None
        self.reader: MessageReader | None = None
        self.head = b""
        self.cursor: bytes | None = None
        self.begun = self.greeted = self.welcomed = 0.0
        self.due = math.inf
        self.failures = self.refusals = 0


class Herd:
    """All clients of one gateway on this machine.

    :param syncs: whether clients sync after each welcome, and count as connected only then.
    :ivar connected: clients that are welcomed, and have synced if they sync.
    :ivar pings: sent pings.
    :ivar pongs: received pongs.
    :ivar losses: connections that ended after they were open.
    """

    def __init__(self, port: int, tokens: Sequence[str], *, syncs: bool = False) -> None:
        self._port = port
        self._syncs = syncs
        self._clients = [_Client(token) for token in tokens]
        self._by_fd: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._timers: list[tuple[float, int, _Client]] = []
        self._timer_numbers = count()
        self._waiting: list[_Client] = []
        self._open_loop: OpenLoop | None = None
        self._losses_to_come = 0
        self._wave = Wave()
        self._wave_began = 0.0
        self.connected = self.pings = self.pongs = self.losses = 0

    def open(self, concurrency: int, timeout_s: float) -> Wave:
        """Connect all clients, at most `concurrency` at a time; returns when all are welcomed or the time is over."""
        self._begin_wave()
        self._waiting = self._clients[::-1]
        for _ in range(min(concurrency, len(self._clients))):
            self._begin(self._waiting.pop())
        return self._end_wave(timeout_s)

    def stay(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Only ping, for this number of seconds or until `is_over`, and then wait for the last pong."""
        self._open_loop = OpenLoop(len(self._clients) / PING_INTERVAL_S, clock())
        self._serve(seconds, is_over)
        self._open_loop = None
        self._serve(ATTEMPT_TIMEOUT_S, lambda: self.pongs >= self.pings)

    def expect_loss(self) -> None:
        """Begin a new wave: the server is about to be killed."""
        self._begin_wave()
        self._losses_to_come = self.losses + self.connected

    def wait_back(self, timeout_s: float) -> Wave:
        """Return when all connected clients have lost their connections and are welcomed again, or the time is over."""
        return self._end_wave(timeout_s, lambda: self.losses >= self._losses_to_come)

    def cut(self) -> None:
        """End all connections; no client comes back on its own."""
        for client in list(self._by_fd.values()):
            self._disconnect(client)
            client.due = math.inf

    def come_back_within(self, spread_s: float, timeout_s: float) -> Wave:
        """Connect all, each at a random moment within `spread_s`; returns when all are connected or the time is over.

        No client may be connected before.
        """
        self._begin_wave()
        for client in self._clients:
            client.failures = 0
            self._plan(client, self._wave_began + random.uniform(0, spread_s))
        return self._end_wave(timeout_s)

    @property
    def is_whole(self) -> bool:
        """Whether all clients are connected."""
        return self.connected == len(self._clients)

    def close(self) -> None:
        """Close all sockets without close frames."""
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
        """Handle events for this number of seconds, or until `is_done`."""
        end = clock() + seconds
        while (now := clock()) < end and not is_done():
            due = self._timers[0][0] if self._timers else math.inf
            if self._open_loop is not None:
                due = min(due, self._open_loop.next)
            for fd, events in self._epoll.poll(min(_LOOK_S, max(0.0, min(end, due) - now))):
                if (client := self._by_fd.get(fd)) is not None:
                    self._handle(client, events)
            self._do_due(clock())

    def _do_due(self, now: float) -> None:
        if self._open_loop is not None:
            for number, _ in self._open_loop.due(now):
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
            elif client.state is _State.REFUSED:
                self._sync(client)
            else:
                self._lose(client, "no answer in time")

    def _begin(self, client: _Client) -> None:
        client.begun = clock()
        client.socket = made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect_ex((LOOPBACK, self._port))  # epoll reports the outcome
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
        except (ServerFault, RemoteProtocolError) as error:
            self._lose(client, str(error))

    def _upgrade(self, client: _Client, connected: socket.socket) -> None:
        if error := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        host = f"{LOOPBACK}:{self._port}"
        # A new socket's buffer takes these few bytes at once, and later a hello and a ping each 30 s.
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
                case Opcode.BINARY if client.state in (_State.GREETING, _State.SYNCING):
                    for frame in decode_from_server(payload):
                        self._receive(client, frame)
                case Opcode.PONG:
                    self.pongs += 1
                case Opcode.PING:
                    self._write(client, Opcode.PONG, payload)
                case Opcode.CLOSE:
                    self._lose(client, f"close code {int.from_bytes(payload[:2], 'big')}", payload)
                    return

    def _receive(self, client: _Client, frame: Reply | Push) -> None:
        match frame:
            case Welcome():
                self._welcome(client)
            case Synced(_, cursor, more):
                client.cursor = cursor
                if more:
                    self._sync(client)
                else:
                    self._wave.syncs.append(clock() - client.welcomed)
                    self._complete(client)
            case Error(_, code, _, retry_after_ms) if retry_after_ms is not None:
                self._note_failure(f"error {code}")
                client.state = _State.REFUSED
                self._plan(client, clock() + after_s(retry_after_ms, client.refusals))
                client.refusals += 1
            case Error(_, code):
                raise ServerFault(f"error {code}")

    def _welcome(self, client: _Client) -> None:
        client.welcomed = now = clock()
        wave = self._wave
        wave.hellos.append(now - client.greeted)
        wave.openings.append(now - client.begun)
        if self._syncs:
            client.refusals = 0
            self._sync(client)
        else:
            self._complete(client)

    def _sync(self, client: _Client) -> None:
        client.state = _State.SYNCING
        self._plan(client, clock() + ATTEMPT_TIMEOUT_S)
        self._write(client, Opcode.BINARY, encode_request(Sync(1, client.cursor)))

    def _complete(self, client: _Client) -> None:
        client.state, client.due, client.failures = _State.OPEN, math.inf, 0
        self.connected += 1
        after_s = clock() - self._wave_began
        self._wave.first_s = min(self._wave.first_s, after_s)
        if self.is_whole:
            self._wave.seconds = after_s
        if self._waiting:
            self._begin(self._waiting.pop())

    def _lose(self, client: _Client, why: str, close_payload: bytes = b"") -> None:
        if client.state is _State.OPEN:
            self.losses += 1
        else:
            self._note_failure(why)
        self._disconnect(client)
        self._plan(client, clock() + delay_s(client.failures, first_delay_s(close_payload)))
        client.failures += 1

    def _disconnect(self, client: _Client) -> None:
        assert client.socket is not None
        del self._by_fd[client.socket.fileno()]
        client.socket.close()  # which takes it out of the epoll as well
        if client.state is _State.OPEN:
            self.connected -= 1
        client.socket = client.reader = None
        client.state = _State.AWAY

    def _plan(self, client: _Client, due: float) -> None:
        client.due = due
        heapq.heappush(self._timers, (due, next(self._timer_numbers), client))

    def _note_failure(self, why: str) -> None:
        self._wave.failures[why] = self._wave.failures.get(why, 0) + 1

    def _write(self, client: _Client, opcode: int, payload: bytes) -> None:
        assert client.socket is not None
        client.socket.send(websocket.encode(opcode, payload))


def first_delay_s(close_payload: bytes) -> float:
    """The range of the first delay before connecting again; `close_payload` is empty without a close frame."""
    try:
        return CLOSES[CloseCode(int.from_bytes(close_payload[:2], "big"))].delay_s or FIRST_S
    except ValueError:
        return FIRST_S
