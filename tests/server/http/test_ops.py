"""Figures by day over HTTP: the operators' token, and the days that are allowed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date, timedelta

from client.http import Credentials
from store import analytics, outbox
from store.postgres.pool import Pool
from tests.people import new_direct
from tests.server.http_world import Api, both_encodings, open_api, say

TOKEN = "an-operators-token"

NO_ATTACHMENTS = {
    "stored": 0,
    "stored_bytes": 0,
    "uploaded": 0,
    "uploaded_bytes": 0,
    "removed": 0,
    "removed_bytes": 0,
    "missing": 0,
}
"""They are counted as they come and go, so a day without figures has had none."""


@asynccontextmanager
async def open_ops(pool: Pool, redis_url: str, encoding: str = "json") -> AsyncGenerator[Api, None]:
    async with open_api(pool, redis_url, encoding, ops_token=TOKEN) as api:
        yield api.of(TOKEN)


@both_encodings
async def test_operators_are_shown_all_figures_of_the_days_they_ask_for(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, encoding: str
) -> None:
    await say(pool, await new_direct(pool, alice, bob), alice.user, b"1", b"2")
    await outbox.decide(pool, window_s=0)
    today = await analytics.today(pool)
    number = (today - date(1970, 1, 1)).days
    await analytics.count_day(pool, today)
    await analytics.note_storage(pool)
    await pool.fetch("insert into latencies values (%s, 40, 9), (%s, 60, 1)", (today, today))
    async with open_ops(pool, redis_url, encoding) as ops:
        found = await ops.get("/v1/ops/analytics", **{"from": f"{today - timedelta(days=2)}", "until": f"{today}"})
    assert found.status == 200
    *before, last = found.body["days"]
    assert [day["day"] for day in (*before, last)] == [f"{today - timedelta(days=ago)}" for ago in (2, 1, 0)]
    assert before[1] == {
        "day": f"{today - timedelta(days=1)}",
        "messages": None,
        "active_users": None,
        "new_users": None,
        "delivery_ms": None,
        "storage_bytes": dict.fromkeys(last["storage_bytes"]),
        "attachments": NO_ATTACHMENTS,
    }
    assert last.pop("attachments") == NO_ATTACHMENTS
    storage = last.pop("storage_bytes")
    assert storage.pop("objects") is None
    assert set(storage) == {"message_tables", "message_indexes", "other_tables", "other_indexes"}
    assert all(type(value) is int and value > 0 for value in storage.values())
    assert last == {
        "day": f"{today}",
        "messages": 2,
        "active_users": 0,
        "new_users": 2,
        "delivery_ms": {"samples": 10, "p50": 100.0, "p95": 1000.0, "p99": 1000.0},
    }
    assert number > 20_000


NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
"""A request that uses this has passed the check of its token."""


async def test_a_request_without_the_operators_token_learns_nothing(redis_url: str) -> None:
    """Not even an error of the query is shown."""
    headers = [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xe4\xf6\xfc",
    ]
    async with open_ops(Pool(NOWHERE, 2), redis_url) as ops:
        for header in headers:
            for query in ({}, {"from": "2026-01-01", "until": "2026-01-02"}):
                given = {} if header is None else {"Authorization": header}
                answer = await ops.of("").request("GET", "/v1/ops/analytics", headers=given, query_string=query)
                assert (answer.status, answer.code) == (401, "unauthenticated"), header


async def test_the_token_of_a_device_is_no_operators_token_nor_the_other_way_round(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_ops(pool, redis_url) as ops:
        assert (await ops.of(alice.token).get("/v1/ops/analytics")).status == 401
        assert (await ops.get("/v1/devices")).status == 401
        assert (await ops.of(alice.token).get("/v1/devices")).status == 200
        assert (await ops.get("/v1/ops/analytics")).status == 400


async def test_without_a_token_there_is_no_ops_api(redis_url: str) -> None:
    async with open_api(Pool(NOWHERE, 2), redis_url) as api:
        for asking in (api, api.of(TOKEN), api.of("")):
            there, nowhere = await asking.get("/v1/ops/analytics"), await asking.get("/v1/nowhere")
            assert (there.status, there.code) == (404, "not_found")
            assert {**there.body, "instance": None} == {**nowhere.body, "instance": None}


BAD_QUERIES: list[tuple[dict[str, str], str]] = [
    ({}, "from"),
    ({"from": "2026-01-01"}, "until"),
    ({"until": "2026-01-01"}, "from"),
    ({"from": "yesterday", "until": "2026-01-01"}, "from"),
    ({"from": "2026-02-30", "until": "2026-03-01"}, "from"),
    ({"from": "20260101", "until": "2026-01-01"}, "from"),
    ({"from": "2026-W01-1", "until": "2026-01-01"}, "from"),
    ({"from": "2026-01-01", "until": "2026-01-01T00:00"}, "until"),
    ({"from": "2026-01-01", "until": "0000-01-01"}, "until"),
    ({"from": "2026-01-01", "until": "2026-01-\u0661\u0661"}, "until"),
    ({"from": "2026-01-02", "until": "2026-01-01"}, "until"),
    ({"from": "2025-01-01", "until": "2026-01-02"}, "until"),
    ({"from": "0001-01-01", "until": "9999-12-31"}, "until"),
]


async def test_wrong_days_and_too_many_days_are_refused_by_name(pool: Pool, redis_url: str) -> None:
    async with open_ops(pool, redis_url) as ops:
        for query, named in BAD_QUERIES:
            answer = await ops.get("/v1/ops/analytics", **query)
            assert (answer.status, answer.code) == (400, "invalid_query"), query
            assert answer.body["detail"].startswith(named), query


async def test_a_whole_year_and_the_ends_of_the_calendar_are_answered(pool: Pool, redis_url: str) -> None:
    async with open_ops(pool, redis_url) as ops:
        for first, last, count in (
            ("2024-01-01", "2024-12-31", 366),
            ("0001-01-01", "0001-01-01", 1),
            ("9999-12-31", "9999-12-31", 1),
        ):
            answer = await ops.get("/v1/ops/analytics", **{"from": first, "until": last})
            assert [answer.status, len(answer.body["days"])] == [200, count]
