"""Tables of summaries."""

import json
from pathlib import Path

import pytest

from bench import table
from bench.table import by_load, by_metric


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median / 2, "max": median * 2}


LINES = [
    {"load": "history", "metric": "p99_ms", "alo": spread(12.34), "sio-redis": spread(10), "ours_to_plan": spread(1.2)},
    {"load": "history", "metric": "requests_per_s", "alo": spread(1234.5), "ours_to_plan": None},
    {"load": "empty", "metric": "p99_ms", "alo": spread(0.5), "ours_to_plan": None},
]


def test_a_table_for_each_load_has_the_spread_of_each_server() -> None:
    assert by_load(LINES) == (
        "| history | alo | sio-redis | ours / plan |\n"
        "| --- | --- | --- | --- |\n"
        "| p99_ms | 12.3 (6.17 to 24.7) | 10.0 (5.00 to 20.0) | 1.20 |\n"
        "| requests_per_s | 1,234 (617 to 2,469) |  |  |\n"
        "\n"
        "| empty | alo | ours / plan |\n"
        "| --- | --- | --- |\n"
        "| p99_ms | 0.50 (0.25 to 1.00) |  |\n"
    )


def test_a_table_of_metrics_compares_medians() -> None:
    assert by_metric(LINES, ["p99_ms", "requests_per_s"]) == (
        "|  | p99_ms | requests_per_s |\n"
        "| --- | --- | --- |\n"
        "| history | 12.3 / 10.0 = 1.20 | 1,234 |\n"
        "| empty | 0.50 |  |\n"
    )


def test_only_summaries_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"kind": "run", "load": "x"}, *({"kind": "summary", **line} for line in LINES[2:])]
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("sys.argv", ["table", str(file), "--metrics", "p99_ms"])
    table.main()
    assert capsys.readouterr().out == "|  | p99_ms |\n| --- | --- |\n| empty | 0.50 |\n"
