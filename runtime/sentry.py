"""Reports each error that the log has to Sentry: where it happened, and nothing of the data that it happened to.

A report is made of the log line: its event, the types of the exceptions, the places in the code, and the ids of `TAGS`.
It has no text of an exception (a library may put a value into it: that stays in the log of the deployment, redacted),
no local variables, no lines of code, no address and no path of a request. The parts of sentry-sdk that watch the
standard library, asyncio or web frameworks are not installed; its thread sends the reports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
import structlog
from sentry_sdk.scope import Scope
from sentry_sdk.utils import event_from_exception

from runtime.log_limit import LogLimit
from runtime.redaction import redacted

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

CLOSE_S: Final = 1.0
"""For the last reports. A process that is told to stop has 25 s; its other waits take up to 23 s."""

TAGS: Final = (
    *("process", "node", "writer", "worker", "connection", "request_id", "trace_id", "route"),
    *("job", "task", "attempt", "conversation", "user", "device", "seq"),
)
"""Fields of a log line that a report has: ids, names and rules of ours."""

_ERRORS: Final = frozenset(("error", "exception", "critical"))


class SentryReports:
    """The reports of one process. As a processor of structlog it reports the errors among the lines."""

    def __init__(self, dsn: str, process: str) -> None:
        self._process = process
        # A lasting fault is reported once a minute, as it is logged.
        self._limit = LogLimit()
        self._client = sentry_sdk.Client(
            dsn=dsn,
            # Otherwise it asks git for the release, and the system for the name of the machine.
            release=os.environ.get("SENTRY_RELEASE") or "alo-shield-server",
            server_name=f"alo-{process}",
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            shutdown_timeout=CLOSE_S,
        )

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        """Report the line if it is an error; the line itself is unchanged. Never blocks, never raises."""
        if method in _ERRORS:
            self._report(line, _exception_of(line.get("exc_info")))
        return line

    def died(self, error: BaseException) -> None:
        """The process ends by this error."""
        self._report({"event": "process_died", "process": self._process}, error)

    def close(self) -> None:
        """Send the last reports, for at most `CLOSE_S`."""
        self._client.close(timeout=CLOSE_S)

    def _report(self, line: EventDict, error: BaseException | None) -> None:
        event = str(line.get("event"))
        kinds = [] if error is None else [type(each).__name__ for each in _chain(error)]
        try:
            limited = self._limit(None, "error", {"event": event, "level": "error", "kinds": kinds})
        except structlog.DropEvent:
            return
        report: dict[str, Any] = {"level": "error", "logger": event, "message": event}
        if error is not None:
            found, _ = event_from_exception(error, client_options=self._client.options)
            report["exception"] = {"values": [_bare(each) for each in found["exception"]["values"]]}
        tags = {name: redacted(str(line[name])) for name in TAGS if line.get(name) is not None}
        report["tags"] = {**tags, "event": event}
        if "suppressed" in limited:
            report["extra"] = {"suppressed": limited["suppressed"]}
        self._client.capture_event(report, scope=Scope())  # type: ignore[arg-type]  # a dict that it makes into an Event


def _exception_of(given: Any) -> BaseException | None:
    """The exception of a line: itself, a triple as of `sys.exc_info`, or true for the one that is being handled."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes; of a group its parts, too."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _chain(each)
    if error.__cause__ is not None:
        yield from _chain(error.__cause__)


def _bare(found: dict[str, Any]) -> dict[str, Any]:
    """An exception as Sentry describes it, without its text."""
    frames = found.get("stacktrace", {}).get("frames", [])
    places = ("filename", "function", "lineno", "module", "in_app")
    bare = [{name: frame[name] for name in places if name in frame} for frame in frames]
    return {"type": found.get("type"), "module": found.get("module"), "value": "", "stacktrace": {"frames": bare}}
