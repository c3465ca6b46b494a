"""Reads over HTTP, in miniature: our web process under the generator, and the summaries of the runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import trio

from bench import depth as depth_module
from bench import hits as hits_module
from bench import reads as reads_module
from bench.http import load, request
from bench.ours import Ours
from bench.reads import OUR_DATA, ReadsSettings, summarize_reads


@pytest.mark.long
def test_each_case_is_measured_on_our_server(ours: Ours) -> None:
    settings = ReadsSettings(None, ("alo",), rounds=1, users=60, connections=2, seconds=0.3)
    ours.prepare([])
    with psycopg.connect(ours.database_url) as connection:
        connection.execute(OUR_DATA.replace("%(users)s", "60").replace("%%", "%").encode())
    runs = {run["load"]: run for run in reads_module.measure(ours, settings)}
    assert list(runs) == list(reads_module.CASES)
    assert [run["first_error"] for run in runs.values()] == [""] * 4
    assert runs["list-uncached"]["requests"] == 45
    assert runs["list-uncached"]["bytes"] == pytest.approx(runs["list-cached"]["bytes"], rel=0.02)
    assert runs["list-cached"]["bytes"] > 50 * 500
    assert runs["history"]["bytes"] > 50 * 200


async def test_an_answer_that_is_not_good_ends_the_run_and_is_shown() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, listeners)
        run = await trio.to_thread.run_sync(lambda: load(port, [request("/")], 1, seconds=5))
        nursery.cancel_scope.cancel()
    await listeners[0].aclose()
    assert run.first_error.startswith("HTTP/1.1 503 Busy")
    assert run.seconds < 4


def a_run(server: str, load_: str, round_: int, **figures: Any) -> dict[str, Any]:
    return {"server": server, "load": load_, "round": round_, "valid": True, **figures}


@pytest.mark.parametrize(("speed", "holds"), [(400.0, True), (399.0, False)])
def test_the_uncached_list_has_to_be_four_times_as_fast(speed: float, holds: bool) -> None:
    runs = [
        a_run("alo", "list-uncached", 1, requests_per_s=speed, server_us=2000.0),
        a_run("sio-redis", "list-uncached", 1, requests_per_s=100.0, server_us=9000.0),
        a_run("alo", "empty", 1, requests_per_s=1000.0, server_us=500.0),
    ]
    [line] = [
        line for line in summarize_reads(runs) if line["kind"] == "requirement" and line["load"] == "list-uncached"
    ]
    assert (line["holds"], line["fixed_share"]["median"]) == (holds, 0.25)


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
