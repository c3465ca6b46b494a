"""The capacity model: its arithmetic, its fit, and the costs that are stored."""

import json
from dataclasses import replace

import pytest

from bench import capacity
from bench.capacity_model import (
    GATEWAY,
    OPERATIONS,
    PARTS,
    POSTGRES,
    REDIS,
    Costs,
    Demand,
    Headroom,
    Mix,
    batch,
    cores,
    disk_bytes_per_year,
    most_users,
    other_nodes,
    rates,
    size,
)
from bench.capacity_runs import compared, least_squares, load_of

OTHER = {
    "commit_s": 0.01,
    "gateway_bytes": 50e6,
    "connection_bytes": 8000.0,
    "kernel_bytes": 3000.0,
    "redis_bytes": 50.0,
    "message_bytes": 500.0,
    "wal_bytes": 1000.0,
    "entry_bytes": 800.0,
    **{f"{name}_wire_bytes": 100.0 for name in ("send", "delivery", "mark", "history", "list")},
}
COSTS = Costs(
    {GATEWAY: {"send": 50.0, "delivery": 5.0, "entry": 100.0, "process": 5000.0}, POSTGRES: {"batch": 400.0}}, OTHER
)
LOAD = Demand(connections=1000, sends=100, deliveries_per_send=2, marks=50)


def test_cores_are_rates_times_costs() -> None:
    operations = rates(LOAD, 1, OTHER["commit_s"])
    assert (operations["batch"], operations["delivery"], operations["entry"]) == (50.0, 200, 0.0)
    used = cores(COSTS, operations)
    assert used[GATEWAY] == pytest.approx(100 * 50e-6 + 200 * 5e-6 + 5000e-6)
    assert used[POSTGRES] == pytest.approx(50 * 400e-6)
    assert used[REDIS] == 0.0


def test_more_nodes_make_smaller_batches_and_more_entries() -> None:
    few, many = (rates(LOAD, nodes, OTHER["commit_s"]) for nodes in (2, 8))
    assert few["batch"] < many["batch"] < LOAD.sends
    assert few["entry"] < many["entry"] < LOAD.sends * 2 + LOAD.marks
    assert other_nodes(1, 2) == 0.5
    assert other_nodes(100, 3) == pytest.approx(2)
    assert batch(0, 1) == 1


def test_a_day_of_users_in_the_busiest_hour() -> None:
    """86,400 users who send ten times a day send ten messages a second, and thirty in the busiest hour."""
    load = Mix(online=0.5, recipients=4, sends_per_day=10, connects_per_day=1, peak=3).load(86_400)
    assert (load.connections, load.sends, load.deliveries_per_send) == (43_200, 30, 2)
    assert (load.connects, load.marks) == (3, 63)


def test_a_deployment_grows_with_its_users() -> None:
    mix, limits = Mix(), Headroom()
    sizes = [size(COSTS, mix.load(users), 8, limits) for users in (10**4, 10**5, 10**6, 10**7)]
    for name in ("machines", "gateways", "postgres_cores", "gateway_bytes", "client_bytes_per_s", "bus_bytes_per_s"):
        values = [getattr(deployment, name) for deployment in sizes]
        assert values == sorted(values), name
    assert sizes[-1].gateways >= sizes[-1].load.connections / limits.connections
    assert disk_bytes_per_year(COSTS, replace(mix, sends_per_day=1), 1) == 365 * 500


def test_gateways_suffice_for_their_cpu() -> None:
    deployment = size(COSTS, replace(LOAD, sends=50_000.0), 8, Headroom())
    used = cores(COSTS, rates(deployment.load, deployment.gateways, OTHER["commit_s"]))
    assert used[GATEWAY] <= deployment.gateways * Headroom.busy
    assert deployment.machines >= used[GATEWAY] / (8 * Headroom.busy)


def test_machines_serve_the_most_users_and_not_more() -> None:
    mix, limits = Mix(), Headroom()
    most = most_users(COSTS, mix, 3, 8, limits)
    assert size(COSTS, mix.load(most), 8, limits).machines == 3
    assert size(COSTS, mix.load(most * 1.01), 8, limits).machines > 3


def test_the_fit_finds_costs_and_none_below_zero() -> None:
    rows = [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [2.0, 1.0, 1.0]]
    assert least_squares(rows, [7.0, 5.0, 3.0, 7.0]) == pytest.approx([1, 2, 3])
    assert least_squares([[1.0, 0.0], [1.0, 1.0]], [2.0, 1.0]) == pytest.approx([1.5, 0])


def test_a_run_has_its_marks_once_in_each_interval() -> None:
    line = {"acked_per_s": 100.0, "connections": 200}
    assert load_of(line, 10, 1.0).marks == 200
    assert load_of(line, 2, 1.0).marks == 100  # no device gets a message a second
    assert load_of(line, 2, 1.0).authors_per_mark == 1
    assert 3 < load_of(line, 10, 1.0).authors_per_mark < 4.5


def test_an_error_is_a_share_of_what_was_measured() -> None:
    assert compared(80.0, 100.0) == {"predicted": 80.0, "measured": 100.0, "error": -0.2}


def test_each_stored_cost_says_where_it_comes_from() -> None:
    stored = json.loads(capacity.STORED.read_text())
    assert set(stored["cpu"]) == set(PARTS)
    costs = [cost for part in stored["cpu"].values() for cost in part.values()]
    assert all(set(part) <= set(OPERATIONS) for part in stored["cpu"].values())
    assert set(stored["other"]) == set(OTHER)
    for cost in (*costs, *stored["other"].values()):
        assert cost["command"].startswith("python -m bench.")
        assert len(cost["date"]) == len("2026-12-01")
        assert (cost.get("us", cost.get("value"))) >= 0


def test_the_program_prints_a_line_for_each_number_of_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["capacity", "--users", "1000,2000", "--machines", "1", "--sends-per-day", "80"])
    with pytest.raises(SystemExit, match="0"):
        capacity.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["kind"], line["machines"]) for line in lines] == [("deployment", 1), ("deployment", 1), ("most", 1)]
    assert lines[1]["sends_per_s"] == pytest.approx(2000 * 80 * 3 / 86_400, abs=0.1)
