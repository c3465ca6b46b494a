"""Open files: a connection is one, and a process may have so many."""

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
"""How often it is said that no connection can be accepted: each tenth of a second one is tried."""

HINT: Final = "all files that this process or machine may open are open: raise LimitNOFILE, ulimit -n, or fs.file-max"

MACOS_MOST: Final = 10_240
"""OPEN_MAX, beyond which macOS allows nothing although its hard limit is none."""


def raise_limit() -> None:
    """Let this process open as many files as its hard limit allows; the soft one is made for programs of few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, max(soft, MACOS_MOST)):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return


class AcceptFailures:
    """Says at most every `EVERY_S` that connections cannot be accepted, and how often that was so.

    :param now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said_at = -EVERY_S
        self._times = 0

    def note(self, error: OSError) -> None:
        """One more."""
        self._times += 1
        if self._now() - self._said_at < EVERY_S:
            return
        hint = {"hint": HINT} if error.errno in (errno.EMFILE, errno.ENFILE) else {}
        log.error("accept_failed", error=str(error), times=self._times, **hint)
        self._said_at = self._now()
        self._times = 0


class TrioAcceptFailures(logging.Filter):
    """Takes the place of Trio's own complaint, a traceback ten times a second (`web`, the port for metrics)."""

    LOGGER = "trio.serve_listeners"

    def __init__(self) -> None:
        super().__init__()
        self._failures = AcceptFailures()

    def filter(self, record: logging.LogRecord) -> bool:
        """False: the record has been seen to."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, OSError):
            return True
        self._failures.note(error)
        return False
