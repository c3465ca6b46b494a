"""Spans as a collector gets them, beside Trio."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from embedded.ports import free_port
from runtime.config import Config
from runtime.tracing import tracer as tracer_module
from runtime.tracing.switch import open_tracer
from runtime.tracing.tracer import ATTRIBUTES, Tracer
from tests.collector import Collector, collecting
from tests.waiting import wait_until


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


async def test_a_span_reaches_the_collector_with_its_parent_times_and_attributes_while_trio_runs(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with open_tracer(config_for(collector), "socket", "abc") as tracer:
        assert tracer is not None
        began = time.time_ns() - 5_000_000
        send = tracer.start("send", "server", began_ns=began)
        commit = tracer.start("commit", parent=send.context)
        commit.end(items=3, lane="fast")
        send.end(began + 7_000_000, outcome="sent")
        await wait_until(lambda: len(collector.spans) == 2, "the thread has exported them")
    [commit_, send_] = collector.spans
    assert (send_.service, send_.name, send_.parent) == (("alo-socket", "abc"), "send", "")
    assert (send_.began_ns, send_.ended_ns) == (began, began + 7_000_000)
    assert send_.attributes == {"alo.outcome": "sent"}
    assert (commit_.trace, commit_.parent) == (send_.trace, send_.id)
    assert commit_.attributes == {"alo.items": 3, "alo.lane": "fast"}
    assert send.context.hex() == send_.trace + send_.id
    assert send.trace_id == send_.trace


def test_the_last_spans_are_exported_when_the_process_ends(collector: Collector) -> None:
    with open_tracer(config_for(collector), "worker", "abc") as tracer:
        assert tracer is not None
        tracer.start("send").end()
    assert [span.name for span in collector.spans] == ["send"]


def test_the_share_of_sampled_messages_is_the_configured_one(collector: Collector) -> None:
    for ratio, least, most in ((0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)):
        with open_tracer(config_for(collector, ratio), "socket", "abc") as tracer:
            assert tracer is not None
            assert least <= sum(tracer.is_sampled() for _ in range(1000)) <= most


def test_standard_variables_of_the_sdk_count(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.endpoint}/elsewhere")
    with open_tracer(config_for(collector), "socket", "abc") as tracer:
        assert tracer is not None
        tracer.start("send").end()
    assert collector.paths == ["/elsewhere"]
    assert b"chat" in collector.bodies[0]
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_tracer(config_for(collector), "socket", "abc") as tracer:
        assert tracer is None


def test_a_collector_that_is_away_holds_no_process_up(
    monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(tracer_module, "CLOSE_S", 0.2)
    began = time.monotonic()
    config = Config(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{free_port()}", otel_traces_sampler_arg=1)
    with open_tracer(config, "socket", "abc") as tracer:
        assert tracer is not None
        tracer.start("send").end()
    assert time.monotonic() - began < 2


def test_an_attribute_that_is_not_listed_is_a_fault(collector: Collector) -> None:
    """So no value of another kind, such as content or an address, becomes one."""
    with open_tracer(config_for(collector), "socket", "abc") as tracer:
        assert tracer is not None
        with pytest.raises(AssertionError, match="content"):
            tracer.start("send").end(content="x")
    assert not {name for name in ATTRIBUTES if re.search("content|token|address|name|user|device", name)}


def config_for(collector: Collector, ratio: float = 1.0) -> Config:
    return Config(otel_exporter_otlp_endpoint=collector.endpoint, otel_traces_sampler_arg=ratio)


def test_without_an_endpoint_there_is_no_tracer() -> None:
    with open_tracer(Config(), "socket", "abc") as tracer:
        assert tracer is None


async def test_spans_of_many_tasks_at_once_all_reach_the_collector(collector: Collector) -> None:
    with open_tracer(config_for(collector), "socket", "abc") as tracer:

        async def work(tracer: Tracer) -> None:
            span = tracer.start("send")
            await trio.lowlevel.checkpoint()
            span.end()

        assert tracer is not None
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(work, tracer)
    assert len({span.trace for span in collector.spans}) == 1000
