"""The table of `bench.costs`, its picture, and the limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import cost_picture
from bench.costs import DELIVERY, OTHER, RUNNER, SEND, STAGES, SYSTEM_CALLS, shares, stage_of, summarize_costs
from bench.limits import flush_ms, system_calls_us

ROOT = Path(__file__).parents[2]

POSTGRES = {
    "empty_query": 1.0,
    "sends": 41.0,
    "sends_flushed": 45.0,
    "bare_writes": 21.0,
    "bare_writes_flushed": 24.0,
}
CALLS = {"recv": 1.0, "reply": 4.0, "push": 4.5, "epoll": 0.5}


def runs(*, valid: bool = True) -> list[dict[str, Any]]:
    stages = {SYSTEM_CALLS: 20.0, "encode": 5.0}
    return [
        {"unit": SEND, "valid": valid, "stages_us": stages},
        {"unit": DELIVERY, "valid": True, "stages_us": {SYSTEM_CALLS: 6.0, "encode": 0.1}},
        {"unit": "postgres", "valid": True, "postgres_us": POSTGRES},
        {"unit": "limits", "valid": True, "system_calls_us": CALLS},
    ]


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (["server/transport/outbox.py:_send", "server/transport/outbox.py:flush"], SYSTEM_CALLS),
        (["server/transport/outbox.py:flush", "server/delivery/hub.py:flush"], "fan-out"),
        (["protocol/codec.py:encode", "server/gateway/sends.py:_settle"], "encode"),
        (["protocol/codec.py:_request", "server/gateway/connection.py:_take_message"], "decode"),
        (["protocol/states.py:receive", "server/gateway/connection.py:_receive"], "rules"),
        (["uuid.py:uuid4", "store/messages.py:send", "trio/_core/_run.py:run"], "batch"),
        (["trio/_core/_run.py:run"], RUNNER),
        (["json/decoder.py:decode"], OTHER),
    ],
)
def test_a_sample_belongs_to_the_innermost_function_with_a_stage(stack: list[str], stage: str) -> None:
    assert stage_of(stack) == stage


def test_each_beginning_of_a_stage_is_a_file_or_a_folder_that_exists() -> None:
    """A file that moves would silently count as a different stage."""
    ours = [each for beginnings in STAGES.values() for each in beginnings if each.partition("/")[0] in os.listdir(ROOT)]
    missing = [each for each in ours if not list(ROOT.glob(f"{each.partition(':')[0]}*"))]
    assert not missing
    functions = [each.partition(":") for each in ours if ":" in each]
    assert all(f"def {name}(" in (ROOT / path).read_text() for path, _, name in functions)


def test_samples_outside_the_measured_seconds_do_not_count() -> None:
    inside, outside = ["protocol/codec.py:encode"], ["trio/_core/_run.py:run"]
    found = shares([(9, outside, 50), (10, inside, 3), (11, outside, 1), (12, outside, 50)], 10.0, 12.5)
    assert (found["encode"], found[RUNNER]) == (0.75, 0.25)


def test_the_table_sets_the_limits_beside_the_stages() -> None:
    lines = {line["stage"]: line for line in summarize_costs(runs())}
    calls = lines[SYSTEM_CALLS]
    assert (calls["send_us"], calls["send_limit_us"]) == (20.0, 10.0)
    assert (calls["delivery_us"], calls["delivery_limit_us"]) == (6.0, 4.5)
    assert (lines["encode"]["send_us"], lines["encode"]["send_limit_us"]) == (5.0, 0)
    statement, disk = lines["Postgres: statement"], lines["Postgres: commit to disk"]
    assert (statement["send_us"], statement["send_limit_us"]) == (40.0, 20.0)
    assert (disk["send_us"], disk["send_limit_us"]) == (4.0, 3.0)


def test_without_a_valid_run_there_is_no_table() -> None:
    assert summarize_costs(runs(valid=False)) == []


@pytest.mark.peers
def test_the_picture_is_the_same_for_the_same_table(tmp_path: Path) -> None:
    lines = summarize_costs(runs())
    for name in ("one.svg", "two.svg"):
        cost_picture.draw(lines, tmp_path / name)
    one = (tmp_path / "one.svg").read_text()
    assert one == (tmp_path / "two.svg").read_text()
    assert "encode" in one


def test_the_limits_of_this_machine_are_times() -> None:
    assert all(us > 0 for us in system_calls_us(rounds=2).values())
    assert flush_ms(ROOT / "bench", rounds=2) > 0


def test_the_sampler_writes_where_the_time_of_a_module_went(tmp_path: Path) -> None:
    module = tmp_path / "busy.py"
    module.write_text(
        "import time\n"
        "def burn():\n"
        "    end = time.process_time() + 0.1\n"
        "    while time.process_time() < end: pass\n"
        "burn()\n"
    )
    samples = tmp_path / "samples.json"
    command = [sys.executable, "-m", "bench.sampler", str(samples), "busy"]
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT)
    counts = [count for _, stack, count in json.loads(samples.read_text()) if stack[0].endswith(":burn")]
    assert sum(counts) >= 5
