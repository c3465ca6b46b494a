"""The generator against a small server in this process that speaks the lean peer's protocol."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from bench.cpu import CpuMeter
from bench.generator import Generator, NotOpenError, Plan
from bench.pace import Load
from bench.websocket import MessageReader
from bench.workload import Chat, ChatParticipant

CHATS = tuple(Chat(f"c{n}", (ChatParticipant(f"from{n}"), ChatParticipant(f"to{n}"))) for n in range(4))
UNREAD_CHATS = tuple(
    Chat(f"c{n}", (ChatParticipant(f"from{n}"), ChatParticipant(f"to{n}", is_reader=False))) for n in range(4)
)


class Relay:
    """Acks every message and passes it to all other participants of its chat, unless it plays a fault.

    :ivar refuse_from: the number of the send from which on it refuses.
    :ivar lose: whether it delivers no message that it acks.
    """

    def __init__(self, *, refuse_from: int | None = None, lose: bool = False) -> None:
        self._refuse_from, self._lose = refuse_from, lose
        self._sockets: dict[str, socket.socket] = {}
        self._sends = 0
        self._lock = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            request = connection.recv(4096)
            user = request.split(b"userId=")[1].split(b" ")[0].decode()
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            self._sockets[user] = connection
            reader = MessageReader()
            while data := connection.recv(65536):
                # The masking key is zero, so a client's frame without it is a server's.
                for _, payload in reader.feed(_unmasked(data)):
                    self._handle(user, json.loads(payload))

    def _handle(self, user: str, send: dict[str, str]) -> None:
        with self._lock:
            self._sends += 1
            if self._refuse_from is not None and self._sends >= self._refuse_from:
                self._tell(user, {"t": "ack", "id": send["id"], "success": False, "error": "full"})
                return
            self._tell(user, {"t": "ack", "id": send["id"], "success": True})
            if not self._lose:
                message = {"sender_id": user, "encrypted_content": send["encryptedContent"]}
                self._tell(user.replace("from", "to"), {"t": "new", "message": message})

    def _tell(self, user: str, frame: dict[str, object]) -> None:
        payload = json.dumps(frame, separators=(",", ":")).encode()
        self._sockets[user].sendall(b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload)


def _unmasked(data: bytes) -> bytes:
    """Every send here is of one size class, alone in what was read."""
    assert data[:2] == b"\x81\xfe"
    return b"\x81\x7e" + data[2:4] + data[8:]


@contextmanager
def listening(relay: Relay) -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threads: list[threading.Thread] = []

        def accept() -> None:
            for _ in range(2 * len(CHATS)):
                thread = threading.Thread(target=relay.serve, args=listener.accept()[:1])
                thread.start()
                threads.append(thread)

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        accepting.join()
        for thread in threads:
            thread.join()


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.generator.SETTLE_S", 0.0)
    monkeypatch.setattr("bench.generator.DRAIN_TIMEOUT_S", 0.2)


@contextmanager
def opened(relay: Relay, chats: tuple[Chat, ...] = CHATS) -> Iterator[Generator]:
    with listening(relay) as url:
        plan = Plan("ws", (url,), chats, warm_s=0.05, seconds=0.2)
        generator = Generator(plan, CpuMeter({"server": [os.getpid()]}))
        with closing(generator):
            generator.open()
            yield generator


@pytest.mark.usefixtures("_short")
def test_a_closed_and_an_open_loop_on_the_same_connections() -> None:
    with opened(Relay()) as generator:
        closed = generator.run(Load())
        paced = generator.run(Load(rate=100))
    assert closed["valid"]
    assert closed["connections"] == 8
    assert closed["acked_per_s"] > 100
    assert 0 < closed["ack_p50_ms"] <= closed["ack_p99_ms"]
    assert closed["server_us_per_send"] > 0
    assert closed["total_us_per_send"] == closed["server_us_per_send"], "the generator is no part of the server"
    assert paced["valid"]
    assert 70 < paced["acked_per_s"] < 130
    assert paced["delivered_per_s"] == pytest.approx(paced["acked_per_s"], rel=0.2)


@pytest.mark.usefixtures("_short")
def test_a_refused_send_makes_the_run_invalid() -> None:
    with opened(Relay(refuse_from=5)) as generator:
        figures = generator.run(Load())
    assert not figures["valid"]
    assert (figures["errors"], figures["unacked"], figures["first_error"]) == (4, 4, "full")


@pytest.mark.usefixtures("_short")
def test_messages_that_are_counted_unread_are_delivered() -> None:
    with opened(Relay(), UNREAD_CHATS) as generator:
        figures = generator.run(Load(rate=100))
    assert figures["valid"]
    assert figures["delivered_per_s"] > 50
    assert figures["delivery_p50_ms"] is None


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("chats", [CHATS, UNREAD_CHATS])
def test_an_acked_message_that_is_not_delivered_makes_the_run_invalid(chats: tuple[Chat, ...]) -> None:
    with opened(Relay(lose=True), chats) as generator:
        figures = generator.run(Load(rate=100))
    assert not figures["valid"]
    assert figures["undelivered"] > 10
    assert (figures["errors"], figures["unacked"]) == (0, 0)


def test_a_server_that_hangs_up_is_not_open() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        generator = Generator(Plan("ws", (url,), CHATS), CpuMeter({}))
        with closing(generator), pytest.raises(NotOpenError):
            generator.open()
        hang_up.join()
