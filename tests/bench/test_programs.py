"""The output of the programs, and their figures from the kernel."""

import os
import socket
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from bench.abuse import summarize_abuse
from bench.abuser import ATTACKS, Target
from bench.bystander import has_peer
from bench.fanout import loads, per_delivery, summarize_fanout
from bench.memory import PeakWatch, resident_bytes
from bench.stuck import summarize_stuck
from bench.wire import Exchange, compare_bytes, figures
from bench.workload import Chat, ChatParticipant
from protocol.codec import decode_from_client
from protocol.errors import RemoteProtocolError, RequestError
from protocol.limits import MAX_WEBSOCKET_MESSAGE_BYTES
from server.transport.outbox import MAX_BYTES

MIB = 2**20


def stuck_run(round_: int, *, stuck: bool, p99: float, peak: int, valid: bool = True) -> dict[str, Any]:
    cuts = [20.0] if stuck else []
    return {
        "round": round_,
        "stuck": stuck,
        "valid": valid,
        "delivery_p99_ms": p99,
        "rss_peak_bytes": peak,
        "cut_after_s": cuts,
    }


@pytest.mark.parametrize(("factor", "is_within"), [(1.24, True), (1.25, False)])
def test_a_stuck_reader_is_compared_with_its_own_round(factor: float, is_within: bool) -> None:
    runs = [
        stuck_run(round_, stuck=stuck, p99=p99 * (factor if stuck else 1), peak=100 * MIB + (MAX_BYTES - 1) * stuck)
        for round_, p99 in ((1, 8.0), (2, 80.0))
        for stuck in (True, False)
    ]
    runs.append(stuck_run(3, stuck=True, p99=1000.0, peak=2**40, valid=False))
    *_, requirement = summarize_stuck(runs)
    assert requirement == {
        "kind": "requirement",
        "invalid_runs": 1,
        "cut": 2,
        "p99_within_25_percent": is_within,
        "memory_below_limit": True,
    }


def test_a_stuck_reader_that_costs_its_whole_limit_costs_too_much() -> None:
    runs = [stuck_run(1, stuck=stuck, p99=8.0, peak=100 * MIB + MAX_BYTES * stuck) for stuck in (True, False)]
    *_, memory, requirement = summarize_stuck(runs)
    assert memory["cost"]["median"] == memory["limit"] == MAX_BYTES
    assert requirement["memory_below_limit"] is False


def test_the_open_loop_of_each_size_delivers_as_much() -> None:
    assert loads(20, 3800.0) == "closed,200"
    assert loads(200, 3980.0) == "closed,20"
    assert loads(200, None) == "closed"


def test_cpu_is_shared_out_among_deliveries() -> None:
    line = {
        "valid": True,
        "acked_per_s": 100.0,
        "delivered_per_s": 1900.0,
        "server_us_per_send": 190.0,
        "web_us_per_send": 19.0,
        "worker_us_per_send": 38.0,
    }
    assert per_delivery(line) == {"server_us_per_delivery": 10.0, "processes_us_per_delivery": 13.0}
    assert per_delivery({"valid": False, "load": "closed"}) == {}


def fanout_run(server: str, participants: int, cpu: float) -> dict[str, Any]:
    return {
        "round": 1,
        "participants": participants,
        "load": "closed",
        "server": server,
        "valid": True,
        "server_us_per_delivery": cpu,
    }


def test_fan_out_is_judged_for_each_size() -> None:
    runs = [
        *(fanout_run("alo", 20, 12.5), fanout_run("ws", 20, 10.0)),
        *(fanout_run("alo", 200, 12.6), fanout_run("ws", 200, 10.0)),
        fanout_run("alo", 2, 1.0),
    ]
    verdicts = {
        line["participants"]: (line["cpu_at_most_1.25"], line["cpu_below_1"])
        for line in summarize_fanout(runs)
        if line["kind"] == "requirement"
    }
    assert verdicts == {20: (True, False), 200: (False, False), 2: (None, None)}


