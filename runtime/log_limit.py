"""A fault that lasts is logged once a minute, and how often it came; not as often as it is met.

What is tried again and again (a lease while Redis is full, a read while Postgres is gone) fails several times a second
for as long as the outage lasts, in each process. The same line is written once in `INTERVAL_S`; of one event at most
`MAX_LINES` that differ, as when thousands of requests are refused. The next line of the event says in `suppressed` how
many were left out since the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TypeAlias

import structlog

INTERVAL_S: Final = 60.0

MAX_LINES: Final = 10
"""Of one event in `INTERVAL_S`: enough to see what its lines have in common, 5 MB a day at most."""

MAX_EVENTS: Final = 1000
"""Names of events are constants of ours; if they are not, the oldest are forgotten."""

_LIMITED: Final = {"warning", "error"}
_VARYING: Final = {"event", "level", "timestamp", "retry_in_s"}

EventDict: TypeAlias = MutableMapping[str, Any]


class _Event:
    __slots__ = ("began", "suppressed", "written")

    def __init__(self, began: float) -> None:
        self.began = began
        self.written: set[str] = set()
        self.suppressed = 0


class LogLimit:
    """A processor of structlog, to stand before those that render.

    :param now: seconds, of a clock that does not go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._events: dict[str, _Event] = {}

    def __call__(self, logger: Any, method: str, line: EventDict) -> EventDict:
        """The line; with `suppressed` if some were left out before it.

        :raises structlog.DropEvent: if it is to be left out itself.
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
