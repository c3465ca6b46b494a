"""One device of our server that comes back after a while: it connects, says hello, and syncs until it holds everything.

The device reads its socket only while it waits for a frame, and blocks then.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self, TypeAlias

import cbor2

from bench import websocket
from bench.processes import LOOPBACK
from bench.websocket import MessageReader, Opcode
from protocol import limits
from protocol.codec import encode_request
from protocol.frames import Hello, Key, Sync, Type

TIMEOUT_S: Final = 30.0
"""Timeout of each read; a page takes milliseconds."""

_READ_BYTES: Final = 2**18

Frame: TypeAlias = dict[int, Any]
"""A decoded frame: its values by the numbers of its fields."""


class SyncOutcome(NamedTuple):
    """The result of a sync up to the last page: the device holds everything.

    :ivar pushes: all pushes in their order of arrival.
    :ivar cursor: cursor for the next sync.
    :ivar requests: number of sync requests, each of them a round trip.
    """

    pushes: list[Frame]
    cursor: bytes
    requests: int


class ReturningDevice:
    """A connection to a gateway on this machine.

    :ivar received: bytes read from the socket.
    :raises OSError: anywhere, if the server cannot be reached, does not answer, or answers with an unexpected frame.
    :raises ServerFault: anywhere, if the server breaks RFC 6455.
    """

    def __init__(self, port: int) -> None:
        self.received = 0
        self._reader = MessageReader()
        self._socket = socket.create_connection((LOOPBACK, port), TIMEOUT_S)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._frames = self._read_frames(self._shake_hands(port))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hello(self, token: str) -> None:
        """Log in, and return after the welcome."""
        self._ask(Hello(0, token, limits.PROTOCOL_VERSION))
        self._wait_for(Type.WELCOME)

    def sync(self, cursor: bytes | None) -> SyncOutcome:
        """Request page after page up to the last."""
        pushes: list[Frame] = []
        requests, more = 0, True
        while more:
            requests += 1
            self._ask(Sync(requests, cursor))
            *page, synced = self._wait_for(Type.SYNCED)
            pushes += page
            cursor, more = synced[Key.CURSOR], synced[Key.MORE]
        assert cursor is not None
        return SyncOutcome(pushes, cursor, requests)

    def _ask(self, request: Hello | Sync) -> None:
        self._socket.sendall(websocket.encode(Opcode.BINARY, encode_request(request)))

    def _wait_for(self, type_: int) -> list[Frame]:
        """All frames up to the first one of this type, and that one."""
        frames: list[Frame] = []
        for frame in self._frames:
            frames.append(frame)
            if frame[Key.TYPE] == type_:
                return frames
            if frame[Key.TYPE] == Type.ERROR:
                raise ConnectionError(f"{frame[Key.CODE]}: {frame[Key.DETAIL]}")
        raise AssertionError("frames come until the connection fails")

    def _shake_hands(self, port: int) -> bytes:
        """Shake hands; returns the bytes that the server has already sent after its answer."""
        self._socket.sendall(websocket.handshake(f"{LOOPBACK}:{port}", limits.SOCKET_PATH, limits.SUBPROTOCOL))
        answer = b""
        while (end := websocket.handshake_end(answer)) is None:
            answer += self._read()
        return answer[end:]

    def _read_frames(self, data: bytes) -> Iterator[Frame]:
        while True:
            for opcode, payload in self._reader.feed(data):
                if opcode == Opcode.CLOSE:
                    raise ConnectionError(f"close code {int.from_bytes(payload[:2], 'big')}")
                if opcode == Opcode.BINARY:
                    # Inside an array of indefinite length, one call decodes a sequence of any number of frames.
                    yield from cbor2.loads(b"\x9f" + payload + b"\xff")
            data = self._read()

    def _read(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the server ended the connection")
        self.received += len(data)
        return data
