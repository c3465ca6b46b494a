"""Errors as answers: the one place that maps an exception to a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

import structlog
from msgspec import UNSET, Struct, UnsetType

from protocol.limits import MAX_PARTICIPANTS
from server.http.authentication import NotAnOperator, NotConfirmed
from server.http.decoding import InvalidBody, UnsupportedBody
from server.http.encoding import CBOR, IDENT, Encoding, Ident
from server.http.guesses import TooManyGuesses
from server.http.key_set import IssuerUnavailable
from server.http.limits import RateLimited
from server.http.problem_codes import ProblemCode
from server.http.queries import InvalidQuery
from store.conversations import PLACES_PER_DAY
from store.errors import (
    AccountClosed,
    AccountSuspended,
    AttachmentIncomplete,
    AttachmentUsed,
    BadUpload,
    ControlConflict,
    DeviceRevoked,
    ForeignKeyHistory,
    GroupFull,
    InvitationVoid,
    LastAdministrator,
    Locked,
    NoObjectStore,
    NotAccepted,
    NotAGroup,
    NotAnAdministrator,
    NotAParticipant,
    NotARequest,
    Overloaded,
    PartBusy,
    PasswordChanged,
    QuotaExceeded,
    ResetExpired,
    ResetUnknown,
    TicketExpired,
    TicketInvalid,
    TokenExpired,
    TokenRenewed,
    TokenReused,
    TokenUnknown,
    TooManyExports,
    TooManyMails,
    TooManyNotifiers,
    TooManyPlaces,
    TooManyStarts,
    Unavailable,
    UnknownAttachment,
    UnknownDevice,
    UnknownExport,
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

MEDIA_TYPES: Final[dict[Encoding, str]] = {"json": "application/problem+json", "cbor": CBOR}
"""RFC 9457 registers no type for CBOR; the fields are the same."""


class WrongField(Struct, frozen=True):
    """A field of a body that is wrong.

    :ivar pointer: to the field, as a JSON pointer in a fragment (RFC 6901, section 6).
    """

    detail: str
    pointer: str


class ProblemAnswer(Struct, frozen=True):
    """A problem document (RFC 9457).

    :ivar type: leads to the paragraph about this code on the docs page.
    :ivar title: the same for each problem with this code.
    :ivar status: that of the answer.
    :ivar detail: one English sentence for a developer.
    :ivar code: stable; one of the table of problems.
    :ivar instance: the request, as the server's log names it.
    :ivar retry_after_ms: there if and only if the same request may succeed later.
    :ivar users: the users that a `not_accepted` is about.
    :ivar errors: the fields that are wrong or missing: of an `invalid_body`, a `weak_password` and the like.
    :ivar due: when an account is deleted, in microseconds since 1970-01-01T00:00Z: of an `account_closed`.
    :ivar limit: the name of the quota that a `quota_exceeded` is about; `limit_value` is the most that it allows.
    :ivar control_seq: the last control message of the conversation that a `control_conflict` is about.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    users: list[Ident] | UnsetType = UNSET
    errors: list[WrongField] | UnsetType = UNSET
    due: int | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    limit_value: int | UnsetType = UNSET
    control_seq: int | UnsetType = UNSET


_NO_HEADERS: Final[Mapping[str, str]] = {}


