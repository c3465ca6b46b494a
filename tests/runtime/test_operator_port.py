"""The port for operators, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import structlog
import trio

from runtime.config import ConfigError
from runtime.health import Health
from runtime.metrics.page import MetricsPage
from runtime.metrics.samples import Sample
from runtime.operator_port import MAX_HEAD_BYTES, serve_operators
from tests.waiting import PATIENCE_S


class OperatorPort:
    """A port in this process, and what it serves."""

    def __init__(self) -> None:
        self.page = MetricsPage("web")
        self.overdue = ""
        self.health = Health({}, lambda: self.overdue)
        self.number = 0

    async def get(self, path: str, method: str = "GET") -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.request(method, f"http://127.0.0.1:{self.number}{path}")

    async def raw(self, request: bytes) -> bytes:
        """Everything that comes back."""
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", self.number) as stream:
                await stream.send_all(request)
                await stream.send_eof()
                return b"".join([bytes(data) async for data in stream])


@pytest.fixture
async def port(nursery: trio.Nursery) -> OperatorPort:
    made = OperatorPort()
    made.number = await nursery.start(serve_operators, "127.0.0.1", 0, made.page, made.health)
    return made


async def test_the_page_of_metrics_is_text_that_no_cache_keeps(port: OperatorPort) -> None:
    port.page.add(lambda: [Sample("alo_trio_tasks", 3)])
    answer = await port.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "\nalo_trio_tasks 3\n" in answer.text


async def test_health_is_answered_with_its_reason(port: OperatorPort) -> None:
    assert (await port.get("/healthz")).json() == {"status": "ok"}
    ready = await port.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "reason": "starting"})
    port.health.started()
    assert (await port.get("/readyz?from=balancer")).json() == {"status": "ok"}
    port.overdue = "a commit is under way for 61 s"
    live = await port.get("/healthz")
    assert (live.status_code, live.json()["reason"]) == (503, port.overdue)


async def test_head_has_the_head_alone(port: OperatorPort) -> None:
    answer = await port.get("/healthz", "HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len((await port.get("/healthz")).content))


async def test_other_paths_and_methods_are_refused(port: OperatorPort) -> None:
    assert (await port.get("/")).status_code == 404
    assert (await port.get("/metrics", "POST")).status_code == 400
    assert (await port.raw(b"\x16\x03\x01")).startswith(b"HTTP/1.1 400 ")
    endless = b"GET /metrics HTTP/1.1\r\n" + b"x: " + b"y" * (2 * MAX_HEAD_BYTES)
    assert b"alo_" not in await port.raw(endless[: MAX_HEAD_BYTES + 10])


async def test_a_fault_of_a_source_is_logged_and_ends_nothing_but_its_request(port: OperatorPort) -> None:
    def broken() -> Iterator[Sample]:
        yield Sample("alo_unknown", 1)

    port.page.add(broken)
    with structlog.testing.capture_logs() as logs:
        assert (await port.raw(b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
    assert [line["event"] for line in logs] == ["operator_request_failed"]
    assert (await port.get("/healthz")).status_code == 200


async def test_a_taken_port_is_an_error_that_names_the_variable_and_the_port(port: OperatorPort) -> None:
    with pytest.raises(ConfigError, match=f"METRICS_PORT .*{port.number} on 127.0.0.1"):
        await serve_operators("127.0.0.1", port.number, port.page, port.health)
