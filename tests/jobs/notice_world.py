"""The tasks of notices without a worker: jobs run one after the other, on a real Postgres, and tests move the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from client.http import Credentials
from jobs.engine.job import GiveUp, Snooze
from jobs.engine.task import Task
from jobs.notifiers.configured import Notifiers
from jobs.notifiers.email import Email
from jobs.notifiers.notifier import Notice, NotifyError
from jobs.tasks.notices import Notices
from runtime.config import Config
from store import notifiers as store
from store import outbox
from store.notifiers import Target, WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours
from tests.jobs.jobs_world import a_job

WINDOW_S, READ_AFTER_S = Config().offline_notice_after_s, Config().read_notice_after_s
PAUSES_S = Config().notice_pauses

_CLOCKS = {
    "messages": ("created",),
    "conversations": ("active_at",),
    "outbox": ("created",),
    "read_windows": ("created",),
    "notices": ("told", "look"),
    "jobs": ("due",),
}


class RecordingNotifier:
    """A notifier for all kinds, which follows its script.

    :ivar told: places and notices, in order; `withdrawn`: places and withdrawals.
    :ivar faults: by place, the next errors.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, Notice]] = []
        self.withdrawn: list[tuple[str, Notice]] = []
        self.faults: dict[str, list[Exception]] = {}

    @property
    def places(self) -> list[str]:
        return sorted(place for place, _ in self.told)

    async def notify(self, target: Target, notice: Notice) -> None:
        if self.faults.get(target.place):
            raise self.faults[target.place].pop(0)
        (self.withdrawn if notice.is_withdrawn else self.told).append((target.place, notice))


class RecordingMailer:
    """A mailer that follows its script.

    :param faults: what the first calls raise, the last of these first.
    :ivar sent: to, template, key and values of each mail.
    """

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.sent: list[tuple[str, str, str, dict[str, str]]] = []

    async def send(self, to: str, template: str, *, key: str = "", **values: str) -> None:
        if self.faults:
            raise self.faults.pop()
        self.sent.append((to, template, key, values))


class NoticeWorld:
    """The tasks, and a minimal worker, which runs the jobs of this test one after the other."""

    def __init__(self, pool: Pool, *, deployment: str = "", recorder: RecordingNotifier | None = None) -> None:
        self.pool = pool
        self.recorder = recorder or RecordingNotifier()
        self.mailer = RecordingMailer()
        kinds: dict[str, Any] = dict.fromkeys(("webhook", "web_push", "apns", "fcm"), self.recorder)
        kinds["email"] = Email(self.mailer)
        own: Any = (self.recorder, WebhookTarget(deployment)) if deployment else None
        self.notices = Notices(pool, Notifiers(kinds, own), read_after_s=READ_AFTER_S, pauses_s=PAUSES_S)
        self.tasks = {task.name: task for task in map(Task, (self.notices.offline_notice, self.notices.notify))}

    async def end_window(self, user: Credentials) -> None:
        """Enqueue the job that the end of a window enqueues for a recipient with undelivered messages."""
        await self.pool.fetch(
            "select enqueue('offline_notice', jsonb_build_object('user', %(user)s::uuid), %(user)s::uuid::text)",
            {"user": uuid(user.user)},
        )

    async def run_due(self) -> list[tuple[str, Any]]:
        """Run the due jobs, and those that become due by that; (task, outcome) of each run."""
        outcomes: list[tuple[str, Any]] = []
        due = "select id, task, payload::text, version from jobs where due <= clock_timestamp() order by id limit 1"
        while rows := await self.pool.fetch(due):
            [(id_, name, payload, version)] = rows
            outcome: Any = "done"
            delay_s: float | None = None
            try:
                await self.tasks[name].call(a_job(name, id=str(id_)), payload.encode())
            except Snooze as snooze:
                outcome, delay_s = snooze, snooze.delay_s
            except GiveUp as reason:
                outcome = reason
            except NotifyError as error:
                outcome, delay_s = error, 60.0
            await self._settle(id_, version, delay_s, failed=isinstance(outcome, NotifyError))
            outcomes.append((name, outcome))
        return outcomes

    async def notice(self, user: Credentials) -> None:
        """End a window, and run the jobs that follow at once."""
        await self.end_window(user)
        await self.run_due()

    async def look(self) -> list[tuple[str, Any]]:
        """Do the work of a worker's loops once, and run the jobs that follow."""
        while (await outbox.decide(self.pool, window_s=WINDOW_S))[0]:
            pass
        while (await outbox.end_read_windows(self.pool, window_s=READ_AFTER_S))[0]:
            pass
        outcomes = await self.run_due()
        await store.enqueue_withdrawals(self.pool, limit=100)
        return outcomes + await self.run_due()

    async def later(self, seconds: float) -> None:
        """Move the time forward: all events lie further in the past. Then do the work of the loops."""
        for table, columns in _CLOCKS.items():
            moved = ", ".join(f"{each} = {each} - make_interval(secs => %(seconds)s)" for each in columns)
            await self.pool.fetch(f"update {table} set {moved}", {"seconds": float(seconds)})
        await self.look()

    async def _settle(self, id_: int, version: int, delay_s: float | None, *, failed: bool) -> None:
        if delay_s is None:
            await self.pool.fetch("delete from jobs where id = %s and version = %s", (id_, version))
        else:
            due = (
                "update jobs set due = clock_timestamp() + make_interval(secs => %s), attempt = attempt + %s::int"
                " where id = %s"
            )
            await self.pool.fetch(due, (delay_s, int(failed), id_))

    async def hurry(self) -> None:
        """Make delayed jobs due."""
        await self.pool.fetch("update jobs set due = clock_timestamp()")

    async def waiting(self) -> list[tuple[str, float]]:
        """(task, seconds until it is due) of the jobs there are."""
        return await self.pool.fetch(
            "select task, extract(epoch from due - clock_timestamp())::float8 from jobs order by task, key"
        )


def night_now(*, lasts: int) -> QuietHours:
    """Quiet hours that have begun, and last this many minutes, including the present one."""
    now = datetime.now(UTC)
    minute = now.hour * 60 + now.minute
    return QuietHours((minute - 1) % 1440, (minute + lasts) % 1440, "UTC")
