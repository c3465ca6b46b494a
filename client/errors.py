"""All exceptions of the client, so that a caller needs one import to catch them.

Two more come from `protocol.errors` and mean a bug: `LocalProtocolError` if the caller builds a frame that the server
would refuse, `RemoteProtocolError` if the server answers with the wrong kind of reply.
"""

from __future__ import annotations

from pathlib import Path

from protocol.codes import CloseCode, may_reconnect
from protocol.frames import Error


class ClientFailure(Exception):
    """Base of all of them; never raised itself."""


class Unreachable(ClientFailure):
    """No ALO Shield server answers there in time: refused, reset, timed out, or another program is listening.

    A request over HTTP may or may not have taken effect.

    :ivar retry_after_s: the wait that a full gateway has asked for; 0 if it did not.
    """

    def __init__(self, message: str, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidAuthorities(ClientFailure):
    """SSL_CERT_FILE or SSL_CERT_DIR cannot be used; the error says which, why, and what is allowed."""


class LoginBusy(ClientFailure):
    """Another program has held the lock of the stored login for too long: it has stopped, or waits for its server."""

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"another program has locked the stored login for {waited_s:g} s; end it, or let it go on")


class LoginReplaced(ClientFailure):
    """The stored login is gone, or is of another device: the user has logged out, or in again."""

    def __init__(self) -> None:
        super().__init__("the stored login is gone, or is of another device")


class HttpRefused(ClientFailure):
    """The server answered an HTTP request with an error.

    :ivar status: the HTTP status.
    :ivar code: one of those that the server's page `/docs` lists.
    :ivar detail: one English sentence for a developer.
    :ivar retry_after_ms: not None if and only if the same request may succeed later.
    """

    def __init__(self, status: int, code: str, detail: str, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{status} {code}" + (f": {detail}" if detail else ""))
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms

    @property
    def is_for_good(self) -> bool:
        """Whether the same request cannot succeed later either; a fault of the server (5xx) may be mended."""
        return self.retry_after_ms is None and self.status < 500


class RequestRefused(ClientFailure):
    """The server answered a request over the WebSocket with an error reply; the connection goes on.

    :ivar code: a value of `protocol.codes.ErrorCode`, or one that this client does not know.
    :ivar retry_after_ms: not None if and only if the client may send the same request again, after that number of ms.
    :ivar limit: the name of the limit that was met (`protocol/SPEC.md`, section 11), if it was one.
    :ivar limit_value: the value of that limit.
    :ivar error: the whole reply; of `devices_changed` it says which users have other devices now.
    """

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(f"{error.code}" + (f": {error.detail}" if error.detail else ""))
        self.code = error.code
        self.detail = error.detail
        self.retry_after_ms = error.retry_after_ms
        self.limit = error.limit
        self.limit_value = error.limit_value


class NoReply(ClientFailure):
    """A request over the WebSocket got no reply in time; it may or may not take effect. A connection goes on."""


class ConnectionLost(ClientFailure):
    """The WebSocket connection has ended; requests that waited may or may not have taken effect.

    :ivar close_code: RFC 6455, section 7.4; 1006 if there was no closing handshake.
    :ivar reason: the reason that the closing side gave, possibly empty.
    :ivar reconnect: whether connecting again with the same token makes sense (`protocol.codes.may_reconnect`).
    :ivar delay_s: the longest wait before doing so; choose a random time up to it.
    """

    def __init__(self, close_code: int, reason: str = "") -> None:
        super().__init__(f"closed with {close_code}" + (f": {reason}" if reason else ""))
        self.close_code = close_code
        self.reason = reason
        self.reconnect = may_reconnect(close_code)
        try:
            self.delay_s = CloseCode(close_code).info.delay_s
        except ValueError:
            self.delay_s = 0.0


class OutcomeUnknown(ClientFailure):
    """A message was sent, but no reply came before its deadline: it may have been stored, or not.

    Sending it again with the same `temp_id` cannot store it twice.

    :ivar temp_id: 16 bytes.
    """

    def __init__(self, temp_id: bytes) -> None:
        super().__init__(f"no acknowledgement in time for the message with temp_id {temp_id.hex()}")
        self.temp_id = temp_id


class FileChanged(ClientFailure):
    """Another program has changed a file, or has removed it, since its upload began."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed since its upload began; begin again")


class AttachmentGone(ClientFailure):
    """The user may not read the attachment, or its message is gone."""

    def __init__(self) -> None:
        super().__init__("the file is gone, or it is not yours to read")


class TransferFailed(ClientFailure):
    """The object store does not take or give a file; a later attempt goes on from the parts that it has."""


class RequestExpired(TransferFailed):
    """The object store takes a signed request no longer; the server signs another."""


class ObjectGone(TransferFailed):
    """The object store does not have the file."""


class WrongDigest(ClientFailure):
    """The bytes from the object store are not those that the sender has uploaded; they are thrown away."""

    def __init__(self) -> None:
        super().__init__("the bytes that came are not those of the file; they are thrown away, fetch it again")
