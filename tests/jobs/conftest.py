from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import trio
from jobs_helpers import Hook, open_hook

from jobs import offline_notice, queue, relay
from jobs import worker as worker_module
from jobs.worker import Worker
from store.config import Config
from store.pool import Pool


@pytest.fixture
async def hook() -> AsyncGenerator[Hook, None]:
    async with open_hook() as hook:
        yield hook


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds or minutes in earnest takes parts of a second here."""
    monkeypatch.setattr(relay, "POLL_S", 0.05)
    monkeypatch.setattr(queue, "BLOCK_MS", 50)
    monkeypatch.setattr(offline_notice, "FIRST_DELAY_S", 0.05)


@pytest.fixture
def start_worker(
    nursery: trio.Nursery,
    hook: Hook,
    pool: Pool,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    _hurried: None,
) -> Callable[..., Awaitable[tuple[Worker, trio.CancelScope]]]:
    """Start a worker in this process; cancelling its scope is as sudden an end as there is in here."""

    async def no_signals(terminated: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    monkeypatch.setattr(worker_module, "watch_signals", no_signals)

    async def run(worker: Worker, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await worker.run()

    async def start(
        *, window_s: float = 0.05, redis: str = redis_url, webhook: str = hook.url
    ) -> tuple[Worker, trio.CancelScope]:
        worker = Worker(
            Config(
                database_url=pool.url,
                database_pool=3,
                redis_url=redis,
                offline_notice_url=webhook,
                offline_notice_after_s=window_s,
            )
        )
        return worker, await nursery.start(run, worker)

    return start
