"""What can go wrong with a line in a chat, in words for its user."""

from __future__ import annotations

from typing import Final

from client.addressing import TooManyChanges
from client.commands import NotPossible
from client.e2ee.vault import VaultFailure
from client.errors import (
    AttachmentGone,
    ClientFailure,
    FileChanged,
    HttpRefused,
    NoReply,
    OutcomeUnknown,
    RequestRefused,
    TransferFailed,
    Unreachable,
    WrongDigest,
)
from client.reasons import reason_of
from client.terminal import printable
from protocol.errors import LocalProtocolError

FAILURES: Final = (
    OutcomeUnknown,
    NoReply,
    RequestRefused,
    HttpRefused,
    Unreachable,
    LocalProtocolError,
    NotPossible,
    AttachmentGone,
    FileChanged,
    TransferFailed,
    WrongDigest,
    TooManyChanges,
    VaultFailure,
)
"""Failures of a line that was typed: the chat goes on after them."""


def why_not_done(error: Exception) -> str:
    """Why the chat has not done what a line says, in a few words."""
    match error:
        case OutcomeUnknown() | NoReply():
            return "no acknowledgement came; the server may have done it or not"
        case RequestRefused() | HttpRefused():
            return f"refused ({printable(error.code)})"
        case Unreachable():
            return "the server did not answer"
        case ClientFailure() | NotPossible():
            return str(error)
        case _:
            return reason_of(error)
