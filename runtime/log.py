"""Structured logs on stderr, since stdout is for results: text for people on a terminal, otherwise JSON lines."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from io import StringIO
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import structlog

from runtime.log_context import add_served
from runtime.log_limit import LogLimit
from runtime.open_files import TrioAcceptFailures
from runtime.redaction import redact, redacted

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger


def configure_logging(process: str, level: str, format: str = "", report: Processor | None = None) -> None:
    """Call this once, at the start of a process.

    :param process: "web", "socket", "worker" or "release"; part of every line, unless a runner puts it before the
        lines.
    :param level: "debug", "info", "warning" or "error".
    :param format: "json" or "console"; empty: "console" on a terminal, else "json".
    :param report: sees each line, with the exception itself; for reports of errors.
    """
    numeric = getattr(logging, level.upper())
    is_terminal = sys.stderr.isatty()
    is_for_people = (format or ("console" if is_terminal else "json")) == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_served,
            structlog.processors.add_log_level,
            *([] if report is None else [report]),
            *(_for_people(is_terminal) if is_for_people else _for_programs()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    # Libraries log through the standard library; only their warnings and errors pass.
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RepeatedRecords())
    handler.setFormatter(_RedactingFormatter(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING))
    sys.excepthook = _write_last_error
    logging.getLogger(TrioAcceptFailures.LOGGER).addFilter(TrioAcceptFailures())


def _for_programs() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        LogLimit(),
        structlog.processors.JSONRenderer(),
    ]


def _for_people(is_terminal: bool) -> list[Processor]:
    """Without a terminal, a runner collects lines of several processes, and puts the time and the process before
    each."""
    before: Processor = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False) if is_terminal else _without_process
    renderer = structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ, exception_formatter=_write_traceback)
    return [before, redact, LogLimit(), renderer]


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    file.write(redacted(text.getvalue()))


def _write_last_error(type_: type[BaseException], error: BaseException, traceback_: TracebackType | None) -> None:
    """Write the error that ends the process."""
    sys.stderr.write(redacted("".join(traceback.format_exception(type_, error, traceback_))))


class _RepeatedRecords(logging.Filter):
    """Limits the lines of libraries as `LogLimit` limits ours: an exporter of traces tries again every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        method = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            line = self._limit(None, method, {"event": record.name, "level": method, "text": record.msg})
        except structlog.DropEvent:
            return False
        if suppressed := line.get("suppressed"):
            record.msg = f"{record.msg} ({suppressed} lines like this one were left out)"
        return True


class _RedactingFormatter(logging.Formatter):
    """For the lines of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def _without_process(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.pop("process", None)
    return event
