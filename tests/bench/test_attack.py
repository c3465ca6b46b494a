"""Attackers and users that behave: the requests of each attack, and the summary of the runs."""

from __future__ import annotations

from itertools import islice
from typing import Any

import h11
import pytest

from bench.attack import MEASURED, summarize_attacks
from bench.attackers import ATTACKS
from bench.well_behaved import Pace, login


def attack_run(round_: int, alone: float, attacked: float | None, *, valid: bool = True) -> dict[str, Any]:
    return {
        "kind": "run",
        "round": round_,
        "attack": "wrong-logins",
        "valid": valid,
        "alone": {f"{kind}_p99_ms": alone for kind in MEASURED},
        "attacked": {f"{kind}_p99_ms": attacked for kind in MEASURED},
    }


@pytest.mark.parametrize(("factor", "is_met"), [(2.0, True), (2.01, False)])
def test_a_p99_under_attack_is_compared_with_the_same_run_before_it(factor: float, is_met: bool) -> None:
    runs = [attack_run(round_, p99, p99 * factor) for round_, p99 in ((1, 5.0), (2, 50.0))]
    *_, requirement = summarize_attacks([*runs, attack_run(3, 1.0, 1000.0, valid=False)])
    assert requirement["p99_at_most_doubles"] == dict.fromkeys(MEASURED, is_met)
    assert requirement["runs"] == 2


def test_a_kind_of_request_without_a_good_answer_does_not_meet_the_requirement() -> None:
    *_, requirement = summarize_attacks([attack_run(1, 5.0, None)])
    assert requirement["p99_at_most_doubles"] == dict.fromkeys(MEASURED, False)


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"half-heads"}))
def test_attackers_make_whole_requests(name: str) -> None:
    make, _ = ATTACKS[name]
    server = h11.Connection(h11.SERVER)
    for each in islice(make({"a-token": "a-conversation"}), 2):
        server.receive_data(each)
        assert isinstance(server.next_event(), h11.Request)
        while not isinstance(server.next_event(), h11.EndOfMessage):
            pass
        server.send(h11.Response(status_code=204, headers=[]))
        server.send(h11.EndOfMessage())
        server.start_next_cycle()


def test_the_figures_of_a_pace_are_its_percentiles_and_counts() -> None:
    pace = Pace("list", 10.0, lambda: b"", 200, "127.0.0.1")
    assert pace.figures() == {"list_p50_ms": None, "list_p99_ms": None, "list_answers": 0, "list_refused": 0}
    pace.latencies += [number / 1000 for number in range(1, 101)]
    pace.errors.append("HTTP/1.1 429")
    assert pace.figures() == {"list_p50_ms": 50.0, "list_p99_ms": 99.0, "list_answers": 100, "list_refused": 1}


def test_a_login_shows_the_token_of_a_device() -> None:
    assert b"\r\nAuthorization: Bearer a token\r\n" in login("alice", "a password", "a token")
    assert b"Authorization" not in login("alice", "a password")
