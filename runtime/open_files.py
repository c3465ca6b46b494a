"""The limit of open files. Each connection is an open file of the process."""

from __future__ import annotations

import errno
import logging
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger(__name__)

EVERY_S: Final = 60.0
"""How often to log that connections cannot be accepted. The listener tries ten times a second."""

HINT: Final = "all files that this process or machine may open are open: raise LimitNOFILE, ulimit -n, or fs.file-max"

OTHER_FILES: Final = 64
"""Files of a process besides the connections of clients. It needs some 30; a larger pool of Postgres needs more."""

MACOS_MOST: Final = 10_240
"""OPEN_MAX, the most that macOS allows even if its hard limit is infinite."""


def raise_limit() -> None:
    """Let this process open as many files as its hard limit allows. The usual soft limit suits small programs only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, max(soft, MACOS_MOST)):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


def room_for_connections() -> int:
    """How many connections of clients leave the process enough files for Postgres, Redis and its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(OTHER_FILES, limit // 2)


class AcceptFailures:
    """Logs at most every `EVERY_S` that connections cannot be accepted, with the number of failures.

    :param now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said_at = -EVERY_S
        self._times = 0

    def note(self, error: OSError) -> None:
        """Count a failure, and log it if the time has come."""
        self._times += 1
        if self._now() - self._said_at < EVERY_S:
            return
        hint = {"hint": HINT} if error.errno in (errno.EMFILE, errno.ENFILE) else {}
        log.error("accept_failed", error=str(error), times=self._times, **hint)
        self._said_at = self._now()
        self._times = 0


class TrioAcceptFailures(logging.Filter):
    """Replaces Trio's own log of such failures, a traceback ten times a second (`web`, the port for metrics)."""

    LOGGER = "trio.serve_listeners"

    def __init__(self) -> None:
        super().__init__()
        self._failures = AcceptFailures()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a failure to accept, which is counted and dropped."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, OSError):
            return True
        self._failures.note(error)
        return False
