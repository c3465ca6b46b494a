"""A chat whose row another transaction has locked, a participant that repeats refused sends, and the summaries of
both."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from bench.locked import LockedSettings, account, measure_locked, summarize_locked
from bench.ours import Ours
from bench.retrier import Retrier
from bench.workload import Chat, ChatParticipant
from protocol.codec import decode_from_client, encode
from protocol.frames import Error, Hello, Send, Sent, Welcome
from protocol.limits import MAX_FRAGMENTS, MAX_WEBSOCKET_MESSAGE_BYTES
from protocol.websocket import WebSocketReceiver, binary_header

LOCKED_S = 1.0
CHAT = Chat("00000000-0000-0000-0000-000000000003", (ChatParticipant("one", "token"), ChatParticipant("other")))


@pytest.mark.long
def test_the_locked_chat_waits_and_the_others_do_not(ours: Ours) -> None:
    chats = ours.prepare([2] * 3)
    free, held, locked_chat = measure_locked(ours, chats, LockedSettings(len(chats), 2, 1, LOCKED_S))
    assert (free["valid"], held["valid"], locked_chat["valid"]) == (True, True, True)
    assert (free["locked_s"], held["chats"]) == (0.0, 2)
    assert held["locked_s"] >= LOCKED_S
    assert held["ack_p99_ms"] < LOCKED_S * 1000 / 2
    assert locked_chat["longest_s"] > LOCKED_S * 0.9, "the lock was real"
    assert locked_chat["acked_exactly_once"]
    assert locked_chat["stored"] == locked_chat["sends"] > 2


class Refusing:
    """A server that refuses each send the first time, asking for it again if `retry_after_ms` is given.

    :ivar sends: all that came, in order.
    """

    def __init__(self, retry_after_ms: int | None) -> None:
        self._retry_after_ms = retry_after_ms
        self.sends: list[Send] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            serving = threading.Thread(target=self._serve, args=[listener])
            serving.start()
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
            serving.join()

    def _serve(self, listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(4096)
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            receiver = WebSocketReceiver(MAX_WEBSOCKET_MESSAGE_BYTES, MAX_FRAGMENTS)
            while data := connection.recv(65536):
                for message in receiver.receive(data):
                    assert isinstance(message, bytes)
                    [frame] = decode_from_client(message)
                    reply = encode(self._reply(frame))
                    connection.sendall(binary_header(len(reply)) + reply)

    def _reply(self, frame: object) -> Welcome | Error | Sent:
        if isinstance(frame, Hello):
            return Welcome(frame.request, 1, bytes(16), bytes(16), 1, 2, 30_000)
        assert isinstance(frame, Send)
        is_new = frame not in self.sends
        self.sends.append(frame)
        if is_new:
            return Error(frame.request, "overloaded", "locked", self._retry_after_ms)
        return Sent(frame.request, len(self.sends), bytes(16), 1)


def test_refused_send_is_repeated_unchanged() -> None:
    server = Refusing(retry_after_ms=1)
    with server.listening() as url:
        retrier = Retrier(url, CHAT, window=2)
        with retrier.present():
            pass
    temp_ids = [send.temp_id for send in server.sends]
    assert retrier.error is None
    assert len(retrier.acks) >= 2
    assert sorted(map(temp_ids.count, set(temp_ids))) == [2] * len(retrier.acks)
    assert retrier.errors == {"overloaded": len(retrier.acks)}
    assert all(len(seqs) == 1 for seqs in retrier.acks.values())


def test_the_retrier_does_not_repeat_a_send_after_a_permanent_error() -> None:
    server = Refusing(retry_after_ms=None)
    with server.listening() as url:
        retrier = Retrier(url, CHAT, window=1)
        with retrier.present():
            pass
    assert len(server.sends) == 1
    assert retrier.error == "overloaded, which no retry mends"
    assert account(retrier, set())["valid"] is False


@pytest.mark.parametrize(
    ("acks", "stored", "is_exact"),
    [
        ({1: [1], 2: [2]}, {1, 2}, True),
        ({1: [1], 2: [2, 2]}, {1, 2}, False),
        ({1: [1], 2: []}, {1, 2}, False),
        ({1: [1], 2: [2]}, {1, 2, 3}, False),
        ({1: [1], 2: [3]}, {1, 2}, False),
    ],
)
def test_exactly_once_is_one_ack_and_one_row(acks: dict[int, list[int]], stored: set[int], is_exact: bool) -> None:
    retrier = Retrier("ws://127.0.0.1:1", CHAT, 1)
    retrier.acks = acks
    assert account(retrier, stored)["acked_exactly_once"] is is_exact


def stretch(name: str, round_: int, p99: float, *, valid: bool = True) -> dict[str, Any]:
    return {"kind": "run", "stretch": name, "round": round_, "ack_p99_ms": p99, "valid": valid}


@pytest.mark.parametrize(("factor", "is_met"), [(2.0, True), (2.1, False)])
def test_the_others_are_compared_with_their_own_round(factor: float, is_met: bool) -> None:
    runs = [
        stretch(name, round_, p99 * (factor if name == "locked" else 1))
        for round_, p99 in ((1, 5.0), (2, 50.0))
        for name in ("free", "locked")
    ]
    chat = {"kind": "locked_chat", "valid": True, "acked_exactly_once": True, "errors": {"overloaded": 2}}
    *_, errors, requirement = summarize_locked([*runs, chat, chat])
    assert errors["errors"] == {"overloaded": 4}
    assert requirement == {
        "kind": "requirement",
        "invalid_runs": 0,
        "p99_at_most_double": is_met,
        "locked_chat_acked_exactly_once": True,
    }


def test_error_of_the_others_during_the_lock_fails_the_requirement() -> None:
    runs = [*(stretch(name, 1, 5.0) for name in ("free", "locked")), stretch("locked", 2, 5.0, valid=False)]
    *_, requirement = summarize_locked(runs)
    assert (requirement["invalid_runs"], requirement["p99_at_most_double"]) == (1, False)
    *_, unknown = summarize_locked([])
    assert (unknown["p99_at_most_double"], unknown["locked_chat_acked_exactly_once"]) == (None, None)
