"""Reads over HTTP, in miniature: our web process under the generator, and the summaries of the runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from bench import depth as depth_module
from bench import hits as hits_module
from bench import reads as reads_module
from bench.ours import Ours
from bench.page_changes import CONTENT_BYTES, sends_to
from bench.reads import FORMS, MOVING, ONCE, UNCHANGED, Page, ReadsSettings, prepare, summarize_reads
from bench.rows import Id, id_text


@pytest.mark.long
def test_each_page_is_measured_on_our_server_in_each_form(ours: Ours) -> None:
    settings = ReadsSettings(
        ("alo",), tuple(Page), tuple(FORMS.values()), rounds=1, users=100, connections=2, seconds=0.3
    )
    prepare(ours, 100)
    runs = {run["load"]: run for run in reads_module.measure(ours, settings)}
    assert {run["first_error"] for run in runs.values()} == {""}
    names = {run["page"] for run in runs.values()}
    assert names | UNCHANGED == set(Page)
    for form in FORMS:
        assert runs[f"list-uncached-{form}"]["requests"] <= 20
    list_, history = runs["list-cached-json"]["bytes"], runs["history-json"]["bytes"]
    assert (list_ > 50 * 500, history > 50 * 200) == (True, True)
    assert runs["list-moving-json"]["bytes"] == pytest.approx(list_, rel=0.02)
    assert runs["history-moving-json"]["bytes"] == pytest.approx(history, rel=0.02)
    assert runs["list-cached-cbor"]["bytes"] < 0.8 * list_


@pytest.mark.parametrize("page", MOVING)
def test_a_message_changes_the_page_between_two_reads(ours: Ours, page: Page) -> None:
    prepare(ours, 60)
    [(conversation, _), *_] = MOVING[page]
    newest = "select sender_id::text, seq, length(content) from messages where conversation_id = %s order by seq desc"
    with psycopg.connect(ours.database_url, autocommit=True) as connection:
        [before, *_] = connection.execute(newest, [conversation]).fetchall()
        with sends_to(ours, MOVING[page]) as send:
            for _ in MOVING[page]:
                send()
        [after, *_] = connection.execute(newest, [conversation]).fetchall()
    assert after == (id_text(Id.USER, MOVING[page][0][1][0]), before[1] + 1, CONTENT_BYTES)


def a_run(server: str, page: Page, form: str, round_: int, **figures: Any) -> dict[str, Any]:
    load = page if page in ONCE else f"{page}-{form}"
    return {"server": server, "load": load, "page": page, "form": form, "round": round_, "valid": True, **figures}


def required(runs: list[dict[str, Any]], load: str) -> dict[str, Any]:
    [line] = [line for line in summarize_reads(runs) if line["kind"] == "requirement" and line["load"] == load]
    return line


@pytest.mark.parametrize(("speed", "holds"), [(400.0, True), (399.0, False)])
@pytest.mark.parametrize("form", ["json", "cbor"])
def test_the_uncached_list_has_to_be_four_times_as_fast_as_the_plans_json(speed: float, holds: bool, form: str) -> None:
    runs = [
        a_run("alo", Page.LIST_UNCACHED, form, 1, requests_per_s=speed, p99_ms=5.0),
        a_run("sio-redis", Page.LIST_UNCACHED, "json", 1, requests_per_s=100.0, p99_ms=4.9),
    ]
    line = required(runs, f"list-uncached-{form}")
    assert (line["is_fast_enough"], line["p99_no_worse"]) == (holds, False)


def test_compressed_answers_are_compared_with_compressed_answers() -> None:
    runs = [
        a_run("alo", Page.HISTORY, "json-compressed", 1, requests_per_s=50.0, p99_ms=5.0),
        a_run("sio-redis", Page.HISTORY, "json", 1, requests_per_s=100.0, p99_ms=5.0),
        a_run("sio-redis", Page.HISTORY, "json-compressed", 1, requests_per_s=50.0, p99_ms=5.0),
    ]
    line = required(runs, "history-json-compressed")
    assert (line["is_fast_enough"], line["p99_no_worse"]) == (True, True)


@pytest.mark.parametrize(("us", "holds"), [(150.0, True), (150.1, False)])
def test_an_empty_answer_may_cost_150_us(us: float, holds: bool) -> None:
    assert required([a_run("alo", Page.EMPTY, "json", 1, server_us=us)], "empty")["cpu_at_most_150_us"] == holds


@pytest.fixture
def _shared(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs run on the services of the tests."""

    @contextmanager
    def services() -> Iterator[Any]:
        yield ours.shared

    for module in (depth_module, hits_module):
        monkeypatch.setattr(module, "shared_services", services)


@pytest.mark.long
@pytest.mark.usefixtures("_shared")
def test_pages_and_sends_are_compared_beside_little_and_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert depth_module.depth(depth_module.DepthSettings(depth=2_000, messages=15_000, rounds=1, repeats=5))
    lines = capsys.readouterr().out.splitlines()
    assert sum('"kind": "run"' in line for line in lines) == 6
    assert sum('"kind": "requirement"' in line for line in lines) == 3


@pytest.mark.usefixtures("_shared")
def test_hits_are_counted_and_kept_pages_are_correct(capsys: pytest.CaptureFixture[str]) -> None:
    assert hits_module.hits(hits_module.HitsSettings(users=20, operations=600, seed=1))
    out = capsys.readouterr().out
    for cache in ("list", "history", "metadata", "presence"):
        assert f'"cache": "{cache}"' in out


def test_a_ratio_beyond_the_bar_does_not_hold() -> None:
    run = {"case": "page", "round": 1, "p99_ms": 1.0, "store_us": 1.0, "p50_ms": 1.0}
    runs = [{**run, "side": "small", "postgres_us": 100.0}, {**run, "side": "large", "postgres_us": 121.0}]
    assert depth_module.summarize_depth(runs)[-1]["holds"] is False
    runs[1]["postgres_us"] = 119.0
    assert depth_module.summarize_depth(runs)[-1]["holds"] is True
