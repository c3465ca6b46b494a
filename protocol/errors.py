"""The two kinds of errors of the protocol: the peer's, and our own."""

from __future__ import annotations

from protocol.codes import CloseCode, ErrorCode
from protocol.limits import Limit


class ProtocolError(Exception):
    """Base of both; never raised itself."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol so that nothing further can be read from this connection.

    :ivar close_code: the code to close the connection with.
    :ivar detail: one sentence for the peer's developer.
    """

    def __init__(self, close_code: CloseCode, detail: str) -> None:
        super().__init__(f"{close_code.name.lower()}: {detail}")
        self.close_code = close_code
        self.detail = detail


class RequestError(ProtocolError):
    """The peer's request cannot be served, but the connection goes on: answer with an error reply.

    :ivar request: number of the request to answer.
    :ivar code: the code of the answer.
    :ivar detail: one sentence for the peer's developer.
    :ivar limit: the limit that it met, if it was one.
    :ivar retry_after_ms: the time after which the client may repeat it, if that is known better than by the code.
    """

    def __init__(
        self,
        request: int,
        code: ErrorCode,
        detail: str,
        *,
        limit: Limit | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.request = request
        self.code = code
        self.detail = detail
        self.limit = limit
        self.retry_after_ms = retry_after_ms


class LocalProtocolError(ProtocolError):
    """This side is about to break the protocol: a bug, caught before it reaches the wire."""
