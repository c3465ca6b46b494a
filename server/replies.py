"""Error replies: what a client is told when a request is refused."""

from __future__ import annotations

from typing import Final

from protocol.codes import ErrorCode
from protocol.frames import Error
from store.errors import Overloaded, StoreError, Unavailable

RETRY_AFTER_MS: Final = 500
"""What a client is told to wait before it repeats a refused request."""


def error_reply(request: int, code: ErrorCode, detail: str) -> Error:
    """An error reply as the table of codes has it."""
    return Error(request, code.value, detail or code.info.meaning, RETRY_AFTER_MS if code.info.retry else None)


def store_error_reply(request: int, error: StoreError) -> Error:
    """What a client is told of an error of the store: enough to act on, nothing of the inside."""
    code = ErrorCode.INTERNAL
    match error:
        case Unavailable():
            code = ErrorCode.UNAVAILABLE
        case Overloaded():
            code = ErrorCode.OVERLOADED
    return error_reply(request, code, "")
