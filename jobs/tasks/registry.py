"""All tasks, each with how its jobs run. Tasks get the clients that they need here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from jobs.engine.task import Backoff, Cron, Every, Handler, Task
from jobs.engine.worker import Work
from jobs.mail.mailer import Mailer
from jobs.notifiers.configured import Notifiers, open_notifiers
from jobs.tasks.account_deletions import INTERVAL_S as DELETIONS_S
from jobs.tasks.account_deletions import AccountDeletions
from jobs.tasks.analytics import INTERVAL_S as FIGURES_S
from jobs.tasks.analytics import Analytics
from jobs.tasks.batches import TIMEOUT_S
from jobs.tasks.debounce import Debounce
from jobs.tasks.exports import TIMEOUT_S as EXPORT_TIMEOUT_S
from jobs.tasks.exports import Exports
from jobs.tasks.forget import Forgetting
from jobs.tasks.mail import MailTasks
from jobs.tasks.notice_traces import NoticeTraces
from jobs.tasks.notices import Notices
from jobs.tasks.orphans import Orphans
from jobs.tasks.retention import INTERVAL_S, Retention
from jobs.tasks.retention import TIMEOUT_S as RETENTION_TIMEOUT_S
from runtime.config import Config
from runtime.metrics.replica_samples import replica_samples
from runtime.metrics.samples import Sample
from runtime.metrics.store_samples import object_samples, redis_samples
from store.objects.direct import FileStore
from store.objects.interface import Objects
from store.objects.url import open_objects
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.replicas import Replicas

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracer

BUS_PATIENCE_S: Final = 1.0
"""For the first connection to the Redis that nodes read. The worker logs that it works only after this."""

NOTICE_ATTEMPTS: Final = 12
NOTICE_BACKOFF: Final = Backoff(1, 600)
"""About an hour of attempts in total; then the job is dead, for an operator."""

MAIL_BACKOFF: Final = Backoff(10, 1800)
"""About two hours with 12 attempts: a mail server may be away for one hour, and a digest must come before the next."""


EXPORT_BACKOFF: Final = Backoff(10, 3600)
"""About three hours with 8 attempts: the object store may be away for a while."""


@asynccontextmanager
async def open_work(config: Config, pool: Pool, tracer: Tracer | None = None) -> AsyncGenerator[Work, None]:
    """All tasks and loops, with the clients that they share, until the block ends. Opening them sends no request.

    :param tracer: of the process; None if it does not trace.
    """
    bus = Redis(config.bus_url)
    mailer = Mailer(config.smtp_url, mail_from=config.mail_from, public_url=config.public_url)
    replicas = Replicas(pool, config.replica_urls, size=1, slow_s=config.slow_query_s)
    async with (
        open_notifiers(config, mailer if mailer.is_configured else None) as notifiers,
        open_objects(config.object_store_url, config.public_files_url, config.files_url) as objects,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(bus.run)
        with trio.move_on_after(BUS_PATIENCE_S):
            await bus.wait_connected()
        retention = Retention(pool, bus, objects if config.retention_archives else None, days=config.retention_days)

        def samples() -> Iterator[Sample]:
            yield Sample("alo_retention_messages_removed_total", retention.removed)
            for labels, seconds in notifiers.seconds.items():
                yield Sample("alo_notice_seconds", seconds, labels)
            for labels, seconds in mailer.seconds.items():
                yield Sample("alo_mail_seconds", seconds, labels)
            yield from object_samples(objects)
            yield from replica_samples(replicas)
            yield from redis_samples(bus, "bus")
            mails = mailer.statistics()
            yield Sample("alo_mail_conversations", mails.conversations)
            yield Sample("alo_mails_waiting", mails.waiting)

        traces = None if tracer is None else NoticeTraces(tracer, pool, bus)
        tasks = [
            *_notices(config, pool, notifiers, traces),
            *_mails(pool, mailer),
            *_clean_up(config, pool, objects),
            _account_deletions(pool, bus, objects),
            *_exports(pool, replicas, objects),
            _retention(retention),
            *_figures(pool, objects),
        ]
        debounce = Debounce(pool, window_s=config.offline_notice_after_s, read_window_s=config.read_notice_after_s)
        yield Work({task.name: task for task in tasks}, [debounce.run], samples)
        nursery.cancel_scope.cancel()
    replicas.close()


def _notices(config: Config, pool: Pool, notifiers: Notifiers, traces: NoticeTraces | None) -> list[Task]:
    notices = Notices(pool, notifiers, read_after_s=config.read_notice_after_s, pauses_s=config.notice_pauses)
    decide: Handler = notices.offline_notice
    tell: Handler = notices.notify
    if traces is not None:
        decide, tell = traces.traced(decide), traces.traced(tell)
    return [
        Task(decide, attempts=NOTICE_ATTEMPTS, backoff=NOTICE_BACKOFF, timeout_s=30),
        # A mail may take 40 s.
        Task(tell, attempts=NOTICE_ATTEMPTS, backoff=NOTICE_BACKOFF, timeout_s=60),
    ]


def _mails(pool: Pool, mailer: Mailer) -> list[Task]:
    mails = MailTasks(pool, mailer)
    return [
        Task(mails.verify_email, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.new_device, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.token_reused, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        # Its link is good for an hour.
        Task(mails.password_reset, attempts=8, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.password_changed, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.export_ready, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.account_closed, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.digest, attempts=12, backoff=MAIL_BACKOFF, timeout_s=60),
        Task(mails.digests, attempts=1, timeout_s=300, concurrency=1, schedule=Every(300)),
    ]


def _clean_up(config: Config, pool: Pool, objects: FileStore | None) -> list[Task]:
    """A missed run does no harm: the next run does its work."""
    forgetting, orphans = Forgetting(pool, events_days=config.security_events_days), Orphans(pool, objects)
    return [
        Task(forgetting.forget, attempts=1, schedule=Every(60), timeout_s=TIMEOUT_S, concurrency=1),
        Task(forgetting.expired_tokens, attempts=3, schedule=Cron("15 3 * * *"), timeout_s=TIMEOUT_S, concurrency=1),
        Task(forgetting.old_security_events, attempts=3, schedule=Every(3600), timeout_s=TIMEOUT_S, concurrency=1),
        Task(orphans.orphaned_attachments, attempts=3, schedule=Every(600), timeout_s=TIMEOUT_S, concurrency=1),
        Task(orphans.orphaned_objects, attempts=5, schedule=Cron("45 3 * * *"), timeout_s=TIMEOUT_S, concurrency=1),
        Task(orphans.abandoned_multiparts, attempts=5, schedule=Cron("15 4 * * *"), timeout_s=TIMEOUT_S, concurrency=1),
    ]


def _figures(pool: Pool, objects: Objects | None) -> list[Task]:
    figures = Analytics(pool, objects)
    return [
        Task(figures.analytics, attempts=3, schedule=Every(FIGURES_S), timeout_s=300, concurrency=1),
        Task(figures.recount, attempts=3, timeout_s=300),
    ]


def _account_deletions(pool: Pool, bus: Redis, objects: Objects | None) -> Task:
    deletions = AccountDeletions(pool, bus, objects)
    return Task(
        deletions.delete_accounts,
        attempts=5,
        backoff=Backoff(1, DELETIONS_S),
        schedule=Every(DELETIONS_S),
        timeout_s=TIMEOUT_S,
        concurrency=1,
    )


def _exports(pool: Pool, replicas: Replicas, objects: Objects | None) -> list[Task]:
    made = Exports(pool, replicas, objects)
    return [
        # One at a time: each reads all that a user has ever got.
        Task(made.export, attempts=8, backoff=EXPORT_BACKOFF, timeout_s=EXPORT_TIMEOUT_S, concurrency=1),
        Task(made.old_exports, attempts=3, schedule=Every(3600), timeout_s=TIMEOUT_S, concurrency=1),
    ]


def _retention(retention: Retention) -> Task:
    return Task(
        retention.retention,
        attempts=5,
        backoff=Backoff(1, INTERVAL_S),
        schedule=Every(INTERVAL_S),
        timeout_s=RETENTION_TIMEOUT_S,
        concurrency=1,
    )
