"""A run of a job as its handler sees it, and the errors that a handler may raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

MAX_PROGRESS: Final = 200
"""Characters of a progress report."""


class GiveUp(Exception):
    """Raised by a handler: no attempt can succeed. The job becomes a dead job, with this reason."""


class Snooze(Exception):
    """Raised by a handler: nothing is wrong, but it is too early. The job runs again after `delay_s`; this run does not
    count as an attempt."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s:g} s")
        self.delay_s = delay_s


class Job:
    """The first argument of each handler. A job may run more than once, even on two workers at the same time, so a
    handler must tolerate repetition; `id` identifies the job.

    :ivar id: of the job; the same at each attempt.
    :ivar task: name of the task.
    :ivar version: grows when more is enqueued under the job's key; the job then runs again, with the same id.
    :ivar attempt: 1 for the first run, then 2 and so on; runs whose worker died count.
    """

    __slots__ = ("_report", "attempt", "id", "task", "version")

    def __init__(
        self, id: str, task: str, attempt: int, report: Callable[[str], Awaitable[None]], version: int = 1
    ) -> None:
        self.id = id
        self.task = task
        self.attempt = attempt
        self.version = version
        self._report = report

    async def report(self, progress: str) -> None:
        """Report progress, such as "3 of 12". Redis keeps the report for a while (`Queue.state`). Never fails the job.

        :param progress: cut off after `MAX_PROGRESS` characters.
        """
        await self._report(progress[:MAX_PROGRESS])
