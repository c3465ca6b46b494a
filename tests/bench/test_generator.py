"""The generator against a small server in this process that speaks the lean peer's protocol."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bench.cpu import CpuMeter
from bench.generator import Generator, NotOpenError, Plan
from bench.pace import Load
from bench.workload import Chat, ChatParticipant
from tests.bench.relay import Relay

CHATS = tuple(Chat(f"c{n}", (ChatParticipant(f"from{n}"), ChatParticipant(f"to{n}"))) for n in range(4))
UNREAD_CHATS = tuple(
    Chat(f"c{n}", (ChatParticipant(f"from{n}"), ChatParticipant(f"to{n}", is_reader=False))) for n in range(4)
)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.generator.SETTLE_S", 0.0)
    monkeypatch.setattr("bench.generator.DRAIN_TIMEOUT_S", 0.2)


@contextmanager
def opened(relay: Relay, chats: tuple[Chat, ...] = CHATS) -> Iterator[Generator]:
    with relay.listening() as url:
        plan = Plan("ws", (url,), chats, warm_s=0.05, seconds=0.2)
        generator = Generator(plan, CpuMeter({"server": [os.getpid()]}))
        with closing(generator):
            generator.open()
            yield generator


@pytest.mark.usefixtures("_short")
def test_a_closed_and_an_open_loop_on_the_same_connections() -> None:
    with opened(Relay(CHATS)) as generator:
        closed = generator.run(Load())
        paced = generator.run(Load(rate=100))
    assert closed["valid"]
    assert closed["connections"] == 8
    assert closed["acked_per_s"] > 100
    assert 0 < closed["ack_p50_ms"] <= closed["ack_p99_ms"]
    assert closed["server_us_per_send"] > 0
    assert closed["total_us_per_send"] == closed["server_us_per_send"], "the generator is no part of the server"
    assert paced["valid"]
    assert 50 < paced["acked_per_s"] < 200, "100 a second; a busy machine acknowledges some of them late"
    assert paced["delivered_per_s"] == pytest.approx(paced["acked_per_s"], rel=0.2)


@pytest.mark.usefixtures("_short")
def test_open_connections_answer_pings_while_others_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.generator.SERVED_BETWEEN", 1)
    with opened(Relay(CHATS, pings_first=True)) as generator:
        assert generator.run(Load(rate=100))["valid"]


@pytest.mark.usefixtures("_short")
def test_a_refused_send_makes_the_run_invalid() -> None:
    with opened(Relay(CHATS, refuse_from=5)) as generator:
        figures = generator.run(Load())
    assert not figures["valid"]
    assert (figures["errors"], figures["unacked"], figures["first_error"]) == (4, 4, "full")


@pytest.mark.usefixtures("_short")
def test_messages_that_are_counted_unread_are_delivered() -> None:
    with opened(Relay(CHATS), UNREAD_CHATS) as generator:
        figures = generator.run(Load(rate=100))
    assert figures["valid"]
    assert figures["delivered_per_s"] > 50
    assert figures["delivery_p50_ms"] is None


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("chats", [CHATS, UNREAD_CHATS])
def test_an_acked_message_that_is_not_delivered_makes_the_run_invalid(chats: tuple[Chat, ...]) -> None:
    with opened(Relay(CHATS, lose=True), chats) as generator:
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
