"""Error and close codes as two tables that tell the peer its next step.

`SPEC.md` prints both tables; a test compares them. Close codes follow a rule that needs no table at run time: 4000 to
4499 mean "connect again", 4500 to 4999 mean "something has to change first".
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class ErrorInfo(NamedTuple):
    """The meaning of an error code.

    :ivar meaning: one sentence for the developer of a client.
    :ivar retry: whether the same request may succeed later, unchanged (with the same `temp_id`).
    """

    meaning: str
    retry: bool


class ErrorCode(Enum):
    """Codes of error replies. The value goes over the wire."""

    INVALID_FRAME = "invalid_frame"
    UNKNOWN_FRAME = "unknown_frame"
    UNEXPECTED_FRAME = "unexpected_frame"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    RATE_LIMITED = "rate_limited"
    NOT_A_PARTICIPANT = "not_a_participant"
    RECIPIENT_DELETED = "recipient_deleted"
    TEMP_ID_CONFLICT = "temp_id_conflict"
    TEMP_ID_EXPIRED = "temp_id_expired"
    UNKNOWN_MESSAGE = "unknown_message"
    NOT_THE_SENDER = "not_the_sender"
    MESSAGE_DELETED = "message_deleted"
    REVISION_CONFLICT = "revision_conflict"
    DEVICES_CHANGED = "devices_changed"
    UNKNOWN_DEVICES = "unknown_devices"
    CONTROL_CONFLICT = "control_conflict"
    UNKNOWN_ATTACHMENT = "unknown_attachment"
    ATTACHMENT_INCOMPLETE = "attachment_incomplete"
    ATTACHMENT_USED = "attachment_used"
    NO_OBJECT_STORE = "no_object_store"
    QUOTA_EXCEEDED = "quota_exceeded"
    CURSOR_FOREIGN = "cursor_foreign"
    CURSOR_EXPIRED = "cursor_expired"
    KEY_HISTORY_FOREIGN = "key_history_foreign"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_RENEWED = "token_renewed"  # noqa: S105
    TOKEN_REUSED = "token_reused"  # noqa: S105
    ACCOUNT_SUSPENDED = "account_suspended"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @property
    def info(self) -> ErrorInfo:
        return ERRORS[self]


ERRORS: Final[dict[ErrorCode, ErrorInfo]] = {
    ErrorCode.INVALID_FRAME: ErrorInfo(
        "A field is missing, of the wrong type or out of bounds; the detail names it.", False
    ),
    ErrorCode.UNKNOWN_FRAME: ErrorInfo("This server does not know a frame of this type.", False),
    ErrorCode.UNEXPECTED_FRAME: ErrorInfo("The frame is known but may not be sent in this state or direction.", False),
    ErrorCode.TOO_MANY_IN_FLIGHT: ErrorInfo(
        "Too many requests of this connection wait for a reply; wait for some.", True
    ),
    ErrorCode.RATE_LIMITED: ErrorInfo(
        "You have caused more cost on this node than a user may; do not repeat the request before the given time.", True
    ),
    ErrorCode.NOT_A_PARTICIPANT: ErrorInfo(
        "You are not a participant of this conversation, or it does not exist.", False
    ),
    ErrorCode.RECIPIENT_DELETED: ErrorInfo(
        "The conversation is direct, and the other user has deleted the account: nobody would read the message.", False
    ),
    ErrorCode.TEMP_ID_CONFLICT: ErrorInfo("You used this temp_id for another message; choose a new one.", False),
    ErrorCode.TEMP_ID_EXPIRED: ErrorInfo(
        "The temp_id is too old for the server to know whether it was used: read the history, then choose a new one.",
        False,
    ),
    ErrorCode.UNKNOWN_MESSAGE: ErrorInfo("The message does not exist, or you may not see it.", False),
    ErrorCode.NOT_THE_SENDER: ErrorInfo(
        "Only its sender may edit a message, or delete it for everyone (an administrator may delete it, too); only the"
        " device that wrote it may add envelopes.",
        False,
    ),
    ErrorCode.MESSAGE_DELETED: ErrorInfo("The message was deleted; there is nothing to edit.", False),
    ErrorCode.REVISION_CONFLICT: ErrorInfo(
        "The message has another revision than the one you gave: read it, then edit that one.", False
    ),
    ErrorCode.DEVICES_CHANGED: ErrorInfo(
        "The participants have other devices than at the version you gave: encrypt for those of the changed users, and"
        " send with the version given here.",
        False,
    ),
    ErrorCode.UNKNOWN_DEVICES: ErrorInfo(
        "Some envelopes are for devices that are not of the conversation's device set: leave these out.", False
    ),
    ErrorCode.CONTROL_CONFLICT: ErrorInfo(
        "Another control message has come since the one that yours follows: read the history up to `control_seq`, then"
        " send one that follows it.",
        False,
    ),
    ErrorCode.UNKNOWN_ATTACHMENT: ErrorInfo(
        "An attachment does not exist, is not yours, is gone, or was declared as an avatar: upload the file again.",
        False,
    ),
    ErrorCode.ATTACHMENT_INCOMPLETE: ErrorInfo(
        "The object store does not have an attachment or its thumbnail as declared: upload the missing parts, then"
        " complete it.",
        False,
    ),
    ErrorCode.ATTACHMENT_USED: ErrorInfo(
        "An attachment belongs to another message, is shown as an avatar, or is named twice: upload the file again.",
        False,
    ),
    ErrorCode.NO_OBJECT_STORE: ErrorInfo("This deployment keeps no attachments.", False),
    ErrorCode.QUOTA_EXCEEDED: ErrorInfo(
        "The files are larger, or you have uploaded more, than is allowed; the limit says which of them.", False
    ),
    ErrorCode.CURSOR_FOREIGN: ErrorInfo(
        "The cursor was not issued by this server's current database: go on without one.", False
    ),
    ErrorCode.CURSOR_EXPIRED: ErrorInfo(
        "The cursor is so old that the server no longer knows the changes since: go on without one.", False
    ),
    ErrorCode.KEY_HISTORY_FOREIGN: ErrorInfo(
        "The server may have forgotten which keys it handed out: ask for `key_status`, then upload new keys.",
        False,
    ),
    ErrorCode.UNAUTHENTICATED: ErrorInfo("The token is not this device's, or is no longer good.", False),
    ErrorCode.TOKEN_RENEWED: ErrorInfo(
        "The token was renewed, and the new one was used since: go on with the new one.", False
    ),
    ErrorCode.TOKEN_REUSED: ErrorInfo(
        "The token has ended, so it may be stolen: the device is revoked; log in again.", False
    ),
    ErrorCode.ACCOUNT_SUSPENDED: ErrorInfo(
        "An operator has suspended the account; keep the token, which is good again once that is lifted.", False
    ),
    ErrorCode.OVERLOADED: ErrorInfo("The server has more work queued than it accepts.", True),
    ErrorCode.UNAVAILABLE: ErrorInfo(
        "Postgres, Redis or the object store cannot be reached; the request may or may not have taken effect.", True
    ),
    ErrorCode.INTERNAL: ErrorInfo("A fault of the server, which has logged it.", True),
}


class CloseInfo(NamedTuple):
    """The meaning of a close code.

    :ivar meaning: one sentence for the developer of a client.
    :ivar reconnect: whether connecting again with the same token and the same behaviour makes sense.
    :ivar delay_s: the longest wait before connecting again; choose a random time up to it.
    """

    meaning: str
    reconnect: bool
    delay_s: float


class CloseCode(Enum):
    """WebSocket close codes that the server sends (RFC 6455, section 7.4)."""

    BYE = 1000
    PROTOCOL_ERROR = 1002
    TEXT_MESSAGE = 1003
    INVALID_PAYLOAD = 1007
    MESSAGE_TOO_BIG = 1009
    SERVER_ERROR = 1011
    GOING_AWAY = 1012
    HELLO_TIMEOUT = 4000
    UNAVAILABLE = 4002
    TOO_MANY_CONNECTIONS = 4003
    SILENT = 4004
    BAD_FRAME = 4500
    UNAUTHENTICATED = 4501
    HELLO_EXPECTED = 4502
    UNSUPPORTED_VERSION = 4503
    TOKEN_EXPIRED = 4504
    DEVICE_REVOKED = 4505
    TOKEN_REUSED = 4506
    TOO_MANY_BAD_FRAMES = 4507
    ACCOUNT_SUSPENDED = 4508

    @property
    def info(self) -> CloseInfo:
        return CLOSES[self]


CLOSES: Final[dict[CloseCode, CloseInfo]] = {
    CloseCode.BYE: CloseInfo("The client said bye; if it did not, the network ended the connection.", True, 5),
    CloseCode.PROTOCOL_ERROR: CloseInfo("The bytes are not a WebSocket connection.", False, 0),
    CloseCode.TEXT_MESSAGE: CloseInfo("A text message came; this protocol is binary.", False, 0),
    CloseCode.INVALID_PAYLOAD: CloseInfo("The reason in a close frame is not UTF-8.", False, 0),
    CloseCode.MESSAGE_TOO_BIG: CloseInfo("A WebSocket message had more bytes or fragments than the limit.", False, 0),
    CloseCode.SERVER_ERROR: CloseInfo("A fault of the server, which has logged it.", True, 5),
    CloseCode.GOING_AWAY: CloseInfo("This node is stopping; another node, or its successor, answers.", True, 2),
    CloseCode.HELLO_TIMEOUT: CloseInfo("No complete hello came in time.", True, 5),
    CloseCode.UNAVAILABLE: CloseInfo(
        "Postgres or Redis cannot be reached, or the node is full, so hello could not be answered.", True, 5
    ),
    CloseCode.TOO_MANY_CONNECTIONS: CloseInfo(
        "You have as many connections to this node as a user may have, or have caused as much cost there as a user may;"
        " the reason gives the limit.",
        True,
        60,
    ),
    CloseCode.SILENT: CloseInfo("Nothing came from the client for two keep-alive periods.", True, 5),
    CloseCode.BAD_FRAME: CloseInfo("The bytes of a WebSocket message are not a sequence of frames.", False, 0),
    CloseCode.UNAUTHENTICATED: CloseInfo("The token is unknown; log in again.", False, 0),
    CloseCode.HELLO_EXPECTED: CloseInfo("The first frame of a connection must be hello.", False, 0),
    CloseCode.UNSUPPORTED_VERSION: CloseInfo(
        "The client speaks only versions that are older than those that this server serves.", False, 0
    ),
    CloseCode.TOKEN_EXPIRED: CloseInfo("The token has expired; log in again.", False, 0),
    CloseCode.DEVICE_REVOKED: CloseInfo("The user has revoked this device; its token is void.", False, 0),
    CloseCode.TOKEN_REUSED: CloseInfo(
        "A token of this device was shown that had ended, so a thief may have it: log in again.", False, 0
    ),
    CloseCode.TOO_MANY_BAD_FRAMES: CloseInfo(
        "Too many frames came that are unknown, invalid or unexpected; the errors before said why.", False, 0
    ),
    CloseCode.ACCOUNT_SUSPENDED: CloseInfo(
        "An operator has suspended the account; keep the token, which is good again once that is lifted.", False, 0
    ),
}


def may_reconnect(code: int) -> bool:
    """Whether a client whose connection ended with this close code should connect again as it is.

    For a code of the table the table decides, for any other its range. Ends without a close code (1005, 1006) and those
    of proxies (1000, 1001, 1013, 1014) are accidents: connect again.
    """
    try:
        return CLOSES[CloseCode(code)].reconnect
    except ValueError:
        return code < 4500 and code != 1010
