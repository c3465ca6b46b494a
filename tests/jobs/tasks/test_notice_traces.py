"""Jobs of notices in the trace of the message that they tell of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any
from uuid import UUID

import pytest

from client.http import Credentials
from jobs.engine.job import Job, Snooze
from jobs.engine.task import Task
from jobs.notifiers.configured import Notifiers
from jobs.tasks.notice_traces import NoticeTraces
from jobs.tasks.notices import Notices
from runtime.config import Config
from runtime.tracing.switch import open_tracer
from runtime.tracing.tracer import Tracer
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.traces import note_trace
from tests.collector import Collector, collecting
from tests.jobs.jobs_world import a_job
from tests.store.store_world import a_message, running


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    async with running(redis_url) as redis:
        yield redis


@pytest.fixture
async def seq(pool: Pool, direct: bytes, alice: Credentials) -> int:
    """A message of Alice, which Bob has not read."""
    [sent] = await send(pool, ParticipantsCache(), [a_message(direct, alice.user)])
    assert isinstance(sent, Committed)
    return sent.seq


class Telling:
    """A task that tells a user; its end is scripted.

    :param error: raised by each run.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[UUID] = []

    async def notify(self, job: Job, notifier: UUID | None, user: UUID, notice: str) -> None:
        self.told.append(user)
        if self.error is not None:
            raise self.error


def opened(collector: Collector) -> Any:
    return open_tracer(
        Config(otel_exporter_otlp_endpoint=collector.endpoint, otel_traces_sampler_arg=1), "worker", "abc"
    )


async def run(traces: NoticeTraces, telling: Telling, user: bytes) -> None:
    handler = traces.traced(telling.notify)
    await handler(a_job("notify", id="7"), None, UUID(bytes=user), "7-1")


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "done"), (Snooze(5), "snoozed"), (ValueError("ann@example.org"), "ValueError")]
)
async def test_a_run_is_a_span_in_the_trace_of_the_message_with_its_end(
    pool: Pool,
    redis: Redis,
    direct: bytes,
    bob: Credentials,
    seq: int,
    collector: Collector,
    error: Exception | None,
    outcome: str,
) -> None:
    with opened(collector) as tracer:
        sent = tracer.start("send")
        await note_trace(redis, [bob.user], direct, seq, sent.context)
        telling = Telling(error)
        if error is None:
            await run(NoticeTraces(tracer, pool, redis), telling, bob.user)
        else:
            with pytest.raises(type(error)):
                await run(NoticeTraces(tracer, pool, redis), telling, bob.user)
        sent.end()
    [job], [send_] = collector.named("job notify"), collector.named("send")
    assert (job.trace, job.parent) == (send_.trace, send_.id)
    assert job.attributes == {"alo.job": "7", "alo.task": "notify", "alo.attempt": 1, "alo.outcome": outcome}
    assert telling.told == [UUID(bytes=bob.user)]
    assert not any(b"example.org" in body for body in collector.bodies)


async def test_a_run_about_a_message_that_is_read_or_was_not_sampled_has_no_span(
    pool: Pool, redis: Redis, direct: bytes, alice: Credentials, bob: Credentials, seq: int, collector: Collector
) -> None:
    with opened(collector) as tracer:
        await note_trace(redis, [bob.user], direct, seq, tracer.start("send").context)
        await pool.fetch("update participants set read_seq = 1, delivered_seq = 1")
        telling = Telling()
        for person in (alice, bob):
            await run(NoticeTraces(tracer, pool, redis), telling, person.user)
    assert collector.spans == []
    assert len(telling.told) == 2


async def test_a_job_runs_without_a_span_while_redis_is_away(
    pool: Pool, bob: Credentials, collector: Collector, log_output: list[dict[str, Any]]
) -> None:
    with opened(collector) as tracer:
        telling = Telling()
        await run(NoticeTraces(tracer, pool, Redis("redis://127.0.0.1:1")), telling, bob.user)
    assert len(telling.told) == 1
    assert [line["event"] for line in log_output] == ["trace_not_found"]


def test_a_traced_handler_has_the_name_and_the_arguments_of_the_task(pool: Pool, collector: Collector) -> None:
    notices = Notices(pool, Notifiers({}, None), read_after_s=1, pauses_s=[1])
    with opened(collector) as tracer:
        assert isinstance(tracer, Tracer)
        traces = NoticeTraces(tracer, pool, Redis("redis://127.0.0.1:1"))
        for handler in (notices.offline_notice, notices.notify):
            plain, traced = Task(handler), Task(traces.traced(handler))
            assert (traced.name, traced.argument_names) == (plain.name, plain.argument_names)
