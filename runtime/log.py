"""Structured logs on stderr, since stdout is for results: text for people on a terminal, otherwise JSON lines."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import structlog

from runtime.log_context import add_request
from runtime.log_limit import LogLimit
from runtime.open_files import TrioAcceptFailures

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


def configure_logging(process: str, level: str, format: str = "") -> None:
    """Call this once, at the start of a process.

    :param process: "web", "socket", "worker" or "release"; part of every line, unless a runner puts it before the
        lines.
    :param level: "debug", "info", "warning" or "error".
    :param format: "json" or "console"; empty: "console" on a terminal, else "json".
    """
    numeric = getattr(logging, level.upper())
    is_terminal = sys.stderr.isatty()
    is_for_people = (format or ("console" if is_terminal else "json")) == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_request,
            structlog.processors.add_log_level,
            *(_for_people(is_terminal) if is_for_people else _for_programs()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    # Libraries log through the standard library; only their warnings and errors pass.
    logging.basicConfig(stream=sys.stderr, level=max(numeric, logging.WARNING))
    logging.getLogger(TrioAcceptFailures.LOGGER).addFilter(TrioAcceptFailures())


def _for_programs() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        LogLimit(),
        structlog.processors.JSONRenderer(),
    ]


def _for_people(is_terminal: bool) -> list[Processor]:
    """Without a terminal, a runner collects lines of several processes, and puts the time and the process before
    each."""
    before: Processor = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False) if is_terminal else _without_process
    renderer = structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )
    return [before, LogLimit(), renderer]


def _without_process(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.pop("process", None)
    return event
