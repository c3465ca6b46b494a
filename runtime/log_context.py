"""The request or the connection that a task serves, named in each line that it logs."""

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

    def in_line(self) -> dict[str, object]:
        """The fields of a log line."""
        named: dict[str, object] = {"request_id": self.request_id}
        return named if self.trace_id is None else {**named, "trace_id": self.trace_id}


class ConnectionName(NamedTuple):
    """The name of one WebSocket.

    :ivar connection: its number on its node, whose id is in each line, too.
    """

    connection: int

    def in_line(self) -> dict[str, object]:
        """The fields of a log line."""
        return {"connection": self.connection}


SERVED: Final[ContextVar[RequestNames | ConnectionName | None]] = ContextVar("SERVED", default=None)
"""The request or connection that this task serves. A task inherits it from the task that starts it, as Trio copies the
context.

structlog has variables of context, too: to bind and release one of them takes as long as all the rest of a short read.
"""


def add_served(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """A processor of structlog."""
    served = SERVED.get()
    return line if served is None else {**served.in_line(), **line}
