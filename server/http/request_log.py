"""One line in the log for each request: its route, its answer, and how long it took.

The line names the rule of the route and never the path, which may have the token of a mail; no query, no address, no
user. Its ids are those of the request (`runtime.log_context`).
"""

from __future__ import annotations

from typing import Final

import structlog

from runtime.line_sample import LineSample
from server.http.http_counts import CLASSES

log = structlog.get_logger(__name__)

NO_ROUTE: Final = "none"
"""The route of a request that comes to none."""

_PROBES: Final = frozenset(("GET /healthz", "GET /readyz"))
"""Load balancers ask every few seconds: these lines are for `debug`."""

GONE: Final = "gone"
"""The outcome of a request whose client left before the answer, or that the process broke off."""


class RequestLog:
    """The lines of one process.

    :param lines: of `request_answered`.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: LineSample) -> None:
        self._lines = lines

    async def run(self) -> None:
        """Until cancelled."""
        await self._lines.run()

    def answered(self, route: str, status: int, seconds: float | None = None, body_bytes: int = 0) -> None:
        """Log an answer. Atomic (no checkpoint).

        :param route: the rule.
        :param seconds: from the head to the answer; None for a request that is refused at once.
        :param body_bytes: of the answer, as they go out.
        """
        if route in _PROBES:
            log.debug("request_answered", route=route, status=status)
        elif self._lines.has_room(CLASSES[status]):
            timed = {} if seconds is None else {"ms": _ms(seconds)}
            log.info("request_answered", route=route, status=status, bytes=body_bytes, **timed)

    def gone(self, route: str, seconds: float) -> None:
        """Log a request without an answer. Atomic (no checkpoint)."""
        if self._lines.has_room(GONE):
            log.info("request_gone", route=route, ms=_ms(seconds))


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
