"""Several gateways under the generator: the cost of a send, and the time from one node to another."""

from typing import Any

import psycopg
import pytest

from bench.across import summarize_across
from bench.contest import Traffic, measure
from bench.nodes import NodesSettings, costs, make_people, measure_nodes, summarize_nodes
from bench.ours import Ours
from bench.pace import Load, parse_loads

SETTINGS = NodesSettings(sizes=(1, 3), chats=2, rate=100.0, unconcerned=3, rounds=1, warm_s=0.3, seconds=0.5)


@pytest.mark.long
def test_a_send_is_measured_on_one_node_and_on_several(ours: Ours) -> None:
    people = make_people(ours, SETTINGS)
    assert (len(people.chats), len(people.tokens)) == (2, 3)
    for size in SETTINGS.sizes:
        line = measure_nodes(ours, people, size, SETTINGS)
        assert line["valid"], line["first_error"]
        assert (line["nodes"], line["unconcerned_stayed"]) == (size, True)
        assert line["cost_us_per_send"] > 0
        assert ("receiving_us_per_send" in line, "unconcerned_us_per_send" in line) == (size > 1, size > 2)


@pytest.mark.long
def test_senders_are_on_one_node_and_recipients_on_the_other(ours: Ours) -> None:
    chats = ours.prepare([2, 2])
    [line] = measure(ours, chats, Traffic("50", warm_s=0.2, seconds=0.5), nodes=2)
    assert line["valid"], line["first_error"]
    assert line["redis_us_per_send"] > 0
    with psycopg.connect(ours.database_url) as connection:
        [[senders]] = connection.execute("select count(distinct sender_id) from messages").fetchall()
    assert senders == 2
    assert line["delivery_p50_ms"] > line["ack_p50_ms"]


def test_to_be_idle_is_a_load() -> None:
    closed, idle, rate = loads = parse_loads("closed,idle,5", window=2)
    assert loads == [Load(None, 2), Load(None, 0), Load(5.0, 2)]
    assert (closed.is_idle, idle.is_idle, rate.is_idle) == (False, True, False)
    assert idle.name == "idle"


def stretch(gateways: float, redis: float, **figures: Any) -> dict[str, Any]:
    cores = {"sending_cores": gateways, "receiving_cores": gateways, "redis_cores": redis, "postgres_cores": 0.3}
    latencies = dict.fromkeys(("ack_p50_ms", "ack_p99_ms", "delivery_p50_ms", "delivery_p99_ms", "late_p99_ms"), 1.0)
    about = {"valid": True, "first_error": None, "rate": 1000.0, "chats": 64, "seconds": 1.0, "acked_per_s": 1000.0}
    return {**about, **cores, **latencies, "generator_cores": 0.1, "others_cores": 0.0, **figures}


def test_idle_cpu_does_not_count_as_a_cost_of_sends() -> None:
    line = costs(stretch(0.25, 0.03), stretch(0.05, 0.01))
    assert line["sending_us_per_send"] == line["receiving_us_per_send"] == 200.0
    assert (line["redis_us_per_send"], line["postgres_us_per_send"]) == (20.0, 0.0)
    assert line["cost_us_per_send"] == 420.0
    assert line["idle_gateways_cores"] == 0.1
    invalid = costs(stretch(0.25, 0.03, valid=False, first_error="refused"), stretch(0.05, 0.01))
    assert invalid == {"valid": False, "first_error": "refused"}


@pytest.mark.parametrize(("factor", "holds"), [(1.15, True), (1.16, False)])
def test_eight_nodes_are_compared_with_two_of_the_same_round(factor: float, holds: bool) -> None:
    runs = [
        {"round": round_, "nodes": nodes, "valid": True, "cost_us_per_send": cost * (factor if nodes == 8 else 1)}
        for round_, cost in ((1, 100.0), (2, 1000.0))
        for nodes in (2, 4, 8)
    ]
    runs.append({"round": 3, "nodes": 8, "valid": False})
    first, *_, requirement = summarize_nodes(runs)
    assert first["nodes"]["4"] == {"median": 550.0, "min": 100.0, "max": 1000.0}
    assert (requirement["invalid_runs"], requirement["cost_at_most_1.15"]) == (1, holds)
    *_, unknown = summarize_nodes(runs[:1])
    assert unknown["cost_at_most_1.15"] is None


def across_run(server: str, load: str, p50: float, p99: float, acked: float = 1000.0) -> dict[str, Any]:
    figures = {"delivery_p50_ms": p50, "delivery_p99_ms": p99, "acked_per_s": acked, "rate": 1000.0}
    return {"round": 1, "server": server, "load": load, "valid": True, **figures}


def test_the_way_across_is_judged_at_the_steady_rate() -> None:
    runs = [
        *(across_run("alo", "closed", 9.0, 9.0), across_run("sio-redis", "closed", 1.0, 1.0)),
        *(across_run("alo", "rate-1000", 2.0, 6.0), across_run("sio-redis", "rate-1000", 4.0, 10.0, acked=900.0)),
    ]
    [requirement] = [line for line in summarize_across(runs) if line["kind"] == "requirement"]
    assert requirement == {
        "kind": "requirement",
        "load": "rate-1000",
        "kept_up": {"alo": True, "sio-redis": False},
        "invalid_runs": 0,
        "p50_at_most_half": True,
        "p99_at_most_half": False,
    }
    *_, alone = summarize_across(runs[2:3])
    assert alone["p50_at_most_half"] is None
