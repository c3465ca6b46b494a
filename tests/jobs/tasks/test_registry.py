"""SQL names tasks by text: each of them is in the registry."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.tasks.registry import open_work
from runtime.config import Config
from store.postgres.pool import Pool

SQL = Path(__file__).parents[3] / "store" / "sql"


async def test_each_task_that_sql_enqueues_or_looks_for_is_in_the_registry(pool: Pool, redis_url: str) -> None:
    text = "".join(file.read_text() for file in sorted(SQL.rglob("*.sql")))
    named = {*re.findall(r"\benqueue\w*\('(\w+)'", text), *re.findall(r"\b[jw]\.task = '(\w+)'", text)}
    assert {"digest", "notify", "offline_notice"} <= named
    async with open_work(Config(database_url=pool.url, redis_url=redis_url), pool) as work:
        assert named <= work.tasks.keys()
