"""An error in a handler of a real process reaches Sentry, without the data that it happened to."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from client.http import Credentials
from embedded.ports import free_port
from store.postgres.pool import Pool
from tests.collector import Collector, collecting
from tests.planted import SECRETS
from tests.processes import open_cluster
from tests.system.faulty_handler import CONTENT
from tests.waiting import wait_until


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


async def test_an_error_in_a_handler_is_reported_without_secrets_and_the_process_goes_on(
    pool: Pool, redis_url: str, alice: Credentials, collector: Collector
) -> None:
    port = free_port()
    async with open_cluster(pool.url, redis_url, SENTRY_DSN=collector.dsn, LOG_LEVEL="error") as cluster:
        process = await cluster.start("tests.system.faulty_handler", "server", "web", PORT=str(port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def status(path: str) -> int:
                try:
                    return (await client.get(path, headers=headers)).status_code
                except httpx.ConnectError:
                    return 0

            headers = {"authorization": f"Bearer {alice.token}", "x-request-id": "r-1"}

            async def is_ready() -> bool:
                return await status("/readyz") == 200

            await wait_until(is_ready, "the process serves")
            assert await status("/v1/profile?secret=planted") in (400, 500)
            assert await status("/v1/profile") == 500
            await wait_until(lambda: collector.reports, "the report has come")
            assert await status("/v1/conversations") == 200
        assert await process.stop() == 0
    [report] = collector.reports
    assert report["tags"]["route"] == "GET /v1/profile"
    assert (report["tags"]["event"], report["tags"]["request_id"]) == ("request_failed", "r-1")
    [error] = report["exception"]["values"]
    assert (error["type"], error.get("value", "")) == ("ValueError", "")
    assert error["stacktrace"]["frames"][-1]["function"] == "fail"
    for body in collector.bodies:
        text = body.decode("latin-1")
        assert CONTENT not in text
        assert not SECRETS.search(text)
        assert "127.0.0.1" not in text.replace(f"127.0.0.1:{collector.port}", "")
        assert alice.user.hex() not in text
