"""The clock of an S3-compatible service, as the dates of its answers tell it.

A service refuses a signature whose date is 15 minutes off, and lets a presigned request end by its own clock. So all
signatures have the service's time, also where this machine's clock is wrong.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

log = structlog.get_logger(__name__)

SUSPICIOUS_S: Final = 30.0
"""The clock warns when this machine's is off by more. Dates of answers have whole seconds, and answers take time."""


class ServiceClock:
    """The time by a service; before the first answer, by this machine.

    :param where: host and bucket, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._ahead_s: float | None = None
        self._is_suspicious = False

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() if self._ahead_s is None else time.monotonic() + self._ahead_s

    def measure(self, date: str) -> None:
        """Take the time from an answer that begins now. A date that cannot be read changes nothing.

        :param date: its header `date`.
        """
        try:
            # Half a second, since a date has whole seconds.
            told = parsedate_to_datetime(date).timestamp() + 0.5
        except ValueError:
            return
        here = time.time()
        self._ahead_s = told - time.monotonic()
        was_suspicious, self._is_suspicious = self._is_suspicious, abs(told - here) > SUSPICIOUS_S
        if self._is_suspicious and not was_suspicious:
            log.warning("object_store_clock_differs", where=self._where, here=_text(here), there=_text(told))


def amz_date(seconds: float) -> str:
    """A time as signatures have it, such as 20130524T000000Z."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