def test_marks_are_no_part_of_a_message() -> None:
    ours = Exchange(send=324.0, ack=41.0, push=344.0, mark=39.0)
    assert figures(ours)["message_bytes"] == 709.0
    verdict = compare_bytes({"alo": ours, "sio-redis": Exchange(700.0, 400.0, 318.0)}, 1000)
    assert (verdict["ours_to_plan"], verdict["bytes_at_most_half"]) == (0.5, True)
    assert compare_bytes({"alo": ours}, 1000)["bytes_at_most_half"] is None
    assert compare_bytes({"alo": ours}, 200)["plan_measured_now"] is False


def test_the_peak_outlives_what_caused_it() -> None:
    with PeakWatch(os.getpid()) as watch:
        before = resident_bytes(os.getpid())
        ballast = b"\x01" * (64 * MIB)
        while watch.peak_bytes < before + 60 * MIB:
            pass
        del ballast
    assert watch.peak_bytes - resident_bytes(os.getpid()) > 60 * MIB


def test_a_connection_has_no_peer_once_that_has_closed_it_behind_unread_bytes() -> None:
    here = ("127.0.0.1", 0)
    with (
        socket.create_server(here) as listener,
        socket.create_server(here) as elsewhere,
        socket.socket() as reader,
        socket.socket() as another,
    ):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reader.bind(here)
        reader.connect(listener.getsockname())
        ports = reader.getsockname()[1], listener.getsockname()[1]
        server, _ = listener.accept()
        # Connections to other ports may leave from the same one.
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        another.bind(reader.getsockname())
        another.connect(elsewhere.getsockname())
        with server:
            server.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    server.send(bytes(65536))
            assert has_peer(*ports)
        assert not has_peer(*ports)
        assert has_peer(ports[0], elsewhere.getsockname()[1])


def abuse_run(round_: int, attack: str, *, attacked: bool, p99: float, valid: bool = True) -> dict[str, Any]:
    metrics = dict.fromkeys(("ack_p50_ms", "delivery_p50_ms", "server_cores", "rss_peak_mb"), 1.0)
    line = {"round": round_, "attack": attack, "attacked": attacked, "valid": valid, **metrics}
    return {**line, "ack_p99_ms": p99, "delivery_p99_ms": p99, "abuser": {"pushed_mb": 1.0}}


@pytest.mark.parametrize(("factor", "is_fair"), [(2.0, True), (2.1, False)])
def test_the_others_under_an_attack_are_compared_with_themselves_before_it(factor: float, is_fair: bool) -> None:
    runs = [
        abuse_run(round_, attack, attacked=attacked, p99=p99 * (worst if attacked else 1))
        for round_, p99 in ((1, 8.0), (2, 80.0))
        for attack, worst in (("pings", 1.0), ("groups", factor))
        for attacked in (False, True)
    ]
    runs.append(abuse_run(3, "groups", attacked=True, p99=1000.0, valid=False))
    *_, requirement = summarize_abuse(runs)
    assert requirement == {
        "kind": "requirement",
        "invalid_runs": 1,
        "p99_ratio": {"pings": 1.0, "groups": factor},
        "p99_at_most_doubles": is_fair,
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_sends_frames_that_the_server_can_read(attack: str) -> None:
    """All but `bad_cbor`: else it measures how connections are closed."""
    chats = [Chat(str(uuid4()), (ChatParticipant(str(uuid4())),)) for _ in range(2)]
    payloads = ATTACKS[attack](Target(*chats))
    messages = [next(payloads) for _ in range(3)]
    assert all(len(message) <= MAX_WEBSOCKET_MESSAGE_BYTES for message in messages)
    if attack == "bad_cbor":
        with pytest.raises(RemoteProtocolError):
            list(decode_from_client(messages[0]))
        return
    frames = [frame for message in messages for frame in decode_from_client(message)]
    bad = [frame for frame in frames if isinstance(frame, RequestError)]
    assert len(bad) == (len(frames) if attack == "unknown_frames" else 0)
