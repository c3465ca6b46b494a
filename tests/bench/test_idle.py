"""Idle clients against a real gateway that is killed, and their answers to close codes."""

import os
import signal
from contextlib import closing

import psycopg
import pytest

from bench import herd
from bench.herd import Herd, first_delay_s
from bench.ours import Ours
from bench.processes import free_port
from bench.wave import Wave, describe
from client.backoff import FIRST_S
from protocol.codes import CloseCode

CLIENTS = 20


@pytest.fixture
def tokens(ours: Ours) -> list[str]:
    chats = ours.prepare([2, CLIENTS - 2])
    assert [len(chat.participants) for chat in chats] == [2, CLIENTS - 2]
    with psycopg.connect(ours.database_url) as connection:
        kinds = connection.execute("SELECT id::text, kind FROM conversations").fetchall()
    assert sorted(kinds) == sorted((chat.conversation, chat.kind) for chat in chats)
    return [participant.token for chat in chats for participant in chat.participants]


@pytest.mark.long
def test_all_connect_stay_and_come_back_when_the_gateway_is_killed(
    ours: Ours, tokens: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(herd, "PING_INTERVAL_S", 0.5)
    port = free_port()
    with closing(Herd(port, tokens)) as clients:
        with ours.gateway(port) as gateway:
            wave = clients.open(concurrency=4, timeout_s=10)
            assert clients.is_whole
            assert (len(wave.hellos), wave.failures) == (CLIENTS, {})
            assert 0 < wave.first_s < wave.seconds
            clients.stay(1.0)
            assert clients.pings == clients.pongs >= 2 * CLIENTS
            assert clients.losses == 0
            clients.expect_loss()
            os.kill(gateway, signal.SIGKILL)
        with ours.gateway(port):
            wave = clients.wait_back(timeout_s=20)
        assert clients.is_whole
        assert (clients.losses, len(wave.openings)) == (CLIENTS, CLIENTS)
        assert describe(wave)["seconds"] == pytest.approx(wave.seconds, abs=1e-3)


def test_a_stranger_is_never_welcomed(ours: Ours, tokens: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herd, "FIRST_S", 10.0)
    port = free_port()
    with ours.gateway(port), closing(Herd(port, [*tokens[:3], "unknown"])) as clients:
        wave = clients.open(concurrency=1, timeout_s=1)
        assert (clients.is_whole, clients.connected) == (False, 3)
        assert list(wave.failures) == ["close code 4501"]
        assert describe(wave)["seconds"] is None


@pytest.mark.parametrize(
    ("payload", "delay_s"),
    [
        (b"", FIRST_S),
        (CloseCode.GOING_AWAY.value.to_bytes(2, "big") + b"bye", CloseCode.GOING_AWAY.info.delay_s),
        (CloseCode.UNAUTHENTICATED.value.to_bytes(2, "big"), FIRST_S),
        ((4321).to_bytes(2, "big"), FIRST_S),
    ],
)
def test_the_first_delay_is_the_close_codes(payload: bytes, delay_s: float) -> None:
    assert first_delay_s(payload) == delay_s


def test_connects_a_second_count_from_the_first_welcome() -> None:
    wave = Wave(seconds=3.0, first_s=1.0)
    wave.openings.extend([0.1] * 100)
    assert wave.per_s == 50.0
