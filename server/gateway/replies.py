"""Error replies: the server's answers to requests that it refuses."""

from __future__ import annotations

from typing import Any, Final

import structlog
from msgspec.structs import replace

from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import Error
from protocol.limits import ENVELOPE_PARTS_PER_MESSAGE
from store.errors import (
    AccountSuspended,
    AttachmentIncomplete,
    AttachmentUsed,
    ControlConflict,
    DeviceRevoked,
    ExpiredCursor,
    ForeignCursor,
    ForeignKeyHistory,
    Locked,
    MessageDeleted,
    NoObjectStore,
    NotAParticipant,
    NotTheSender,
    Overloaded,
    RecipientDeleted,
    RevisionConflict,
    StaleDevices,
    StoreError,
    TempIdConflict,
    TempIdExpired,
    TokenExpired,
    TokenRenewed,
    TokenReused,
    TokenUnknown,
    TooManyParts,
    Unavailable,
    UnknownAttachment,
    UnknownMessage,
    UnlistedDevices,
)
from store.redis.client import RedisError

log = structlog.get_logger(__name__)

RETRY_AFTER_MS: Final = 500
"""Time for a client to wait before it repeats a refused request, unless the error names a time."""

_CODES: Final[dict[type[Any], ErrorCode]] = {
    Unavailable: ErrorCode.UNAVAILABLE,
    RedisError: ErrorCode.UNAVAILABLE,
    Overloaded: ErrorCode.OVERLOADED,
    Locked: ErrorCode.OVERLOADED,
    NotAParticipant: ErrorCode.NOT_A_PARTICIPANT,
    RecipientDeleted: ErrorCode.RECIPIENT_DELETED,
    TempIdConflict: ErrorCode.TEMP_ID_CONFLICT,
    TempIdExpired: ErrorCode.TEMP_ID_EXPIRED,
    UnknownMessage: ErrorCode.UNKNOWN_MESSAGE,
    NotTheSender: ErrorCode.NOT_THE_SENDER,
    MessageDeleted: ErrorCode.MESSAGE_DELETED,
    RevisionConflict: ErrorCode.REVISION_CONFLICT,
    StaleDevices: ErrorCode.DEVICES_CHANGED,
    UnlistedDevices: ErrorCode.UNKNOWN_DEVICES,
    ControlConflict: ErrorCode.CONTROL_CONFLICT,
    TooManyParts: ErrorCode.QUOTA_EXCEEDED,
    NoObjectStore: ErrorCode.NO_OBJECT_STORE,
    UnknownAttachment: ErrorCode.UNKNOWN_ATTACHMENT,
    AttachmentIncomplete: ErrorCode.ATTACHMENT_INCOMPLETE,
    AttachmentUsed: ErrorCode.ATTACHMENT_USED,
    ForeignCursor: ErrorCode.CURSOR_FOREIGN,
    ExpiredCursor: ErrorCode.CURSOR_EXPIRED,
    ForeignKeyHistory: ErrorCode.KEY_HISTORY_FOREIGN,
    TokenUnknown: ErrorCode.UNAUTHENTICATED,
    TokenRenewed: ErrorCode.TOKEN_RENEWED,
    TokenReused: ErrorCode.TOKEN_REUSED,
    TokenExpired: ErrorCode.UNAUTHENTICATED,
    DeviceRevoked: ErrorCode.UNAUTHENTICATED,
    AccountSuspended: ErrorCode.ACCOUNT_SUSPENDED,
}


def error_reply(error: RequestError) -> Error:
    """The reply to a request that the protocol refuses."""
    limit = error.limit
    return Error(
        error.request,
        error.code.value,
        error.detail or error.code.info.meaning,
        (error.retry_after_ms or RETRY_AFTER_MS) if error.code.info.retry else None,
        limit=limit and limit.name,
        limit_value=limit and limit.value,
    )


def error_name(error: StoreError) -> str:
    """The name of the code that the reply for this error has."""
    return _code_of(error).name.lower()


def _code_of(error: StoreError) -> ErrorCode:
    return next((_CODES[each] for each in type(error).__mro__ if each in _CODES), ErrorCode.INTERNAL)


def store_error_reply(request: int, error: StoreError) -> Error:
    """The reply for an error of the store: enough for the client to act on, no internal detail."""
    code = _code_of(error)
    if code is ErrorCode.INTERNAL:
        # The reply tells the client that the error has been logged.
        log.error("request_failed", exc_info=error)
    if isinstance(error, TooManyParts):
        limit = ENVELOPE_PARTS_PER_MESSAGE
        return error_reply(RequestError(request, code, f"limit {limit.name}: {limit.shown}", limit=limit))
    reply = error_reply(RequestError(request, code, ""))
    if isinstance(error, StaleDevices):
        return replace(
            reply,
            more=error.more or None,
            devices_version=error.version,
            devices=error.devices,
            changed_users=list(error.users),
        )
    if isinstance(error, ControlConflict):
        return replace(reply, control_seq=error.control_seq)
    if isinstance(error, UnlistedDevices):
        return replace(reply, unknown_devices=list(error.devices))
    return reply
