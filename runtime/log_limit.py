"""Logs a lasting fault once a minute, with the number of its repetitions.

During an outage, each process repeats the same failing work several times a second, such as a lease while Redis is full
or a read while Postgres is gone. The same line is written once in `INTERVAL_S`, and at most `MAX_LINES` different lines
of one event, such as when thousands of requests are refused. The next line of the event says in `suppressed` how many
lines were left out since the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TypeAlias

import structlog

INTERVAL_S: Final = 60.0

MAX_LINES: Final = 10
"""Different lines of one event in `INTERVAL_S`: enough to compare them, at most 5 MB a day."""

MAX_EVENTS: Final = 1000
"""Events that are remembered. Their names are constants of ours; should they not be, the oldest are dropped."""

_LIMITED: Final = {"warning", "error"}
_VARYING: Final = frozenset(
    (
        *("event", "level", "timestamp", "request_id", "trace_id", "connection"),
        *("retry_in_s", "seconds", "waited_s", "held_s"),
    )
)

EventDict: TypeAlias = MutableMapping[str, Any]


class _Event:
    __slots__ = ("began", "suppressed", "written")

    def __init__(self, began: float) -> None:
        self.began = began
        self.written: set[str] = set()
        self.suppressed = 0


class LogLimit:
    """A structlog processor, to be placed before the renderer.

    :param now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._events: dict[str, _Event] = {}

    def __call__(self, logger: Any, method: str, line: EventDict) -> EventDict:
        """The line; with `suppressed` if lines before it were left out.

        :raises structlog.DropEvent: if this line is left out.
        """
        if method not in _LIMITED:
            return line
        event, now = self._event(str(line.get("event")), str(line.get("level"))), self._now()
        if now - event.began >= INTERVAL_S:
            event.began = now
            event.written.clear()
        what = repr([(key, value) for key, value in line.items() if key not in _VARYING])
        if what in event.written or len(event.written) >= MAX_LINES:
            event.suppressed += 1
            raise structlog.DropEvent
        event.written.add(what)
        if event.suppressed:
            line["suppressed"], event.suppressed = event.suppressed, 0
        return line

    def _event(self, name: str, level: str) -> _Event:
        key = f"{level} {name}"
        found = self._events.get(key)
        if found is None:
            if len(self._events) >= MAX_EVENTS:
                del self._events[next(iter(self._events))]
            found = self._events[key] = _Event(self._now())
        return found
