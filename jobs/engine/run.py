"""One run of a job, from its payload to its ending."""

from __future__ import annotations

import traceback
from typing import Any, Final

import msgspec
import trio

from jobs.engine.job import GiveUp, Job, Snooze
from jobs.engine.streams import JobEntry
from jobs.engine.task import BadPayload, Task
from runtime.redaction import redacted
from store.jobs import Ending

MAX_REASON: Final = 500
MAX_TRACEBACK: Final = 20_000
"""Characters kept of a reason and of a traceback. A traceback keeps its end, which names the place."""

MAX_DELAY_S: Final = 366 * 86_400.0
"""The longest delay of a job. A handler may ask for infinity, which Postgres and Redis cannot store."""

DONE: Final = Ending("done")
CANCELLED: Final = Ending("cancelled")
PUT_BACK: Final = Ending("snoozed")
"""The worker stops, or the job waited on it for too long: another worker may begin it at once, and this run does not
count."""


class Run:
    """A job that runs on this worker, or that has ended and is not settled yet.

    :ivar payload: its arguments.
    :ivar attempt: number of this run.
    :ivar version: of a durable job; see `store.jobs.Claimed`.
    :ivar ending: how it ended; None while it runs, and if another worker settles the job.
    :ivar stop_reason: why it is being stopped: "cancelled", "lost" (another worker has it) or "stopped" (it goes
        back, for any worker); empty while it is not.
    """

    __slots__ = ("attempt", "ending", "entry", "id", "payload", "result", "scope", "stop_reason", "task", "version")

    def __init__(self, task: Task, entry: JobEntry, payload: bytes, attempt: int, version: int = 0) -> None:
        self.task = task
        self.entry = entry
        self.payload = payload
        self.attempt = attempt
        self.version = version
        self.id = entry.job if entry.durable is None else str(entry.durable)
        self.scope: trio.CancelScope | None = None
        self.ending: Ending | None = None
        self.stop_reason = ""
        self.result: bytes = b""

    def stop(self, reason: str) -> None:
        """Cancel the run. Atomic (no checkpoint)."""
        if not self.stop_reason:
            self.stop_reason = reason
            if self.scope is not None:
                self.scope.cancel()

    async def run(self, job: Job) -> None:
        """Run the handler and note the ending; never raises the handler's errors."""
        self.ending = await self._run(job)

    async def _run(self, job: Job) -> Ending | None:
        if not self.stop_reason and self.attempt > self.task.attempts:
            return self._lost_too_often()
        ending = await self._attempt(job) if not self.stop_reason else None
        # An error that the handler raises while it is being stopped is not a failure of the job.
        if not self.stop_reason or ending is DONE:
            return ending
        return {"cancelled": CANCELLED, "stopped": PUT_BACK}.get(self.stop_reason)

    def _lost_too_often(self) -> Ending:
        reason = f"the worker died, or was cut off, in the last attempt ({self.attempt - 1})"
        return Ending("lost", reason=reason)

    async def _attempt(self, job: Job) -> Ending:
        try:
            # One scope for both stopping and the timeout. Errors that the handler raises on its way out are its own.
            with trio.move_on_after(self.task.timeout_s) as self.scope:
                self._keep(await self.task.call(job, self.payload))
                return DONE
        except Snooze as snooze:
            return Ending("snoozed", delay_s=_bounded(snooze.delay_s))
        except BadPayload as error:
            return Ending("dead", reason=_text(str(error), MAX_REASON))
        except GiveUp as error:
            return Ending("dead", reason=_text(str(error), MAX_REASON), traceback=_traceback(error))
        except Exception as error:  # noqa: BLE001  (any error of a handler is recorded, and the job runs again)
            return self._failed(_one_line(error), _traceback(error))
        return self._failed(f"not done within {self.task.timeout_s:g} s", None)

    def _keep(self, result: Any) -> None:
        if self.task.keep_result_s and result is not None:
            self.result = msgspec.json.encode(result)

    def _failed(self, reason: str, traceback_: str | None) -> Ending:
        reason = _text(reason, MAX_REASON)
        if self.attempt >= self.task.attempts:
            return Ending("dead", reason=reason, traceback=traceback_)
        return Ending("retry", _bounded(self.task.backoff.delay_s(self.attempt)), reason, traceback_)


def _bounded(delay_s: float) -> float:
    return min(max(0.0, delay_s), MAX_DELAY_S)


def _one_line(error: Exception) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  (the handler defines the error and its text)
        text = "(its text cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _traceback(error: Exception) -> str:
    return _text("".join(traceback.format_exception(error))[-MAX_TRACEBACK:], MAX_TRACEBACK)


def _text(text: str, most: int) -> str:
    """In a form that Postgres stores, without NUL and lone surrogates, and that operators may read, without secrets."""
    return redacted(text)[:most].replace("\0", "\\0").encode(errors="backslashreplace").decode()
