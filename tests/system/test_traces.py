"""One trace: from a send through commit, stream and another node to the socket, and to the job of its notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from client.connection import connect
from client.http import Credentials
from protocol.frames import Push
from store.postgres.pool import Pool
from tests.collector import CollectedSpan, Collector, collecting
from tests.faults import redis_keys
from tests.planted import PLANTED, SECRETS
from tests.processes import open_cluster
from tests.waiting import wait_until

CONTENT = f"{PLANTED} ciphertext".encode()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def settings(collector: Collector, ratio: float = 1.0) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_TRACES_SAMPLER_ARG": str(ratio),
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OFFLINE_NOTICE_AFTER_S": "0.3",
    }


async def test_a_message_is_one_trace_from_its_send_to_the_socket_on_another_node_and_to_its_notice(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, collector: Collector
) -> None:
    """Bob is connected and marks nothing, so the message is written to his socket and becomes a notice, too."""
    async with open_cluster(pool.url, redis_url, **settings(collector)) as cluster:
        (here, here_url), (there, there_url) = await cluster.start_socket(), await cluster.start_socket()
        worker = await cluster.start_worker()
        for node in (here, there):
            await node.wait_event("caught_up")
        arrived = trio.Event()

        async def on_push(push: Push) -> None:
            arrived.set()

        async with connect(here_url, alice.token) as sender, connect(there_url, bob.token, on_push=on_push):
            sent = await sender.send(direct, CONTENT, temp_id=uuid4().bytes)
            await arrived.wait()
            await wait_until(lambda: collector.named("job offline_notice"), "the job has run", timeout_s=30)
            await wait_until(lambda: collector.named("write"), "the other node has exported its spans")
        notice = await worker.wait_event("offline_notice")
        nodes = [(await node.wait_event("listening"))["node"] for node in (here, there)]
        workers = (await worker.wait_event("working"))["worker"]
    [send] = collector.named("send")
    assert {span.trace for span in collector.spans} == {send.trace}
    assert notice["trace_id"] == send.trace
    assert parents(collector, send) == {
        "commit": "send",
        "stream": "send",
        "push": "stream",
        "write": "push",
        "job offline_notice": "send",
    }
    services = {span.name: span.service for span in collector.spans}
    assert services == {
        **dict.fromkeys(("send", "commit", "stream"), ("alo-socket", nodes[0])),
        **dict.fromkeys(("push", "write"), ("alo-socket", nodes[1])),
        "job offline_notice": ("alo-worker", workers),
    }
    assert (send.attributes["alo.conversation"], send.attributes["alo.seq"]) == (direct.hex(), sent.seq)
    order = [collector.named(name)[0].began_ns for name in ("send", "commit", "stream", "push", "write")]
    assert order == sorted(order)
    assert collector.named("write")[0].ended_ns <= collector.named("job offline_notice")[0].began_ns
    assert_no_secrets(collector, alice, bob)


async def test_a_message_that_has_been_read_is_not_traced_to_the_notice_of_a_later_one(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, collector: Collector
) -> None:
    async with open_cluster(pool.url, redis_url, **settings(collector)) as cluster:
        _, url = await cluster.start_socket()
        async with connect(url, alice.token) as sender, connect(url, bob.token) as reader:
            sent = await sender.send(direct, CONTENT, temp_id=uuid4().bytes)
            await reader.mark_read([(direct, sent.seq)])
            await wait_until(lambda: collector.named("send"), "the send is exported")
            await wait_until(lambda: redis_keys(redis_url, "alo:*:trace:*"), "the trace is noted")
        # Another node, which traces nothing, commits the next message.
        _, quiet = await cluster.start_socket(OTEL_TRACES_SAMPLER_ARG="0")
        async with connect(quiet, alice.token) as sender:
            await sender.send(direct, CONTENT, temp_id=uuid4().bytes)
        worker = await cluster.start_worker()
        assert "trace_id" not in await worker.wait_event("offline_notice")
        assert await worker.stop() == 0
    assert not collector.named("job offline_notice")


async def test_a_refused_send_is_a_trace_that_ends_with_the_name_of_the_error(
    pool: Pool, redis_url: str, alice: Credentials, collector: Collector
) -> None:
    async with open_cluster(pool.url, redis_url, **settings(collector)) as cluster:
        _, url = await cluster.start_socket()
        async with connect(url, alice.token) as sender:
            with pytest.raises(Exception, match="not_a_participant"):
                await sender.send(uuid4().bytes, CONTENT, temp_id=uuid4().bytes)
        await wait_until(lambda: collector.named("send"), "the send is exported")
    assert collector.named("send")[0].attributes["alo.outcome"] == "not_a_participant"
    assert not collector.named("push")


OF_TRACING = (
    "opentelemetry.exporter",
    "opentelemetry.sdk.trace",
    "google.protobuf",
    "requests",
    "runtime.tracing.tracer",
)
OF_REPORTS = ("sentry_sdk", "runtime.sentry")
OF_OTHERS = {
    "socket": ("redis", "quart", "jinja2", "server.http.process", "server.cli.run", "jobs.tasks.registry"),
    "web": ("redis", "server.gateway.process", "server.cli.run", "jobs.tasks.registry"),
    "worker": ("redis", "quart", "server.gateway.process"),
}
PACKAGES = "opentelemetry,google,requests,sentry_sdk"


@pytest.mark.parametrize(
    ("endpoint", "missing"), [("", ""), ("", PACKAGES), ("http://127.0.0.1:1", "")], ids=["off", "not installed", "on"]
)
async def test_a_process_imports_what_it_needs_and_traces_and_reports_if_they_are_configured(
    pool: Pool,
    redis_url: str,
    alice: Credentials,
    bob: Credentials,
    direct: bytes,
    tmp_path: Path,
    endpoint: str,
    missing: str,
) -> None:
    """The processes write the names of their modules when they end. Modules of other processes, and redis-py, would
    double the time that a process takes to start."""
    told = {"COLD_START": "1", "OTEL_TRACES_SAMPLER_ARG": "0"}
    told |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "MISSING_PACKAGES": missing}
    kinds = {"socket": ("server", "socket"), "web": ("server", "web"), "worker": ("jobs",)}
    async with open_cluster(pool.url, redis_url, **told) as cluster:
        for kind, arguments in kinds.items():
            process = await cluster.start(
                "tests.system.told_modules", str(tmp_path / kind), *arguments, PORT="0", SOCKET_PORT="0"
            )
            started = await process.wait_event("working" if kind == "worker" else "listening")
            if kind == "socket":
                async with connect(f"ws://127.0.0.1:{started['port']}", alice.token) as sender:
                    await sender.send(direct, CONTENT, temp_id=uuid4().bytes)
            assert await process.stop() == 0
    for kind in kinds:
        imported = set(json.loads((tmp_path / kind).read_text()))
        assert not imported.intersection(OF_REPORTS)
        assert not imported.intersection(OF_OTHERS[kind]), kind
        assert imported.intersection(OF_TRACING) == (set(OF_TRACING) if endpoint and kind != "web" else set())
        assert not missing or not any(name.startswith("opentelemetry") for name in imported)
    assert redis_keys(redis_url, "alo:*:trace:*") == []


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "SENTRY_DSN"])
async def test_a_process_says_which_packages_it_lacks(
    pool: Pool, redis_url: str, tmp_path: Path, collector: Collector, name: str
) -> None:
    value = collector.endpoint if name.startswith("OTEL") else collector.dsn
    async with open_cluster(pool.url, redis_url, COLD_START="1", MISSING_PACKAGES=PACKAGES, **{name: value}) as cluster:
        process = await cluster.start("tests.system.told_modules", str(tmp_path / "modules"), "server", "socket")
        assert await process.wait() == 1
        await wait_until(lambda: process.raw, "the process has said why")
    assert process.raw[-1].startswith(f"{name} needs the packages of the extra `tracing`")


def parents(collector: Collector, root: CollectedSpan) -> dict[str, str]:
    """Name of a span -> name of its parent, without the root."""
    by_id = {span.id: span.name for span in collector.spans}
    return {span.name: by_id[span.parent] for span in collector.spans if span is not root}


def assert_no_secrets(collector: Collector, *people: Credentials) -> None:
    """No content, token or address, and no user or device, is in any body that the collector got."""
    for body in collector.bodies:
        text = body.decode("latin-1")
        assert not SECRETS.search(text)
        for person in people:
            for id in (person.user, person.device):
                assert id not in body
                assert id.hex() not in text
