"""Metrics of real processes after real work: every row of the table, and the figures of what was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import httpx
import pytest
import trio

from client.connection import connect
from client.http import Credentials
from embedded.ports import free_port, is_free
from runtime.metrics.table import METRICS
from store.postgres.pool import Pool
from tests.people import new_direct
from tests.processes import open_cluster
from tests.scrape import Scrape, scrape
from tests.waiting import wait_until

SENDS: Final = 40

NOT_CAUSED: Final = {
    "web": {
        "alo_http_limited_total": "no limit is reached",
        "alo_object_store_call_seconds": "there is no object store",
        "alo_http_unrouted_total": "each request has a route",
    },
    "socket": {
        "alo_connections_ended_total": "connections are open",
        "alo_requests_refused_total": "each request is served",
        "alo_resumes_total": "no device shows a cursor",
        "alo_lags_total": "each device reads what it gets",
        "alo_cuts_total": "connections are open",
    },
    "worker": {
        "alo_notice_seconds": "each message is marked",
        "alo_mail_seconds": "no mail is due",
        "alo_object_store_call_seconds": "there is no object store",
    },
}
"""Process -> metrics with labels that the work here does not cause, and why; tests of their own cause them."""


class OperatedNodes:
    """One process of each kind, and a second gateway.

    :ivar ports: process -> its port for operators; `there`: that of the second gateway.
    """

    def __init__(self, first: int) -> None:
        self.ports = {"web": first, "socket": first + 1, "worker": first + 2, "there": first + 11}
        self.here_url = self.there_url = self.http_url = ""

    async def scrapes(self) -> dict[str, Scrape]:
        return {name: await scrape(port) for name, port in self.ports.items()}


@asynccontextmanager
async def operated_nodes(pool: Pool, redis_url: str) -> AsyncGenerator[OperatedNodes, None]:
    while not all(is_free((first := free_port()) + step) for step in (1, 2, 11)):
        pass
    nodes = OperatedNodes(first)
    async with open_cluster(pool.url, redis_url, METRICS_PORT=str(first)) as cluster:
        await cluster.start_web()
        here, nodes.here_url = await cluster.start_socket()
        there, nodes.there_url = await cluster.start_socket(METRICS_PORT=str(first + 10))
        await cluster.start_worker()
        for process in (here, there):
            await process.wait_event("caught_up")
        nodes.http_url = cluster.http_url
        yield nodes


async def test_every_metric_is_shown_and_has_the_figure_of_what_was_done(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """Alice sends on one node, Bob gets and marks on the other, and both read over HTTP."""
    conversation = await new_direct(pool, alice, bob)
    async with operated_nodes(pool, redis_url) as nodes:
        got: list[object] = []

        async def on_push(push: object) -> None:
            got.append(push)

        async with (
            connect(nodes.here_url, alice.token) as sends,
            connect(nodes.there_url, bob.token, on_push=on_push) as marks,
        ):
            for _ in range(SENDS):
                last = await sends.send(conversation, b"ciphertext", temp_id=uuid4().bytes)
            again = uuid4().bytes
            first = await sends.send(conversation, b"again", temp_id=again)
            assert (await sends.send(conversation, b"again", temp_id=again)).seq == first.seq
            await wait_until(lambda: len(got) > SENDS, "Bob has all messages")
            await marks.mark_read([(conversation, last.seq)])
            await marks.sync(None)
            async with httpx.AsyncClient(headers={"accept-encoding": "identity"}) as client:
                for person in (alice, bob):
                    for path in ("/v1/conversations", "/healthz"):
                        bearer = {"authorization": f"Bearer {person.token}"}
                        assert (await client.get(nodes.http_url + path, headers=bearer)).status_code == 200
                login = {"username": "alice", "password": "wrong horse battery", "name": "phone"}
                assert (await client.post(f"{nodes.http_url}/v1/devices", json=login)).status_code == 401
            found = await nodes.scrapes()
    _check_rows(found)
    _check_sends(found["socket"], found["there"])
    web = found["web"]
    assert web.value("alo_http_request_seconds_count", route="GET /v1/conversations", status="2xx") == 2
    assert web.value("alo_http_request_seconds_count", route="GET /healthz", status="2xx") == 2
    assert web.value("alo_http_requests_in_flight") == 0
    bodies = web.value("alo_http_answer_bytes_count", coding="identity")
    assert bodies == web.total("alo_http_request_seconds_count")
    assert web.value("alo_http_request_bytes_count") == 1
    assert web.value("alo_http_connections_accepted_total") >= 1
    for process, uses in {"web": ["bus"], "socket": ["bus"], "worker": ["bus", "jobs"]}.items():
        assert sorted(labels["use"] for labels in found[process].series_of("alo_redis_connected")) == uses
        assert found[process].total("alo_redis_connected") == len(uses)


def _check_rows(found: dict[str, Scrape]) -> None:
    for process in ("web", "socket", "worker"):
        page = found[process]
        rows = {metric.name: metric.kind for metric in METRICS if process in metric.processes}
        assert page.kinds == rows, process
        bare = {name for name in rows if not page.series_of(name)}
        assert bare == NOT_CAUSED[process].keys(), process
        for metric in METRICS:
            if process in metric.processes:
                assert all(set(labels) == set(metric.labels) for labels in page.series_of(metric.name)), metric.name
        assert page.value("alo_live") == page.value("alo_ready") == 1, process


def _check_sends(here: Scrape, there: Scrape) -> None:
    stored = SENDS + 1
    assert here.value("alo_frames_received_total", type="send") == stored + 1
    assert here.value("alo_sends_total", outcome="stored") == stored
    assert here.value("alo_sends_total", outcome="repeated") == 1
    assert here.value("alo_frames_offered_total", type="sent") == stored + 1
    assert there.value("alo_frames_offered_total", type="message") >= stored
    hops = {
        hop: [page.value("alo_delivery_hop_seconds_count", hop=hop) for page in (here, there)]
        for hop in ("received_committed", "committed_offered", "committed_offered_elsewhere")
    }
    assert hops == {
        "received_committed": [stored, 0],
        "committed_offered": [0, 0],
        "committed_offered_elsewhere": [0, stored],
    }
    assert 0 < here.value("alo_delivery_hop_seconds_count", hop="committed_streamed") <= stored
    way = there.value("alo_delivery_hop_seconds_sum", hop="committed_offered_elsewhere")
    assert 0 < way / stored < 5
    items = here.value("alo_batch_items_sum", queue="sends")
    commits = here.value("alo_batch_commit_seconds_count", queue="sends")
    assert items == stored + 1
    assert commits == here.value("alo_postgres_query_seconds_count", statement="messages.send")
    assert (here.value("alo_connections"), here.value("alo_users"), here.value("alo_connections_welcomed")) == (1, 1, 1)
    assert here.value("alo_outbox_connections", bytes="0") == 1
    assert here.value("alo_other_nodes") == there.value("alo_other_nodes") == 1
    assert here.value("alo_received_bytes_total") > stored * len(b"ciphertext")
    assert there.value("alo_cache_uses_total", cache="participants", outcome="hit") == 0


@pytest.mark.parametrize("senders", [4])
async def test_pages_that_are_fetched_under_load_are_each_of_one_moment(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, senders: int
) -> None:
    conversation = await new_direct(pool, alice, bob)
    async with operated_nodes(pool, redis_url) as nodes, connect(nodes.here_url, alice.token) as device:
        pages: list[Scrape] = []

        async def send() -> None:
            while True:
                await device.send(conversation, b"ciphertext", temp_id=uuid4().bytes)

        async with trio.open_nursery() as nursery:
            for _ in range(senders):
                nursery.start_soon(send)
            while len(pages) < 10 or pages[-1].value("alo_sends_total", outcome="stored") < 20:
                pages.append(await scrape(nodes.ports["socket"]))
            nursery.cancel_scope.cancel()
    for page in pages:
        stored = page.value("alo_sends_total", outcome="stored")
        assert page.value("alo_delivery_hop_seconds_count", hop="received_committed") == stored
        assert page.value("alo_frames_offered_total", type="sent") == stored
        assert stored <= page.value("alo_frames_received_total", type="send") <= stored + senders
    counts = [page.value("alo_sends_total", outcome="stored") for page in pages]
    assert counts == sorted(counts)
