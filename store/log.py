"""Structured logs: one JSON object per line on stderr, so that stdout stays free for results."""

from __future__ import annotations

import logging
import sys

import structlog

from store.log_limit import LogLimit


def configure_logging(process: str, level: str) -> None:
    """Call once, first thing in a process.

    :param process: "web", "socket", "worker" or "release"; part of every line.
    :param level: "debug", "info", "warning" or "error".
    """
    numeric = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            LogLimit(),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    # Libraries log through the standard library; only what needs somebody's attention is let through.
    logging.basicConfig(stream=sys.stderr, level=max(numeric, logging.WARNING))