class Problem(Exception):
    """An answer that is an error. Handlers raise it where no other error says the same.

    :param retry_after_s: when the same request may succeed; for codes that say so.
    :param users: the ids of the users concerned.
    :param pointer: to the wrong field of a body.
    :param due: the time that the answer is about, in microseconds since 1970.
    :param limit: the limit that was met, and its value.
    :param control_seq: the last control message of the conversation.
    :param more_headers: headers that tell the client what would be right, in lower case.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        retry_after_s: float | None = None,
        users: Sequence[bytes] = (),
        pointer: str | None = None,
        due: int | None = None,
        limit: tuple[str, int] | None = None,
        control_seq: int | None = None,
        more_headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(f"{code.info.status} {code.value}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.users = users
        self.pointer = pointer
        self.due = due
        self.limit = limit
        self.control_seq = control_seq
        self.more_headers = more_headers

    @property
    def status(self) -> int:
        return self.code.info.status

    def body(self, encoding: Encoding, instance: str | None = None) -> ProblemAnswer:
        """
        :param instance: a reference to the request, as the server's log names it.
        """
        limit, limit_value = self.limit or (UNSET, UNSET)
        return ProblemAnswer(
            self.code.type_uri,
            self.code.info.title,
            self.status,
            self.detail,
            self.code.value,
            UNSET if instance is None else instance,
            UNSET if self.retry_after_s is None else ceil(self.retry_after_s * 1000),
            [IDENT[encoding](user) for user in self.users] or UNSET,
            UNSET if self.pointer is None else [WrongField(self.detail, self.pointer)],
            UNSET if self.due is None else self.due,
            limit,
            limit_value,
            UNSET if self.control_seq is None else self.control_seq,
        )

    def headers(self) -> dict[str, str]:
        retry = {} if self.retry_after_s is None else {"retry-after": str(ceil(self.retry_after_s))}
        return {**self.more_headers, **retry}


REFUSALS: Final[dict[type[Exception], tuple[ProblemCode, str]]] = {
    NotAParticipant: (ProblemCode.NOT_FOUND, "no such conversation, or you are not a participant"),
    TokenUnknown: (ProblemCode.UNAUTHENTICATED, "give the device's token: Authorization: Bearer TOKEN"),
    NotAnOperator: (ProblemCode.UNAUTHENTICATED, "give the operators' token: Authorization: Bearer OPS_TOKEN"),
    TokenExpired: (ProblemCode.TOKEN_EXPIRED, "the token has expired: log in again"),
    TokenReused: (ProblemCode.TOKEN_REUSED, "a token was shown that had ended, so a thief may have it: log in again"),
    TokenRenewed: (ProblemCode.TOKEN_RENEWED, "the token was renewed, and the new one was used: go on with that one"),
    DeviceRevoked: (ProblemCode.DEVICE_REVOKED, "the user has revoked this device: log in again"),
    AccountSuspended: (
        ProblemCode.ACCOUNT_SUSPENDED,
        "the operator of this server has suspended your account: ask them why",
    ),
    NotConfirmed: (
        ProblemCode.CONFIRMATION_REQUIRED,
        "show the password to POST /v1/confirmations, then repeat the request",
    ),
    TicketInvalid: (ProblemCode.TICKET_INVALID, "the server has not signed this URL, or not for this method"),
    TicketExpired: (ProblemCode.TICKET_EXPIRED, "the time of the URL is over: ask for a new one"),
    PasswordChanged: (ProblemCode.WRONG_CREDENTIALS, "wrong password"),
    UnknownMessage: (ProblemCode.UNKNOWN_MESSAGE, "the message does not exist, or you may not see it"),
    UnknownNotifier: (ProblemCode.UNKNOWN_NOTIFIER, "you have no notifier with that id"),
    TooManyNotifiers: (
        ProblemCode.TOO_MANY_NOTIFIERS,
        f"you may have at most {MAX_NOTIFIERS} notifiers: remove one first",
    ),
    UnknownDevice: (ProblemCode.UNKNOWN_DEVICE, "you have no device with that id"),
    UnknownUser: (ProblemCode.UNKNOWN_USER, "no user has that name or id"),
    NotAnAdministrator: (ProblemCode.NOT_AN_ADMINISTRATOR, "only an administrator of the group may do that"),
    NotAGroup: (
        ProblemCode.NOT_A_GROUP,
        "the conversation is direct, or of your own devices: it has no name or avatar, and nobody joins or leaves it;"
        " begin a group for that, or block the user",
    ),
    LastAdministrator: (
        ProblemCode.LAST_ADMINISTRATOR,
        "a group needs an administrator: give the role to another participant first",
    ),
    GroupFull: (ProblemCode.GROUP_FULL, f"the group already has {MAX_PARTICIPANTS} participants, the maximum"),
    NotARequest: (
        ProblemCode.NOT_A_REQUEST,
        "the conversation is not a request: leave it if it is a group, block the user if it is direct",
    ),
    AccountClosed: (ProblemCode.ACCOUNT_CLOSED, "the account is to be deleted: log in with keeps_account to keep it"),
    InvitationVoid: (
        ProblemCode.INVITATION_VOID,
        "no user can register with this code, or none any longer: ask the operator for another invitation",
    ),
    UsernameTaken: (ProblemCode.USERNAME_TAKEN, "choose another username"),
    InvalidCursor: (ProblemCode.INVALID_CURSOR, "cursor must be one that this endpoint returned, unchanged"),
    UnknownZone: (ProblemCode.INVALID_BODY, "zone must be a time zone of the IANA database, such as Europe/Berlin"),
    UnknownAttachment: (
        ProblemCode.UNKNOWN_ATTACHMENT,
        "you have no such upload, it was given up, or it was declared for another purpose",
    ),
    AttachmentIncomplete: (
        ProblemCode.ATTACHMENT_INCOMPLETE,
        "the object store does not have the file, or its thumbnail, as declared: upload the missing parts",
    ),
    AttachmentUsed: (
        ProblemCode.ATTACHMENT_USED,
        "a message has the attachment, or it is shown as an avatar: upload the file again, or take it from there first",
    ),
    NoObjectStore: (ProblemCode.NO_OBJECT_STORE, "this deployment has no object store, which attachments are kept in"),
    ForeignKeyHistory: (
        ProblemCode.KEY_HISTORY_FOREIGN,
        "the server may have forgotten which keys it handed out: get /v1/keys, then upload new keys with that history",
    ),
    UnknownExport: (ProblemCode.UNKNOWN_EXPORT, "you have no such export that can be fetched, or it has no such part"),
    ResetUnknown: (ProblemCode.UNKNOWN_RESET, "unknown or void token: ask for another mail"),
    ResetExpired: (ProblemCode.RESET_EXPIRED, "the token is too old: ask for another mail"),
    VerificationUnknown: (ProblemCode.UNKNOWN_VERIFICATION, "unknown token, or the address has changed since"),
    VerificationExpired: (
        ProblemCode.VERIFICATION_EXPIRED,
        "the token is too old: set the address again to get a new one",
    ),
}

"""Errors that say all by their type."""

LATER: Final[dict[type[Exception], tuple[ProblemCode, str]]] = {
    TooManyStarts: (
        ProblemCode.TOO_MANY_CONVERSATIONS,
        "you have reached the limit of conversations with strangers in 24 hours",
    ),
    TooManyPlaces: (
        ProblemCode.TOO_MANY_CONVERSATIONS,
        f"you may add {PLACES_PER_DAY} participants to groups in 24 hours, and have done so or nearly",
    ),
    TooManyMails: (ProblemCode.TOO_MANY_MAILS, "too many mails to unverified addresses, from you or to this one"),
    TooManyGuesses: (ProblemCode.TOO_MANY_GUESSES, "too many wrong passwords: wait, or show the token of your device"),
    TooManyExports: (ProblemCode.TOO_MANY_EXPORTS, "you may ask for one export in 24 hours"),
    RateLimited: (ProblemCode.RATE_LIMITED, "too many requests of this kind from your address, or from you"),
}
"""Errors that say when the same request may succeed (`wait_s`)."""


def problem_of(error: Exception, route: str) -> Problem:
    """The answer to an error; one that is the server's is logged.

    :param route: the rule of the route, for the log: a path may have the token of a mail.
    """
    if isinstance(error, Problem):
        return error
    if refusal := REFUSALS.get(type(error)):
        return Problem(*refusal)
    if isinstance(error, TooManyStarts | TooManyPlaces | TooManyMails | TooManyExports | RateLimited | TooManyGuesses):
        return Problem(*LATER[type(error)], retry_after_s=error.wait_s)
    if problem := _of_request(error):
        return problem
    match error:
        case PartBusy():
            detail = "another request is uploading the same part"
            return Problem(ProblemCode.PART_BUSY, detail, retry_after_s=RETRY_AFTER_S)
        case Unavailable() | Overloaded() | Locked() | RedisError() | IssuerUnavailable():
            log.warning("request_refused", route=route, error=str(error))
            return Problem(ProblemCode.UNAVAILABLE, "try again", retry_after_s=RETRY_AFTER_S)
    log.error("request_failed", route=route, exc_info=error)
    return Problem(ProblemCode.INTERNAL, "the server has a fault, and has logged it", retry_after_s=RETRY_AFTER_S)


def _of_request(error: Exception) -> Problem | None:
    """The answer to what a request asks for, which the error describes; None: it is not that."""
    match error:
        case InvalidBody():
            return Problem(error.code, str(error), pointer=error.pointer)
        case UnsupportedBody():
            return Problem(ProblemCode.UNSUPPORTED_MEDIA_TYPE, str(error), more_headers=error.accepted)
        case InvalidQuery():
            return Problem(ProblemCode.INVALID_QUERY, str(error))
        case BadUpload():
            return Problem(ProblemCode.INVALID_BODY, error.says)
        case QuotaExceeded(quota=quota, value=value):
            return Problem(ProblemCode.QUOTA_EXCEEDED, f"this would exceed {quota}: {value}", limit=(quota, value))
        case ControlConflict(control_seq=control_seq):
            detail = f"the last control message is {control_seq}: put the state after that one"
            return Problem(ProblemCode.CONTROL_CONFLICT, detail, control_seq=control_seq)
        case NotAccepted():
            detail = "these users do not accept messages, or groups, from you"
            return Problem(ProblemCode.NOT_ACCEPTED, detail, users=error.users)
        case _:
            return None
