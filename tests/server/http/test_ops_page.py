"""The operations page: its files, its figures of all processes, and the replay of dead jobs."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import trio

from runtime.figure_sharing import FigureSharing
from runtime.metrics.page import MetricsPage
from runtime.metrics.samples import Sample
from server.http.answers.live import CacheAnswer
from server.http.app import create_app
from server.http.live_figures import SERVES, SILENT, LiveFigures, Spread
from server.http.routes.ops_page import HEADERS
from store import jobs, security_events
from store.distribution import SECONDS, Distribution
from store.postgres.pool import Pool
from store.redis.bus import stream_of
from store.redis.directory import NODE_BYTES, beat
from store.redis.figures import FIGURES, KEPT_S, SHARE_S, SharedFigures, look, share, watched_at
from tests.dead_jobs import new_dead_job
from tests.server.deaf_node import DEAF, add_deaf_node
from tests.server.http_world import Api, open_api, open_services, started_health
from tests.waiting import wait_until

TOKEN = "an-operators-token"
FILES = {
    "/ops": "html",
    "/ops/page.css": "css",
    "/ops/page.js": "javascript",
    "/ops/charts.js": "javascript",
    "/ops/icon.svg": "svg",
}


async def test_the_page_is_there_only_if_operators_have_a_token(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        assert {(await api.app.test_client().get(path)).status_code for path in FILES} == {404}
    async with open_api(pool, redis_url, ops_token=TOKEN) as api:
        for path, kind in FILES.items():
            found = await api.app.test_client().get(path)
            assert found.status_code == 200, path
            assert kind in found.headers["content-type"]
            assert found.headers["content-security-policy"] == HEADERS["content-security-policy"]
            assert found.headers["cache-control"] == "no-store"
            assert found.headers["x-content-type-options"] == "nosniff"


def test_the_page_runs_and_loads_nothing_but_its_own_files() -> None:
    """The policy would stop anything else in a browser; it allows nothing inline."""
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert not [word for word in ("unsafe", "http", "data:") if word in policy]
    html = resources.files("server.http.ops_page").joinpath("page.html").read_text()
    assert set(re.findall(r'(?:src|href)="(/[^"]*)"', html)) == FILES.keys() - {"/ops", "/ops/charts.js"}
    assert not re.search(r"<style|style=|<script[^>]*>[^<]| on[a-z]+=", html)


async def test_operators_see_the_figures_of_all_processes_while_they_look(pool: Pool, redis_url: str) -> None:
    sends, delays = 0, Distribution()
    node = bytes(NODE_BYTES)

    def samples() -> list[Sample]:
        return [
            Sample("alo_connections", 3),
            Sample("alo_sends_total", sends, ("stored",)),
            Sample("alo_delivery_hop_seconds", delays, ("committed_offered",)),
        ]

    async with open_services(pool, redis_url, ops_token=TOKEN) as services:
        api, redis = Api(create_app(services), token=TOKEN), services.redis
        page, health = MetricsPage("socket"), started_health(pool, redis)
        page.add(samples)
        sharing = FigureSharing(redis, node.hex(), "socket", page, health)
        assert await watched_at(redis) is None
        assert (await api.get("/v1/ops/live")).body["processes"] == []
        await beat(redis, node, (0, 0))
        async with trio.open_nursery() as nursery:
            at_ms = await watched_at(redis)
            assert at_ms is not None
            await share(redis, sharing.figures(at_ms, ""))
            first = (await api.get("/v1/ops/live")).body
            assert (first["connections"], first["sends_per_s"]) == (3, 0)
            sends += 50
            for _ in range(50):
                delays.observe(0.002)
            nursery.start_soon(sharing.run)
            found = await wait_until(lambda: rated(api), "a rate")
            nursery.cancel_scope.cancel()
    [times] = [each for each in found["times"] if each["name"] == "committed_offered"]
    assert 1 <= times["p50"] <= times["p95"] <= times["p99"] <= 2.5
    [shown] = found["nodes"]
    assert (shown["node"], shown["status"], shown["connections"]) == (node.hex(), SERVES, 3)


async def rated(api: Api) -> Any:
    """The figures, once they have rates."""
    found = (await api.get("/v1/ops/live")).body
    return found if found["sends_per_s"] else None


async def test_a_process_that_shares_nothing_any_longer_is_not_shown(pool: Pool, redis_url: str) -> None:
    async with open_services(pool, redis_url) as services:
        await look(services.redis)
        at_ms = await watched_at(services.redis)
        assert at_ms is not None
        await share(services.redis, figures("old", at_ms=at_ms - KEPT_S * 1000 - 1))
        await share(services.redis, figures("new", at_ms=at_ms))
        assert [each.id for each in await look(services.redis)] == ["new"]
        assert await services.redis.call("HKEYS", FIGURES) == [b"new"]


async def test_a_process_writes_no_figures_while_no_operator_looks(pool: Pool, redis_url: str) -> None:
    async with open_services(pool, redis_url) as services:
        sharing = FigureSharing(services.redis, "x", "socket", MetricsPage("socket"), services.health)
        before = services.redis.commands
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sharing.run)
            await wait_until(lambda: services.redis.commands >= before + 2, "a look for an operator")
            nursery.cancel_scope.cancel()
        assert await services.redis.call("EXISTS", FIGURES) == 0


def figures(
    id: str,
    *,
    at_ms: int = 0,
    process: str = "socket",
    window_s: float = 10.0,
    fault: str = "",
    counts: dict[str, float] | None = None,
    buckets: dict[str, tuple[list[int], float]] | None = None,
) -> SharedFigures:
    return SharedFigures(
        id, process, "host", 1, at_ms, window_s, fault, {"alo_connections": 2}, counts or {}, buckets or {}
    )


def test_rates_of_processes_with_different_windows_add_up() -> None:
    name = "alo_cache_uses_total list"
    shared = [
        figures("a", window_s=10, counts={f"{name} hit": 90, f"{name} miss": 10}),
        figures("b", window_s=2, counts={f"{name} mended": 10, f"{name} miss": 10}),
        figures("c", window_s=0, counts={f"{name} miss": 0}),
    ]
    assert LiveFigures(shared).caches() == [CacheAnswer("list", 20.0, 0.7)]
    assert LiveFigures(shared).gauge("alo_connections") == 6


def test_a_quantile_lies_within_the_bucket_of_its_values() -> None:
    rates = [0.0] * (len(SECONDS) + 1)
    assert Spread(tuple(rates)).quantile_ms(0.5) is None
    rates[1] = 10
    rates[-1] = 1
    spread = Spread(tuple(rates))
    assert spread.quantile_ms(0.5) == 0.78
    assert spread.quantile_ms(0.99) == SECONDS[-1] * 1000


def test_the_statement_that_takes_most_time_comes_first() -> None:
    one = [1, *[0] * len(SECONDS)]
    slow = {f"alo_postgres_query_seconds s{at}": (one, float(at)) for at in range(12)}
    found = LiveFigures([figures("a", buckets=slow)]).statements()
    assert [each.statement for each in found] == [f"s{at}" for at in range(11, 1, -1)]
    assert found[0].mean_ms == 11_000


def test_a_node_with_a_lease_that_shares_nothing_is_silent_and_one_that_stops_says_so() -> None:
    found = LiveFigures([figures("aa", fault="stopping")]).nodes([b"\xbb"])
    assert [(each.node, each.status, each.connections) for each in found] == [
        ("aa", "stopping", 2),
        ("bb", SILENT, None),
    ]


async def test_a_dead_job_is_replayed_once(pool: Pool, redis_url: str) -> None:
    job = await new_dead_job(pool, reason="x" * 500)
    async with open_api(pool, redis_url, ops_token=TOKEN) as api:
        [shown] = (await api.of(TOKEN).get("/v1/ops/live")).body["dead_jobs"]
        assert (shown["job"], shown["task"], len(shown["reason"])) == (job, "forget", 200)
        path = f"/v1/ops/jobs/{job}/replay"
        assert [(await api.of(TOKEN).request("POST", path)).status for _ in range(2)] == [204, 404]
        assert (await api.of(TOKEN).request("POST", f"/v1/ops/jobs/{2**70}/replay")).status == 404
    assert await jobs.dead_jobs(pool) == []
    assert await pool.fetch("select count(*) from jobs where task = 'forget'") == [(1,)]


def test_figures_are_kept_for_several_writes() -> None:
    assert KEPT_S >= 3 * SHARE_S


async def test_a_node_is_told_to_drain_and_one_that_is_not_there_is_not(pool: Pool, redis_url: str) -> None:
    await add_deaf_node(redis_url)
    async with open_services(pool, redis_url, ops_token=TOKEN) as services:
        api = Api(create_app(services), token=TOKEN)
        for unknown in ("00" * NODE_BYTES, "zz", DEAF.hex()[:8]):
            assert (await api.request("POST", f"/v1/ops/nodes/{unknown}/drain")).status == 404
        assert await services.redis.call("XLEN", stream_of(services.redis, DEAF)) == 1
        assert (await api.request("POST", f"/v1/ops/nodes/{DEAF.hex()}/drain")).status == 204
        assert await services.redis.call("XLEN", stream_of(services.redis, DEAF)) == 2
        await services.redis.call("DEL", stream_of(services.redis, DEAF))
        assert (await api.request("POST", f"/v1/ops/nodes/{DEAF.hex()}/drain")).status == 404
    found = [each for each in await security_events.all_events(pool, limit=9) if each.kind == "node_drained"]
    assert {(each.actor, each.detail["node"]) for each in found} == {("operator", DEAF.hex())}
