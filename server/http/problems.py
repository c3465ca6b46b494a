"""Errors as answers: the one place that maps an exception to a status, a code and a sentence (`docs/http.md`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final
from uuid import UUID

import structlog

from protocol.limits import MAX_PARTICIPANTS
from server.http.authentication import NotAnOperator
from server.http.encoding import InvalidBody
from server.http.queries import InvalidQuery
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
from store.notifiers import MAX_NOTIFIERS
from store.page_cursor import InvalidCursor
from store.redis.client import RedisError

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1


class Problem(Exception):
    """An answer that is an error. Handlers raise it where no other error says the same.

    :param retry_after_s: when the same request may succeed; None: not without a change.
    :param users: the ids of the users concerned.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, retry_after_s: float | None = None, users: Sequence[bytes] = ()
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.users = users

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "detail": self.detail}
        if self.users:
            error["users"] = [UUID(bytes=user) for user in self.users]
        if self.retry_after_s is not None:
            error["retry_after_ms"] = ceil(self.retry_after_s * 1000)
        return {"error": error}

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"retry-after": str(ceil(self.retry_after_s))}


REFUSALS: Final[dict[type[Exception], tuple[int, str, str]]] = {
    NotAParticipant: (404, "not_found", "no such conversation, or you are not a participant"),
    TokenUnknown: (401, "unauthenticated", "give the device's token: Authorization: Bearer TOKEN"),
    NotAnOperator: (401, "unauthenticated", "give the operators' token: Authorization: Bearer OPS_TOKEN"),
    TokenExpired: (401, "token_expired", "the token has expired: log in again"),
    DeviceRevoked: (401, "device_revoked", "the user has revoked this device: log in again"),
    UnknownMessage: (404, "unknown_message", "the message does not exist, or you may not see it"),
    UnknownNotifier: (404, "unknown_notifier", "you have no notifier with that id"),
    TooManyNotifiers: (409, "too_many_notifiers", f"you may have at most {MAX_NOTIFIERS} notifiers: remove one first"),
    UnknownDevice: (404, "unknown_device", "you have no device with that id"),
    UnknownUser: (404, "unknown_user", "no user has that name or id"),
    NotAnAdministrator: (403, "not_an_administrator", "only an administrator of the group may do that"),
    LastAdministrator: (
        409,
        "last_administrator",
        "a group needs an administrator: give the role to another participant first",
    ),
    GroupFull: (409, "group_full", f"the group already has {MAX_PARTICIPANTS} participants, the maximum"),
    NotARequest: (409, "not_a_request", "the conversation is not a request: leave it, or block the user"),
    UsernameTaken: (409, "username_taken", "choose another username"),
    InvalidCursor: (400, "invalid_cursor", "cursor must be one that this endpoint returned, unchanged"),
    UnknownZone: (400, "invalid_body", "zone must be a time zone of the IANA database, such as Europe/Berlin"),
    VerificationUnknown: (404, "unknown_verification", "unknown token, or the address has changed since"),
    VerificationExpired: (410, "verification_expired", "the token is too old: set the address again to get a new one"),
}


def problem_of(error: Exception, path: str) -> Problem:
    """The answer to an error; one that is the server's is logged.

    :param path: of the request.
    """
    if isinstance(error, Problem):
        return error
    if refusal := REFUSALS.get(type(error)):
        return Problem(*refusal)
    match error:
        case InvalidBody():
            return Problem(400, "invalid_body", str(error))
        case InvalidQuery():
            return Problem(400, "invalid_query", str(error))
        case NotAccepted():
            detail = "these users do not accept messages, or groups, from you"
            return Problem(403, "not_accepted", detail, users=error.users)
        case TooManyStarts():
            detail = "you have reached the limit of conversations with strangers in 24 hours"
            return Problem(429, "too_many_conversations", detail, retry_after_s=error.wait_s)
        case TooManyMails():
            return Problem(
                429,
                "too_many_mails",
                "too many mails to unverified addresses, from you or to this one",
                retry_after_s=error.wait_s,
            )
        case Unavailable() | Overloaded() | Locked() | RedisError():
            log.warning("request_refused", path=path, error=str(error))
            return Problem(503, "unavailable", "try again", retry_after_s=RETRY_AFTER_S)
    log.error("request_failed", path=path, exc_info=error)
    return Problem(500, "internal", "the server has a fault, and has logged it", retry_after_s=RETRY_AFTER_S)
