"""Errors as answers: a status, a code by name, and what is wrong."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

import structlog
from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from server.http import encoding
from server.http.frame import (
    ApiError,
    answer,
    encoding_asked,
)
from server.http.ops import InvalidQuery, NotAnOperator
from store import notifiers as notifiers_store
from store.errors import (
    DeviceRevoked,
    GroupFull,
    LastAdministrator,
    Locked,
    NotAccepted,
    NotAnAdministrator,
    NotAParticipant,
    NotARequest,
    Overloaded,
    StoreError,
    TokenExpired,
    TokenUnknown,
    TooManyMails,
    TooManyNotifiers,
    TooManyStarts,
    Unavailable,
    UnknownDevice,
    UnknownMessage,
    UnknownNotifier,
    UnknownUser,
    UnknownZone,
    UsernameTaken,
    VerificationExpired,
    VerificationUnknown,
)
from store.page_cursor import InvalidCursor
from store.redis.client import RedisError

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1


def add_errors(app: QuartTrio) -> None:
    @app.errorhandler(ApiError)
    async def api_error(error: ApiError) -> ResponseReturnValue:
        return refuse(error.status, error.code, error.detail)

    @app.errorhandler(encoding.InvalidBody)
    async def invalid_body(error: encoding.InvalidBody) -> ResponseReturnValue:
        return refuse(400, "invalid_body", str(error))

    @app.errorhandler(InvalidCursor)
    async def invalid_cursor(_: InvalidCursor) -> ResponseReturnValue:
        return refuse(400, "invalid_cursor", "give back a cursor of this endpoint, as it came")

    @app.errorhandler(InvalidQuery)
    async def invalid_query(error: InvalidQuery) -> ResponseReturnValue:
        return refuse(400, "invalid_query", str(error))

    @app.errorhandler(NotAnOperator)
    async def not_an_operator(_: NotAnOperator) -> ResponseReturnValue:
        return refuse(401, "unauthenticated", "give the operators' token: Authorization: Bearer OPS_TOKEN")

    @app.errorhandler(StoreError)
    async def store_error(error: StoreError) -> ResponseReturnValue:
        return _store_error(error)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> ResponseReturnValue:
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.code or 500)
        if code is None:
            return refuse(400, "invalid_body", error.description or "the request cannot be read")
        return refuse(error.code or 500, code, error.description or code)

    @app.errorhandler(Exception)
    async def fault(error: Exception) -> ResponseReturnValue:
        return _fault(error)


def _fault(error: Exception) -> Response:
    log.error("request_failed", path=request.path, exc_info=error)
    return refuse(500, "internal", "a fault of the server, which has logged it", retry_after_s=RETRY_AFTER_S)


REFUSALS: Final[dict[type[StoreError], tuple[int, str, str]]] = {
    NotAParticipant: (404, "not_found", "no such conversation, or you are not a participant"),
    TokenUnknown: (401, "unauthenticated", "give the device's token: Authorization: Bearer TOKEN"),
    TokenExpired: (401, "token_expired", "the token has expired: log in again"),
    DeviceRevoked: (401, "device_revoked", "the user has revoked this device: log in again"),
    UnknownMessage: (404, "unknown_message", "there is no such message, or it is not yours to see"),
    UnknownNotifier: (404, "unknown_notifier", "you have no such notifier"),
    TooManyNotifiers: (409, "too_many_notifiers", f"at most {notifiers_store.MAX_NOTIFIERS}: remove one first"),
    UnknownDevice: (404, "unknown_device", "you have no such device"),
    UnknownUser: (404, "unknown_user", "there is no such user"),
    NotAnAdministrator: (403, "not_an_administrator", "only an administrator of the group may do that"),
    LastAdministrator: (409, "last_administrator", "a group has at least one administrator: name another one first"),
    GroupFull: (409, "group_full", "the group has as many participants as it may"),
    NotARequest: (409, "not_a_request", "the conversation is no request any more: leave it, or block"),
    UsernameTaken: (409, "username_taken", "choose another username"),
    UnknownZone: (400, "invalid_body", "zone must be a time zone of the IANA database, such as Europe/Berlin"),
    VerificationUnknown: (404, "unknown_verification", "no address was sent that token, or it is another one by now"),
    VerificationExpired: (410, "verification_expired", "that token is too old: put the address again to get another"),
}


def _store_error(error: StoreError) -> Response:
    if refusal := REFUSALS.get(type(error)):
        return refuse(*refusal)
    if isinstance(error, NotAccepted):
        users = [encoding.ident(user, encoding_asked()) for user in error.users]
        return refuse(403, "not_accepted", "these users take no messages, or no groups, from you", users=users)
    if isinstance(error, TooManyStarts):
        detail = "you have begun as many conversations with strangers as you may in 24 hours"
        return refuse(429, "too_many_conversations", detail, retry_after_s=error.wait_s)
    if isinstance(error, TooManyMails):
        return refuse(429, "too_many_mails", "too many mails were asked for", retry_after_s=error.wait_s)
    if isinstance(error, (Unavailable, Overloaded, Locked, RedisError)):
        log.warning("request_refused", path=request.path, error=str(error))
        return refuse(503, "unavailable", "try again", retry_after_s=RETRY_AFTER_S)
    return _fault(error)


def refuse(status: int, code: str, detail: str, *, retry_after_s: float | None = None, **more: Any) -> Response:
    error: dict[str, Any] = {"code": code, "detail": detail, **more}
    if retry_after_s is not None:
        error["retry_after_ms"] = ceil(retry_after_s * 1000)
    response = answer({"error": error}, status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(ceil(retry_after_s))
    return response
