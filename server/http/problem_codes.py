"""The codes of problems, as a table that tells the client its next step. The docs page and the schema show it."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from protocol.limits import MAX_GROUP_STATE_BYTES, MAX_PARTICIPANTS, SOCKET_PATH
from store.notifiers import MAX_NOTIFIERS

MAX_BODY_BYTES: Final = 64 * 1024
"""A group of 999 participants in JSON has 39 KB."""

MAX_LARGE_BODY_BYTES: Final = MAX_GROUP_STATE_BYTES * 4 // 3 + 1024
"""The most bytes at routes that are declared for large bodies: the state of a group in JSON."""

MAX_BODY_PIECES: Final = 256
"""The most pieces of a body: chunks, and what the network cuts them into. Each costs some 15 us, however short it is:
256 cost as much as the rest of a write. A body of the greatest size has 46 packets of Ethernet."""

MAX_HEAD_BYTES: Final = 16 * 1024
"""The most bytes of the first line and the headers."""


class ProblemInfo(NamedTuple):
    """The meaning of a code.

    :ivar title: the same for each problem with this code (RFC 9457, section 3.1.3).
    :ivar meaning: one or two sentences for the developer of a client.
    :ivar retry: whether the same request may succeed later, unchanged.
    """

    status: int
    title: str
    meaning: str
    retry: bool = False


class ProblemCode(Enum):
    """Codes of problems. The value is the field `code`."""

    INVALID_REQUEST = "invalid_request"
    UPGRADE_REFUSED = "upgrade_refused"
    INVALID_BODY = "invalid_body"
    WEAK_PASSWORD = "weak_password"  # noqa: S105
    INVALID_USERNAME = "invalid_username"
    USERNAME_RESERVED = "username_reserved"
    USERNAME_REQUIRED = "username_required"
    INVALID_QUERY = "invalid_query"
    INVALID_CURSOR = "invalid_cursor"
    NO_CONTENT_RANGE = "no_content_range"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    DEVICE_REVOKED = "device_revoked"
    TOKEN_REUSED = "token_reused"  # noqa: S105
    WRONG_CREDENTIALS = "wrong_credentials"
    INVALID_EXTERNAL_TOKEN = "invalid_external_token"  # noqa: S105
    CONFIRMATION_REQUIRED = "confirmation_required"
    REAUTHENTICATION_REQUIRED = "reauthentication_required"
    ACCOUNT_CLOSED = "account_closed"
    ACCOUNT_SUSPENDED = "account_suspended"
    REGISTRATION_CLOSED = "registration_closed"
    INVITATION_REQUIRED = "invitation_required"
    INVITATION_VOID = "invitation_void"
    NOT_ACCEPTED = "not_accepted"
    NOT_AN_ADMINISTRATOR = "not_an_administrator"
    TICKET_INVALID = "ticket_invalid"
    QUOTA_EXCEEDED = "quota_exceeded"
    NOT_FOUND = "not_found"
    UNKNOWN_MESSAGE = "unknown_message"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_VERIFICATION = "unknown_verification"
    UNKNOWN_EXPORT = "unknown_export"
    UNKNOWN_RESET = "unknown_reset"
    UNKNOWN_NOTIFIER = "unknown_notifier"
    UNKNOWN_ATTACHMENT = "unknown_attachment"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_FILE = "unknown_file"
    UNKNOWN_UPLOAD = "unknown_upload"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    USERNAME_TAKEN = "username_taken"
    TOKEN_RENEWED = "token_renewed"  # noqa: S105
    NOT_A_GROUP = "not_a_group"
    NOT_A_REQUEST = "not_a_request"
    NO_PASSWORD = "no_password"  # noqa: S105
    EXTERNAL_LOGIN_NOT_OFFERED = "external_login_not_offered"
    NOTIFIER_NOT_OFFERED = "notifier_not_offered"
    EXPORT_NOT_OFFERED = "export_not_offered"
    PART_BUSY = "part_busy"
    NO_OBJECT_STORE = "no_object_store"
    KEY_HISTORY_FOREIGN = "key_history_foreign"
    ATTACHMENT_INCOMPLETE = "attachment_incomplete"
    ATTACHMENT_USED = "attachment_used"
    TOO_MANY_NOTIFIERS = "too_many_notifiers"
    CONTROL_CONFLICT = "control_conflict"
    GROUP_FULL = "group_full"
    LAST_ADMINISTRATOR = "last_administrator"
    RESET_EXPIRED = "reset_expired"
    VERIFICATION_EXPIRED = "verification_expired"
    TICKET_EXPIRED = "ticket_expired"
    LENGTH_REQUIRED = "length_required"
    BODY_TOO_LARGE = "body_too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    MISDIRECTED_REQUEST = "misdirected_request"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_CONVERSATIONS = "too_many_conversations"
    TOO_MANY_EXPORTS = "too_many_exports"
    TOO_MANY_MAILS = "too_many_mails"
    TOO_MANY_GUESSES = "too_many_guesses"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    UNKNOWN_TRANSFER_ENCODING = "unknown_transfer_encoding"
    UNKNOWN_VERSION = "unknown_version"
    UNAVAILABLE = "unavailable"
    STORAGE_FULL = "storage_full"

    @property
    def info(self) -> ProblemInfo:
        return PROBLEMS[self]

    @property
    def type_uri(self) -> str:
        """The paragraph of the docs page about this code, as a reference relative to the server's root."""
        return f"/docs#problem-{self.value}"


