"""A group whose participants all write, against a real gateway, and the summaries of its runs."""

from typing import Any

import psycopg
import pytest

from bench.contest import Traffic
from bench.hot import measure_hot, summarize_hot
from bench.ours import Ours

PARTICIPANTS = 6


@pytest.mark.long
def test_all_participants_write_and_each_message_comes_to_all_the_others(ours: Ours) -> None:
    [group] = ours.prepare([PARTICIPANTS])
    line = measure_hot(ours, group, Traffic("closed", warm_s=0.2, seconds=0.5, mark_interval_s=0.1))
    assert line["valid"], line["first_error"]
    assert (line["participants"], line["connections"]) == (PARTICIPANTS, PARTICIPANTS)
    assert line["delivered_per_s"] == pytest.approx(line["acked_per_s"] * (PARTICIPANTS - 1), rel=0.2)
    assert 0 < line["ack_p50_ms"] <= line["ack_p99_ms"]
    assert line["total_us_per_send"] > line["server_us_per_send"] > 0
    with psycopg.connect(ours.database_url) as connection:
        [[writers]] = connection.execute("select count(distinct sender_id) from messages").fetchall()
    assert writers == PARTICIPANTS


def hot_run(server: str, round_: int, sends: float, *, valid: bool = True) -> dict[str, Any]:
    return {"server": server, "round": round_, "valid": valid, "acked_per_s": sends}


@pytest.mark.parametrize(("sends", "is_met"), [(300.0, True), (299.0, False)])
def test_a_hot_group_is_judged_by_the_sends_of_its_rounds(sends: float, is_met: bool) -> None:
    runs = [
        *(hot_run("alo", 1, sends), hot_run("sio-redis", 1, 100.0)),
        *(hot_run("alo", 2, sends * 10), hot_run("sio-redis", 2, 1000.0)),
        hot_run("sio-redis", 3, 1.0, valid=False),
    ]
    first, *_, requirement = summarize_hot(runs)
    assert first["metric"] == "acked_per_s"
    assert requirement == {"kind": "requirement", "invalid_runs": 1, "sends_at_least_3": is_met}
    *_, alone = summarize_hot(runs[:1])
    assert alone["sends_at_least_3"] is None
