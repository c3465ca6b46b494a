"""The registry has each task that a module defines or SQL names; `docs/jobs.md` has their schedules."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import AsyncGenerator
from importlib import import_module
from pathlib import Path

import pytest

import jobs.tasks
from jobs.engine.task import Cron, Task
from jobs.tasks.registry import open_work
from runtime.config import Config
from store.postgres.pool import Pool

ROOT = Path(__file__).parents[3]
SQL = ROOT / "store" / "sql"
PAGE = (ROOT / "docs" / "jobs.md").read_text()


@pytest.fixture
async def tasks(pool: Pool, redis_url: str) -> AsyncGenerator[dict[str, Task], None]:
    async with open_work(Config(database_url=pool.url, redis_url=redis_url), pool) as work:
        yield dict(work.tasks)


async def test_each_task_that_sql_enqueues_or_looks_for_is_in_the_registry(tasks: dict[str, Task]) -> None:
    text = "".join(file.read_text() for file in sorted(SQL.rglob("*.sql")))
    named = {*re.findall(r"\benqueue\w*\('(\w+)'", text), *re.findall(r"\b[jw]\.task = '(\w+)'", text)}
    assert {"digest", "notify", "offline_notice"} <= named
    assert named <= tasks.keys()


async def test_each_handler_is_in_the_registry(tasks: dict[str, Task]) -> None:
    """A public method of a class of `jobs/tasks/` that takes a job first. One that is left out never runs."""
    modules = [import_module(f"jobs.tasks.{module.name}") for module in pkgutil.iter_modules(jobs.tasks.__path__)]
    handlers = {
        f"{owner.__name__}.{name}"
        for module in modules
        for _, owner in inspect.getmembers(module, inspect.isclass)
        if owner.__module__ == module.__name__
        for name, method in inspect.getmembers(owner, inspect.iscoroutinefunction)
        if not name.startswith("_") and [*inspect.signature(method).parameters][1:2] == ["job"]
    }
    assert handlers == {task.handler.__qualname__ for task in tasks.values()}


async def test_each_handler_is_called_by_a_test(tasks: dict[str, Task]) -> None:
    text = "".join(file.read_text() for file in sorted(Path(__file__).parents[1].rglob("test_*.py")))
    assert [name for name in tasks if not re.search(rf"\.{name}\b", text)] == []


async def test_the_page_of_jobs_lists_each_schedule(tasks: dict[str, Task]) -> None:
    """`every 60 s`, or the five fields of a `Cron` and its time zone."""
    schedules = {
        name: f"`{task.schedule}` {task.schedule.zone}" if isinstance(task.schedule, Cron) else str(task.schedule)
        for name, task in tasks.items()
        if task.schedule is not None
    }
    assert dict(re.findall(r"^\| `(\w+)` \| (every [^|]+|`[^|]+` [^|]+) \| ", PAGE, re.MULTILINE)) == schedules
