"""Sends in flight against a real store, and the summaries of their runs."""

from contextlib import closing
from typing import Any

import psycopg
import pytest
import trio

from bench.cpu import CpuMeter
from bench.ours import Ours
from bench.sends import ClosedLoop, SendsSettings, measure_sends, summarize_sends
from bench.workload import Chat, body
from store.postgres.pool import Pool


def test_so_many_sends_share_a_commit_as_are_in_flight(ours: Ours) -> None:
    settings = SendsSettings(in_flight=(1, 24), chats=4, rounds=1, warm_s=0.2, seconds=0.3)
    one, many = measure_sends(ours, settings)
    assert (one["valid"], many["valid"]) == (True, True)
    assert (one["in_flight"], one["sends_per_commit"]) == (1, 1.0)
    assert (many["in_flight"], many["sends_per_commit"]) == (24, 24.0)
    assert 0 < many["ack_p50_ms"] <= many["ack_p99_ms"]
    with psycopg.connect(ours.database_url) as connection:
        chats = connection.execute(
            "select count(*), count(distinct sender_id), max(seq) - count(*) from messages group by conversation_id"
        ).fetchall()
    assert [(senders, gaps) for _, senders, gaps in chats] == [(2, 0)] * 4
    assert sum(messages for messages, _, _ in chats) >= (one["acked_per_s"] + many["acked_per_s"]) * 0.3


@pytest.mark.parametrize("is_foreign", [False, True])
def test_a_refused_send_makes_the_run_invalid(ours: Ours, is_foreign: bool) -> None:
    one, other = ours.prepare([2, 2])
    chat = Chat(one.conversation, other.participants if is_foreign else one.participants)

    async def run() -> dict[str, Any]:
        with closing(Pool(ours.database_url, 2)) as pool:
            loop = ClosedLoop(pool, [chat], 2, body(200))
            return await loop.run(0.0, 0.2, CpuMeter({"postgres": [ours.shared.postgres_pid]}))

    figures = trio.run(run)
    assert figures["valid"] is not is_foreign
    assert ("NotAParticipant" in str(figures["first_error"])) is is_foreign
    assert figures["unsettled"] == 0


def test_a_level_is_summed_up_without_its_invalid_runs() -> None:
    run = {"in_flight": 16, "valid": True, "acked_per_s": 100.0, "sends_per_commit": 16.0, "others_cores": 0.0}
    run |= dict.fromkeys(("ack_p50_ms", "ack_p99_ms", "store_us_per_send", "postgres_us_per_send"), 1.0)
    runs = [run, run | {"acked_per_s": 300.0}, run | {"acked_per_s": 1.0, "valid": False}, run | {"in_flight": 1}]
    one, sixteen = summarize_sends(runs)
    assert (one["in_flight"], one["rounds"], one["invalid_runs"]) == (1, 1, 0)
    assert (sixteen["in_flight"], sixteen["rounds"], sixteen["invalid_runs"]) == (16, 2, 1)
    assert sixteen["acked_per_s"] == {"median": 200.0, "min": 100.0, "max": 300.0}
