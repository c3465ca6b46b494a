"""The process `worker`: relays the outbox to the queue, takes jobs from it, runs them.

The nesting of nurseries is the order of shutdown: first nothing more is taken, then what runs is finished.
"""

from __future__ import annotations

import os
from typing import Final

import httpx
import structlog
import trio

from jobs import offline_notice
from jobs.forget import forget_forever
from jobs.notifier import Webhook
from jobs.queue import Queue
from jobs.relay import relay_forever
from store.config import Config
from store.errors import StoreError
from store.migrate import wait_migrated
from store.pool import Pool
from store.postgres import Error
from store.redis import Redis
from store.signals import watch_signals

log = structlog.get_logger(__name__)

CONCURRENCY: Final = 16
"""Jobs at a time in one worker; they mostly wait for a webhook."""

DRAIN_S: Final = 15.0
"""For running jobs when the process is told to stop; a webhook may take 10 s. What does not end is taken over."""


class Worker:
    """One worker process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pool = Pool(config.database_url, config.database_pool)
        self._redis = Redis(config.jobs_url)
        self._queue = Queue(self._redis, os.urandom(8).hex())
        self._terminated = trio.Event()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; jobs that run are finished first."""
        try:
            async with trio.open_nursery() as services, httpx.AsyncClient() as client:
                await services.start(watch_signals, self._terminated)
                await services.start(self._redis.run)
                # Both edges wait for their service by themselves; only the log should say so from the start.
                services.start_soon(wait_migrated, self._pool)
                await self._work(Webhook(client, self._config.offline_notice_url))
                await self._leave()
                services.cancel_scope.cancel()
        finally:
            self._pool.close()
        log.info("stopped")

    async def _work(self, webhook: Webhook) -> None:
        send, receive = trio.open_memory_channel[tuple[bytes, int]](0)
        async with trio.open_nursery() as running:
            for _ in range(CONCURRENCY):
                running.start_soon(self._run_jobs, webhook, receive.clone())
            async with trio.open_nursery() as taking:
                taking.start_soon(self._queue.take, send)
                taking.start_soon(forget_forever, self._pool)
                window_s = self._config.offline_notice_after_s
                taking.start_soon(lambda: relay_forever(self._pool, self._queue, window_s=window_s))
                log.info("working", window_s=window_s, webhook=self._config.offline_notice_url)
                await self._terminated.wait()
                taking.cancel_scope.cancel()
            await send.aclose()
            running.cancel_scope.deadline = trio.current_time() + DRAIN_S

    async def _run_jobs(self, webhook: Webhook, jobs: trio.MemoryReceiveChannel[tuple[bytes, int]]) -> None:
        async for entry, job in jobs:
            try:
                await offline_notice.run(self._pool, webhook, job)
                await self._queue.finish(entry)
            except (StoreError, Error) as error:
                # Neither ended nor retried: the row is due again after its lease, the entry is taken over.
                log.warning("job_interrupted", job=job, error=str(error))
            except Exception:
                log.exception("job_failed", job=job)

    async def _leave(self) -> None:
        try:
            await self._queue.leave()
        except StoreError as error:
            log.warning("not_left", error=str(error))
