"""The spans of jobs that tell a user of a sampled message: they belong to the trace of its send.

The job of a notice knows a user and no message (decision 2), so it asks Redis for the latest sampled message for the
user, and Postgres whether the user has still not read it. A notice is about all that the user has not read, that
message included.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from jobs.engine.job import Job, Snooze
from store.errors import StoreError
from store.outbox import is_unread
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.traces import trace_of

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracer

log = structlog.get_logger(__name__)


class NoticeTraces:
    """
    :param bus: the Redis of the nodes, which note the traces of messages.
    """

    def __init__(self, tracer: Tracer, pool: Pool, bus: Redis) -> None:
        self._tracer = tracer
        self._pool = pool
        self._bus = bus

    def traced(self, handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The handler of a task with an argument `user`, with a span around each run that has a trace."""
        signature = inspect.signature(handler)

        @wraps(handler)
        async def run(job: Job, *arguments: Any) -> None:
            user = signature.bind(job, *arguments).arguments["user"]
            async with self._span(job, user):
                await handler(job, *arguments)

        return run

    @asynccontextmanager
    async def _span(self, job: Job, user: UUID) -> AsyncGenerator[None, None]:
        parent = await self._parent(user.bytes)
        if parent is None:
            yield
            return
        span, outcome = self._tracer.start(f"job {job.task}", "consumer", parent=parent), "stopped"
        structlog.contextvars.bind_contextvars(trace_id=span.trace_id)
        try:
            yield
            outcome = "done"
        except Snooze:
            outcome = "snoozed"
            raise
        except Exception as error:
            # Its text may have an address.
            outcome = type(error).__name__
            raise
        finally:
            span.end(job=job.id, task=job.task, attempt=job.attempt, outcome=outcome)

    async def _parent(self, user: bytes) -> bytes | None:
        try:
            noted = await trace_of(self._bus, user)
            if noted is not None and await is_unread(self._pool, user, noted.conversation, noted.seq):
                return noted.context
        except StoreError as error:
            log.warning("trace_not_found", error=str(error))
        return None
