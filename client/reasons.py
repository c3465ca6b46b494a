"""Causes of failures in words for a person: one line for every exception that can come up here, never empty.

The texts of exceptions are for developers, and often empty: `str(TimeoutError())` is, and that of a failed TLS
handshake in Trio is, too.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

import httpx
import trio

from client.terminal import printable
from protocol.errors import ProtocolError, RemoteProtocolError

UNKNOWN: Final = "the cause is not known"
"""For an exception without a text that is not in this table."""

_LOST: Final = "the other side broke off the connection"
_OF_TYPES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (TimeoutError, "no answer came in time"),
    (trio.TooSlowError, "no answer came in time"),
    (httpx.TimeoutException, "no answer came in time"),
    (ConnectionRefusedError, "no server listens there"),
    (ConnectionError, _LOST),
    (socket.gaierror, "the host name is unknown"),
    (UnicodeError, "the host name is not valid"),
    (httpx.InvalidURL, "the address is not valid: it must be like http://host:port"),
    (httpx.UnsupportedProtocol, "the address must begin with http:// or https://"),
    (httpx.ProtocolError, "the other side does not speak HTTP"),
    (httpx.DecodingError, "the other side does not speak HTTP"),
    (httpx.TooManyRedirects, "the server redirects without end"),
    (ssl.SSLEOFError, "the other side ended the connection during the TLS handshake"),
    (ssl.SSLZeroReturnError, _LOST),
)
"""The first that fits counts."""

_OF_CAUSELESS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (trio.BrokenResourceError, _LOST),
    (trio.ClosedResourceError, _LOST),
    (httpx.NetworkError, "the connection failed"),
    (httpx.HTTPError, "the request failed"),
)
"""For errors that a library raises in place of a cause, if the cause is not in the table."""


def reason_of(error: BaseException) -> str:
    """The cause of a failure, in one line that is fit for a terminal."""
    for each in _chain(error):
        if known := _known(each):
            return known
    for type_, reason in _OF_CAUSELESS:
        if isinstance(error, type_):
            return reason
    return UNKNOWN


def _chain(error: BaseException) -> list[BaseException]:
    """The error, its cause and so on, with the first error of each group; the innermost first."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        # Also a cause that is hidden by `from None`: httpcore hides the cause of a failed TLS handshake.
        each = each.exceptions[0] if isinstance(each, BaseExceptionGroup) else each.__cause__ or each.__context__
    return found[::-1]


def _known(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message or 'no reason was given'}"
    for type_, reason in _OF_TYPES:
        if isinstance(error, type_):
            return reason
    match error:
        case ssl.SSLError(reason=str(reason)) if reason:
            return f"the TLS handshake failed: {reason.replace('_', ' ').lower()}"
        case ssl.SSLError():
            return "the TLS handshake failed"
        case OSError(errno=int(number)):
            where = f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
            return where + os.strerror(number)
        case OSError() if str(error):
            return printable(str(error))
        case RemoteProtocolError():
            return f"the other side does not speak this protocol: {printable(error.detail)}"
        case ProtocolError() if str(error):
            return printable(str(error))
    return None
