"""The mixed load: against a small server in this process, and its HTTP connections."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bench.cpu import CpuMeter
from bench.generator import Plan
from bench.mixed import MixedGenerator, PageReader, left_out
from bench.mixture import OperationKind
from bench.pace import Load
from bench.workload import Chat, ChatParticipant
from tests.bench.relay import Relay
from tests.waiting import wait_until_blocking

CHATS = tuple(
    Chat(f"c{n}", tuple(ChatParticipant(f"u{n}-{k}") for k in range(size)), writers=size)
    for n, size in enumerate((4, 3, 2, 2))
)


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.generator.SETTLE_S", 0.0)
    monkeypatch.setattr("bench.generator.DRAIN_TIMEOUT_S", 0.3)


@contextmanager
def opened(relay: Relay) -> Iterator[MixedGenerator]:
    with relay.listening() as url:
        plan = Plan("ws", (url,), CHATS, warm_s=0.1, seconds=1.0)
        with closing(MixedGenerator(plan, CpuMeter({"server": [os.getpid()]}), 0, {})) as generator:
            generator.open()
            yield generator


@pytest.mark.usefixtures("_short")
def test_cpu_is_shared_out_among_all_operations() -> None:
    with opened(Relay(CHATS)) as generator:
        whole = generator.run(Load(rate=200))
        pages = generator.run(Load(rate=200, without=frozenset({OperationKind.SEND})))
    assert (whole["valid"], whole["first_error"]) == (True, None)
    assert whole["left_out"] == ["mark", "typing"]
    assert whole["operations_per_s"] == pytest.approx(170, rel=0.2)
    parts = ("acked_per_s", "history_per_s", "list_per_s")
    assert sum(whole[part] for part in parts) == pytest.approx(whole["operations_per_s"], rel=0.01)
    assert whole["total_us_per_operation"] == pytest.approx(
        whole["server_cores"] / whole["operations_per_s"] * 1e6, rel=0.05
    )
    assert whole["delivered_per_s"] > whole["acked_per_s"]
    assert 0 < whole["history_p50_ms"] <= whole["history_p99_ms"]
    assert (pages["load"], pages["without"], pages["acked_per_s"]) == ("rate-200-send", ["send"], 0)
    assert pages["valid"], "sends are not missing where they are left out"
    assert pages["operations_per_s"] == pytest.approx(30, rel=0.5)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("fault", [{"silent_to": "list"}, {"lose": True}, {"refuse_from": 20}])
def test_any_operation_without_its_answer_makes_the_run_invalid(fault: dict[str, str]) -> None:
    with opened(Relay(CHATS, **fault)) as generator:  # type: ignore[arg-type]
        figures = generator.run(Load(rate=200))
    assert not figures["valid"]
    assert bool(figures["unanswered"]) == ("lose" not in fault)


def test_the_peers_cannot_do_everything() -> None:
    assert left_out("alo") == left_out("sio") == frozenset()
    assert left_out("ws") == {OperationKind.MARK, OperationKind.TYPING}


@contextmanager
def a_reader(answer: bytes) -> Iterator[tuple[PageReader, socket.socket, list[PageReader], list[str]]]:
    """A connection whose server has answered its request, and does nothing else; the server's end."""
    idle: list[PageReader] = []
    failures: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, select.epoll() as epoll:
        reader = PageReader(listener.getsockname()[1], epoll, idle, failures.append)
        server, _ = listener.accept()
        with server:
            reader.ask(b"GET / HTTP/1.1\r\n\r\n", lambda: idle.extend([]))
            server.sendall(answer)
            wait_until_blocking(lambda: epoll.poll(0), "the answer comes")
            yield reader, server, idle, failures


def test_a_connection_is_idle_after_a_good_answer_until_the_server_ends_it() -> None:
    with a_reader(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (reader, server, idle, failures):
        assert reader.ready(select.EPOLLIN)
        assert idle == [reader]
        server.close()
        assert not reader.ready(select.EPOLLIN)
    assert (idle, failures) == ([], [])


def test_a_refused_read_is_a_failure() -> None:
    with a_reader(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") as (reader, _, idle, failures):
        assert not reader.ready(select.EPOLLIN)
    assert idle == []
    assert failures[0].startswith("HTTP/1.1 503")
