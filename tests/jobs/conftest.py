from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
import trio

from embedded.redis import RedisServer
from jobs.engine import consumer_group, fetcher, heartbeat, monitor, relay, scheduler
from jobs.engine import worker as worker_module
from jobs.engine.queue import Queue
from jobs.engine.task import Backoff, Task
from jobs.engine.worker import Work, Worker
from jobs.tasks import debounce, registry
from jobs.tasks.debounce import Debounce
from jobs.tasks.registry import open_work
from runtime.config import Config
from store import jobs as jobs_module
from store import notifiers
from store.postgres.pool import Pool
from store.redis.buses import JOBS
from store.redis.client import Redis
from tests.jobs.jobs_world import Hook, RecordingTask, open_hook
from tests.jobs.push_services import Trust, make_trust


@pytest.fixture
async def hook() -> AsyncGenerator[Hook, None]:
    async with open_hook() as hook:
        yield hook


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    redis = Redis(redis_url, JOBS)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.wait_connected()
        yield redis
        nursery.cancel_scope.cancel()


@pytest.fixture
async def its_redis(own_redis: RedisServer, nursery: trio.Nursery) -> Redis:
    """A client of the Redis that a test breaks."""
    redis = Redis(own_redis.url)
    await nursery.start(redis.run)
    await redis.wait_connected()
    return redis


@pytest.fixture
def queue(pool: Pool, redis: Redis) -> Queue:
    """A queue for tests."""
    return Queue(pool, redis)


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def recorder() -> RecordingTask:
    return RecordingTask()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of seconds or minutes become fractions of a second."""
    monkeypatch.setattr(registry, "NOTICE_BACKOFF", Backoff(0.05, 1))
    monkeypatch.setattr(relay, "POLL_S", 0.05)
    monkeypatch.setattr(debounce, "POLL_S", 0.05)
    monkeypatch.setattr(debounce, "LOOK_S", 0.05)
    monkeypatch.setattr(notifiers, "LOOK_LEAST_S", 0.05)
    monkeypatch.setattr(scheduler, "POLL_S", 0.05)
    monkeypatch.setattr(monitor, "POLL_S", 0.05)
    monkeypatch.setattr(fetcher, "POLL_S", 0.05)
    monkeypatch.setattr(consumer_group, "BLOCK_MS", 50)


@pytest.fixture
def _quick_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other workers take over at once from a worker without heartbeats."""
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    monkeypatch.setattr(consumer_group, "TAKE_OVER_AFTER_S", 0.5)
    monkeypatch.setattr(jobs_module, "CLAIM_S", 0.5)


@pytest.fixture
def start_worker(
    nursery: trio.Nursery,
    hook: Hook,
    pool: Pool,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    _hurried: None,
) -> Callable[..., Awaitable[tuple[Worker, trio.CancelScope]]]:
    """Start a worker in this process. Cancelling its scope is the most sudden end that is possible here."""

    async def no_signals(*_: object, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    monkeypatch.setattr(worker_module, "watch_signals", no_signals)

    async def run(worker: Worker, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await worker.run()

    async def start(
        *tasks: Task,
        window_s: float = 0.05,
        redis: str = redis_url,
        database: str = pool.url,
        webhook: str = hook.url,
        concurrency: int = 8,
        **settings: Any,
    ) -> tuple[Worker, trio.CancelScope]:
        """
        :param tasks: that it knows; by default the product's.
        :param settings: further ones of its configuration.
        """
        config = Config(
            database_url=database,
            database_pool=3,
            redis_url=redis,
            offline_notice_url=webhook,
            offline_notice_after_s=window_s,
            worker_concurrency=concurrency,
            **settings,
        )
        known = {task.name: task for task in tasks}

        def given(config: Config, pool: Pool) -> nullcontext[Work]:
            debounce = Debounce(pool, window_s=window_s, read_window_s=config.read_notice_after_s)
            return nullcontext(Work(known, [debounce.run]))

        worker = Worker(config, given if tasks else open_work)
        return worker, await nursery.start(run, worker)

    return start
