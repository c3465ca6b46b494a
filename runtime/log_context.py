"""The request that a task serves, named in each line that it logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger


class RequestNames(NamedTuple):
    """Names of one request.

    :ivar request_id: from the client or a proxy, or made by this process.
    :ivar trace_id: of the trace that the request belongs to (W3C Trace Context); None if it belongs to none.
    """

    request_id: str
    trace_id: str | None = None

    def in_line(self) -> dict[str, str]:
        """The fields of a log line."""
        named = {"request_id": self.request_id}
        return named if self.trace_id is None else {**named, "trace_id": self.trace_id}


SERVED: Final[ContextVar[RequestNames | None]] = ContextVar("SERVED", default=None)
"""The request that this task serves. A task inherits it from the task that starts it, as Trio copies the context.

structlog has variables of context, too: to bind and release one of them takes as long as all the rest of a short read.
"""


def add_request(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """A processor of structlog."""
    served = SERVED.get()
    return line if served is None else {**served.in_line(), **line}