PROBLEMS: Final[dict[ProblemCode, ProblemInfo]] = {
    ProblemCode.INVALID_REQUEST: ProblemInfo(
        400, "Invalid request", "The request is not valid HTTP/1.1; the connection is closed."
    ),
    ProblemCode.UPGRADE_REFUSED: ProblemInfo(
        400,
        "Upgrade refused",
        "The server speaks HTTP/1.1 here, and goes over to no other protocol, such as `h2c`. Open a new connection, and"
        " send the request without `Upgrade`, as clients do that are set to HTTP/1.1 (`curl --http1.1`).",
    ),
    ProblemCode.INVALID_BODY: ProblemInfo(
        400,
        "Invalid body",
        "The body is not JSON or CBOR, or a field is missing or wrong; the detail names it, and `errors` points to it.",
    ),
    ProblemCode.WEAK_PASSWORD: ProblemInfo(
        400,
        "Weak password",
        "The password is common, or close to the username; the detail says why, and what would be better.",
    ),
    ProblemCode.INVALID_USERNAME: ProblemInfo(
        400,
        "Invalid username",
        "No user can have that name, or readers would take it for another one; the detail says what a name must be.",
    ),
    ProblemCode.USERNAME_RESERVED: ProblemInfo(
        400, "Username reserved", "Users would take that name for the operator's. Choose a different one."
    ),
    ProblemCode.USERNAME_REQUIRED: ProblemInfo(
        400,
        "Username required",
        "The external token is good, and its user is new here. Ask for a username, and send it with the token.",
    ),
    ProblemCode.INVALID_QUERY: ProblemInfo(
        400,
        "Invalid query",
        "A parameter of the query is wrong, unknown or given twice; the detail says what is allowed.",
    ),
    ProblemCode.INVALID_CURSOR: ProblemInfo(400, "Invalid cursor", "This endpoint did not give out the cursor."),
    ProblemCode.NO_CONTENT_RANGE: ProblemInfo(
        400, "No Content-Range", "A part of a file is uploaded whole, without `Content-Range`."
    ),
    ProblemCode.WRONG_SIZE: ProblemInfo(400, "Wrong size", "The body has not the size that was declared."),
    ProblemCode.WRONG_DIGEST: ProblemInfo(
        400, "Wrong digest", "The SHA-256 of the body is not the one that was declared; nothing is stored."
    ),
    ProblemCode.UNAUTHENTICATED: ProblemInfo(401, "Unauthenticated", "The token is missing or unknown. Log in again."),
    ProblemCode.TOKEN_EXPIRED: ProblemInfo(401, "Token expired", "The token has expired. Log in again."),
    ProblemCode.DEVICE_REVOKED: ProblemInfo(401, "Device revoked", "The user has revoked this device. Log in again."),
    ProblemCode.TOKEN_REUSED: ProblemInfo(
        401,
        "Token reused",
        "A token of this device was shown that had ended, so a thief may have it. The server has revoked the device:"
        " tell the user, who logs in again and changes the password.",
    ),
    ProblemCode.WRONG_CREDENTIALS: ProblemInfo(401, "Wrong credentials", "The username or the password is wrong."),
    ProblemCode.INVALID_EXTERNAL_TOKEN: ProblemInfo(
        401,
        "Invalid external token",
        "The token of the external issuer is not good for this server, or names another user; the detail says why. Get"
        " a new one from the issuer.",
    ),
    ProblemCode.CONFIRMATION_REQUIRED: ProblemInfo(
        403,
        "Confirmation required",
        "The user has not shown the password on this device in the last 10 minutes, nor logged in at the external"
        " issuer. Ask for it, send it to `POST /v1/confirmations`, and repeat the request.",
    ),
    ProblemCode.REAUTHENTICATION_REQUIRED: ProblemInfo(
        403,
        "Reauthentication required",
        "By the external token, the user logged in at the issuer more than 10 minutes ago. Have the user log in there"
        " again, and send the new token.",
    ),
    ProblemCode.ACCOUNT_CLOSED: ProblemInfo(
        403,
        "Account closed",
        "You have asked to delete the account, which happens at `due`. Log in with `keeps_account` to keep it.",
    ),
    ProblemCode.ACCOUNT_SUSPENDED: ProblemInfo(
        403,
        "Account suspended",
        "An operator of the server has suspended the account. Keep the token: it is good again once that is lifted.",
    ),
    ProblemCode.REGISTRATION_CLOSED: ProblemInfo(
        403, "Registration closed", "This server takes no new users. Log in with an account that you have."
    ),
    ProblemCode.INVITATION_REQUIRED: ProblemInfo(
        403,
        "Invitation required",
        "This server takes users with an invitation alone. Ask its operator for one, and send its code.",
    ),
    ProblemCode.INVITATION_VOID: ProblemInfo(
        403,
        "Invitation void",
        "The code of the invitation is wrong, or it was revoked, has expired, or was used as often as it may be.",
    ),
    ProblemCode.NOT_ACCEPTED: ProblemInfo(
        403,
        "Not accepted",
        "By their settings, the users in `users` take no messages, or no places in groups, from you.",
    ),
    ProblemCode.NOT_AN_ADMINISTRATOR: ProblemInfo(
        403, "Not an administrator", "Only an administrator of the group may do that."
    ),
    ProblemCode.TICKET_INVALID: ProblemInfo(
        403,
        "Ticket invalid",
        "The server has not signed this URL, or not for this method. Send the URL unchanged, or ask for a new one.",
    ),
    ProblemCode.NOT_FOUND: ProblemInfo(
        404, "Not found", "The path or the conversation does not exist, or you may not see it."
    ),
    ProblemCode.UNKNOWN_MESSAGE: ProblemInfo(
        404, "Unknown message", "The message does not exist, or you may not see it."
    ),
    ProblemCode.UNKNOWN_DEVICE: ProblemInfo(404, "Unknown device", "You have no device with that id."),
    ProblemCode.UNKNOWN_VERIFICATION: ProblemInfo(
        404, "Unknown verification", "The token is unknown, or the address has changed since."
    ),
    ProblemCode.UNKNOWN_EXPORT: ProblemInfo(
        404, "Unknown export", "You have no export with that id that can be fetched, or it has no such part."
    ),
    ProblemCode.UNKNOWN_RESET: ProblemInfo(
        404,
        "Unknown reset",
        "The token is unknown or void: it was used, or the password or the address has changed since.",
    ),
    ProblemCode.UNKNOWN_ATTACHMENT: ProblemInfo(
        404, "Unknown attachment", "You have no upload with that id, or it was given up."
    ),
    ProblemCode.UNKNOWN_NOTIFIER: ProblemInfo(404, "Unknown notifier", "You have no notifier with that id."),
    ProblemCode.UNKNOWN_USER: ProblemInfo(404, "Unknown user", "No user has that name or id."),
    ProblemCode.UNKNOWN_FILE: ProblemInfo(404, "Unknown file", "The file was deleted, or is not complete."),
    ProblemCode.UNKNOWN_UPLOAD: ProblemInfo(404, "Unknown upload", "The upload is complete, aborted or unknown."),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemInfo(
        405, "Method not allowed", "The path exists, but not with this method."
    ),
    ProblemCode.REQUEST_TIMEOUT: ProblemInfo(
        408, "Request timeout", "The head or the body did not come in time; the connection is closed.", retry=True
    ),
    ProblemCode.USERNAME_TAKEN: ProblemInfo(409, "Username taken", "The username is taken. Choose a different one."),
    ProblemCode.TOKEN_RENEWED: ProblemInfo(
        409, "Token renewed", "The token was renewed, and the new one was used since: go on with the new one."
    ),
    ProblemCode.NOT_A_GROUP: ProblemInfo(
        409,
        "Not a group",
        "The conversation is direct, or of your own devices: it has no name or avatar, and nobody joins or leaves it."
        " Begin a group for that; to end a direct conversation, block the user.",
    ),
    ProblemCode.NOT_A_REQUEST: ProblemInfo(409, "Not a request", "The conversation is not a request, or no longer."),
    ProblemCode.NO_PASSWORD: ProblemInfo(
        409,
        "No password",
        "The account has no password: its user logs in by the external issuer. Send a token of it (`external_token`).",
    ),
    ProblemCode.EXTERNAL_LOGIN_NOT_OFFERED: ProblemInfo(
        409, "External login not offered", "This deployment has no external issuer: log in with username and password."
    ),
    ProblemCode.NOTIFIER_NOT_OFFERED: ProblemInfo(
        409, "Notifier not offered", "This deployment has no keys for that kind; the detail names those it has."
    ),
    ProblemCode.EXPORT_NOT_OFFERED: ProblemInfo(
        409, "Export not offered", "This deployment has no object store, which exports are kept in."
    ),
    ProblemCode.PART_BUSY: ProblemInfo(
        409,
        "Part busy",
        "Another request is uploading the same part, or a connection that broke has not ended yet.",
        retry=True,
    ),
    ProblemCode.NO_OBJECT_STORE: ProblemInfo(
        409, "No object store", "This deployment has no object store, which attachments are kept in."
    ),
    ProblemCode.KEY_HISTORY_FOREIGN: ProblemInfo(
        409,
        "Another key history",
        "The server may have forgotten which keys it handed out: get /v1/keys, then upload new keys with that history.",
    ),
    ProblemCode.ATTACHMENT_INCOMPLETE: ProblemInfo(
        409,
        "Attachment incomplete",
        "The object store does not have the file, or its thumbnail, as declared: upload the missing parts.",
    ),
    ProblemCode.ATTACHMENT_USED: ProblemInfo(
        409, "Attachment used", "The attachment belongs to a message, or is shown as an avatar."
    ),
    ProblemCode.QUOTA_EXCEEDED: ProblemInfo(
        403,
        "Quota exceeded",
        "The files or keys are larger or more than the deployment allows; `limit` says which number they would exceed.",
    ),
    ProblemCode.TOO_MANY_NOTIFIERS: ProblemInfo(
        409, "Too many notifiers", f"You have {MAX_NOTIFIERS} notifiers, which is the most: remove one first."
    ),
    ProblemCode.CONTROL_CONFLICT: ProblemInfo(
        409,
        "Control conflict",
        "The state belongs to another control message than the last one, whose `seq` is `control_seq`: process that"
        " one, and put the state after it.",
    ),
    ProblemCode.GROUP_FULL: ProblemInfo(
        409, "Group full", f"The group has {MAX_PARTICIPANTS} participants, which is the most."
    ),
    ProblemCode.LAST_ADMINISTRATOR: ProblemInfo(
        409, "Last administrator", "A group needs an administrator: give the role to another participant first."
    ),
    ProblemCode.RESET_EXPIRED: ProblemInfo(410, "Reset expired", "The token is too old. Ask for another mail."),
    ProblemCode.VERIFICATION_EXPIRED: ProblemInfo(
        410, "Verification expired", "The token is too old. Set the address again to get a new one."
    ),
    ProblemCode.TICKET_EXPIRED: ProblemInfo(410, "Ticket expired", "The time of the URL is over. Ask for a new one."),
    ProblemCode.LENGTH_REQUIRED: ProblemInfo(
        411, "Length required", "An upload has `Content-Length`, and is not chunked; the connection is closed."
    ),
    ProblemCode.BODY_TOO_LARGE: ProblemInfo(
        413,
        "Body too large",
        f"Bodies have at most {MAX_BODY_BYTES // 1024} KiB, in at most {MAX_BODY_PIECES} chunks; the state of a group"
        " has 1 MiB, with `Content-Length`.",
    ),
    ProblemCode.URI_TOO_LONG: ProblemInfo(
        414, "URI too long", "The first line is longer than the most of a head; the connection is closed."
    ),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: ProblemInfo(
        415,
        "Unsupported media type",
        "The body is neither JSON nor CBOR by its `Content-Type`, or it is compressed (`Content-Encoding`).",
    ),
    ProblemCode.RANGE_NOT_SATISFIABLE: ProblemInfo(
        416, "Range not satisfiable", "The file ends before the range begins; `Content-Range` has its size."
    ),
    ProblemCode.MISDIRECTED_REQUEST: ProblemInfo(
        421,
        "Misdirected request",
        f"The process `socket` opens WebSockets, at `{SOCKET_PATH}` of its own address; the connection is closed.",
    ),
    ProblemCode.TOO_MANY_CONNECTIONS: ProblemInfo(
        429,
        "Too many connections",
        "Your address (one /64 of IPv6) has too many connections to this process; this one is closed.",
        retry=True,
    ),
    ProblemCode.TOO_MANY_CONVERSATIONS: ProblemInfo(
        429,
        "Too many conversations",
        "You have reached the limit of conversations with strangers, or of participants added to groups, in 24 hours.",
        retry=True,
    ),
    ProblemCode.TOO_MANY_EXPORTS: ProblemInfo(
        429, "Too many exports", "You may ask for one export in 24 hours.", retry=True
    ),
    ProblemCode.TOO_MANY_MAILS: ProblemInfo(
        429,
        "Too many mails",
        "Too many mails to unverified addresses, from you or to this mailbox. The plain spelling of the address, in"
        " lower case and without a tag, at Gmail without dots, has one more.",
        retry=True,
    ),
    ProblemCode.TOO_MANY_GUESSES: ProblemInfo(
        429,
        "Too many guesses",
        "Too many wrong passwords for this user. Wait as long as `Retry-After` says; right passwords are refused, too."
        " A device that shows its token, also an expired one, has guesses of its own.",
        retry=True,
    ),
    ProblemCode.RATE_LIMITED: ProblemInfo(
        429,
        "Rate limited",
        "Too many requests of this kind from your address or from you. Wait as long as `Retry-After` says.",
        retry=True,
    ),
    ProblemCode.HEAD_TOO_LARGE: ProblemInfo(
        431,
        "Head too large",
        f"The first line and the headers have at most {MAX_HEAD_BYTES // 1024} KiB; the connection is closed.",
    ),
    ProblemCode.INTERNAL: ProblemInfo(500, "Internal", "The server has a fault, and has logged it.", retry=True),
    ProblemCode.UNKNOWN_TRANSFER_ENCODING: ProblemInfo(
        501, "Unknown transfer encoding", "Transfer-Encoding may be chunked; the connection is closed."
    ),
    ProblemCode.UNKNOWN_VERSION: ProblemInfo(
        505, "Unknown version", "The server speaks HTTP/1.1 and HTTP/1.0; the connection is closed."
    ),
    ProblemCode.UNAVAILABLE: ProblemInfo(
        503,
        "Unavailable",
        "Postgres, Redis, the object store or the external issuer cannot be reached, or too much is queued. Try again.",
        retry=True,
    ),
    ProblemCode.STORAGE_FULL: ProblemInfo(
        507, "Storage full", "The server has no room for the file, and has told its operator.", retry=True
    ),
}
