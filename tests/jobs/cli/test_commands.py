"""The commands of operators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from jobs.__main__ import parser
from jobs.cli.commands import Commands
from jobs.engine import consumer_group
from jobs.tasks.registry import open_work
from runtime.commands import CommandError
from runtime.config import Config
from store import jobs, schedules
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.rows import each_row

ROOT = Path(__file__).parents[3]


class Operator:
    """Types commands, which are run in here."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def asks(self, *command: str) -> list[dict[str, Any]]:
        options = parser().parse_args(command)
        return list(await options.ask(self._commands, options))

    async def is_told_why_not(self, *command: str) -> str:
        with pytest.raises(CommandError) as told:
            await self.asks(*command)
        return str(told.value)


@pytest.fixture
async def operator(pool: Pool, redis: Redis) -> AsyncGenerator[Operator, None]:
    async with open_work(Config(), pool) as work:
        yield Operator(Commands(pool, redis, work.tasks))


USER = '{"user": "00000000-0000-4000-8000-000000000001"}'


async def test_a_job_is_enqueued_shown_and_cancelled(operator: Operator) -> None:
    [enqueued] = await operator.asks("enqueue", "offline_notice", USER, "--delay", "60")
    [shown] = await operator.asks("show", enqueued["job"])
    assert shown["state"] == "delayed"
    [row] = [row for row in await operator.asks("status") if row["task"] == "offline_notice"]
    assert (row["waiting"], row["delayed"], row["in_redis"]) == (0, 1, 0)
    assert await operator.asks("cancel", enqueued["job"]) == [{"job": enqueued["job"], "state": "cancelled"}]
    assert "has ended" in await operator.is_told_why_not("cancel", enqueued["job"])


@each_row(
    ("command", "why"),
    [
        (("enqueue", "no_such_task"), "offline_notice"),
        (("enqueue", "offline_notice", "{}"), "missing required field `user`"),
        (("enqueue", "offline_notice", "{"), "must be a JSON object"),
        (("enqueue", "offline_notice", "[]"), "JSON object"),
        (("pause", "no_such_task"), "offline_notice"),
        (("resume", "offline_notice"), "not paused"),
        (("replay", "--all"), "no dead jobs"),
        (("dead", "7"), "number of a dead job"),
        (("schedule", "pause", "x"), "no such schedule"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
async def test_error_of_a_command_is_one_sentence(operator: Operator, command: tuple[str, ...], why: str) -> None:
    assert why in await operator.is_told_why_not(*command)


async def test_dead_jobs_are_listed_looked_at_and_replayed(operator: Operator, pool: Pool) -> None:
    ids = await jobs.enqueue_plain(pool, [jobs.NewJob("offline_notice", USER.encode())] * 2)
    await jobs.claim(pool, ids, "worker")
    ending = jobs.Ending("dead", reason="the webhook says no", traceback="Traceback: here")
    await jobs.end(pool, [jobs.RunEnd(id, 1, ending) for id in ids], "worker")
    assert [row["job"] for row in await operator.asks("dead")] == ids[::-1]
    of_one = {row["field"]: row["value"] for row in await operator.asks("dead", str(ids[0]))}
    assert of_one["payload"] == USER
    assert (of_one["reason"], of_one["traceback"]) == ("the webhook says no", "Traceback: here")
    assert await operator.asks("replay", str(ids[0])) == [{"replayed": 1}]
    assert await operator.asks("replay", "offline_notice") == [{"replayed": 1}]
    assert await operator.asks("dead") == []
    assert [each.waiting for each in await jobs.task_statuses(pool)] == [2]


async def test_workers_are_counted_as_long_as_they_give_a_sign_of_life(operator: Operator, redis: Redis) -> None:
    assert {row["workers"] for row in await operator.asks("status")} == {0}
    for worker in ("one", "other"):
        await consumer_group.announce(redis, worker)
    assert {row["workers"] for row in await operator.asks("status")} == {2}
    await consumer_group.leave(redis, "one", [])
    assert {row["workers"] for row in await operator.asks("status")} == {1}
    assert 0 < await redis.call("PTTL", "alo:{jobs}:worker:other") <= 10_000


async def test_schedules_are_listed_and_paused(operator: Operator, pool: Pool) -> None:
    now = await schedules.now(pool)
    await schedules.declare(pool, "forget", "forget", "every 60 s", "UTC", "once", next=now)
    [row] = await operator.asks("schedule")
    assert (row["schedule"], row["rule"], row["is_paused"]) == ("forget", "every 60 s", False)
    await operator.asks("schedule", "pause", "forget")
    [row] = await operator.asks("schedule")
    assert row["is_paused"]


async def test_a_process_prints_a_table_or_json_or_a_sentence(database_url: str, pool: Pool) -> None:
    """And does without Redis, as far as that is possible."""
    await jobs.enqueue_plain(pool, [jobs.NewJob("offline_notice", USER.encode())])
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}

    async def types(*command: str) -> subprocess.CompletedProcess[bytes]:
        full = [sys.executable, "-m", "jobs", *command]
        return await trio.run_process(
            full, cwd=ROOT, env=environment, capture_stdout=True, capture_stderr=True, check=False
        )

    names, rule, *rows = (await types("status")).stdout.decode().splitlines()
    assert names.split()[:5] == ["task", "waiting", "delayed", "running", "dead"]
    assert set(rule) == {"-", " "}
    [row] = [row for row in rows if row.startswith("offline_notice")]
    assert row.split()[1] == "1"
    paused = await types("pause", "offline_notice", "--json")
    assert json.loads(paused.stdout) == {"task": "offline_notice", "is_paused": True, "was_paused": False}
    refused = await types("dead", "7")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"7 must be the number of a dead job" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert (await types("replay")).returncode == 2
