"""A failure of a command, in one line for the user."""

from __future__ import annotations

import os
import sys
from typing import Final

from client.cli.console import CommandFailure, warn
from client.e2ee.vault import VaultFailure
from client.errors import (
    ClientFailure,
    ConnectionLost,
    HttpRefused,
    InvalidAuthorities,
    LoginBusy,
    LoginReplaced,
    NoReply,
    OutcomeUnknown,
    Unreachable,
)
from client.reasons import reason_of
from client.terminal import printable
from protocol.codes import CloseCode
from protocol.errors import ProtocolError

OF_CODES: Final = {
    "wrong_credentials": "wrong password, or there is no user called {username}",
    "account_closed": "the account is to be deleted; keep it with: python -m client login {username} --keep",
    "account_suspended": "the operator of the server has suspended {username}; ask them why",
    "unknown_reset": "the link is no longer valid; ask for another: python -m client reset {username}",
    "reset_expired": "the link is too old; ask for another: python -m client reset {username}",
    "registration_closed": "the server takes no new users",
    "invitation_required": "the server wants an invitation; give its code: python -m client register {username}"
    " --invitation CODE",
    "invitation_void": "the server does not accept that invitation, or no longer; ask its operator for another",
    "external_login_not_offered": "the server takes no tokens of another issuer; log in with your password",
    "no_password": "{username} has no password: set ALO_EXTERNAL_TOKEN to a token of the external issuer",
    "reauthentication_required": "log in at the external issuer again, and set ALO_EXTERNAL_TOKEN to the new token",
    "username_taken": "the name {username} is taken; choose another",
}
"""Code of a problem -> the line for the user."""


def report(error: BaseException, username: str) -> int:
    """Report a failure in one line; returns the exit status. Raises an error again that is a bug."""
    match error:
        case BaseExceptionGroup():
            interrupts, others = error.split(KeyboardInterrupt)
            return report((interrupts or others or error).exceptions[0], username)
        case KeyboardInterrupt():
            if os.isatty(2):
                print(file=sys.stderr)  # the terminal has shown ^C; the next output begins a line
            return 130
        case ClientFailure():
            warn(sentence(error, username))
        case CommandFailure():
            warn(str(error))
        case BrokenPipeError():
            warn("the reader of the output has gone")
        case ProtocolError() | OSError():
            warn(f"it went wrong: {reason_of(error)}")
        case _:
            raise error
    return 1


def sentence(error: ClientFailure, username: str) -> str:
    """One line for the user about a failure."""
    match error:
        case Unreachable():
            return f"the server does not answer: {printable(str(error))}"
        case HttpRefused(code=code) if code in OF_CODES:
            return OF_CODES[code].format(username=username)
        case HttpRefused(code="token_reused") | ConnectionLost(close_code=4506):
            return (
                f"the login of {username} was used by another program, perhaps by a thief, and has ended; log in again:"
                f" python -m client login {username}"
            )
        case HttpRefused(code="invalid_external_token"):
            return f"the server does not accept the token: {_why(error)}"
        case HttpRefused(status=401) | ConnectionLost(close_code=4501 | 4504 | 4505):
            return f"the login of {username} is no longer valid; log in again: python -m client login {username}"
        case HttpRefused(code="invalid_body" | "weak_password"):
            return f"the server does not accept that: {_why(error)}"
        case ConnectionLost():
            return f"the server has ended the connection: {_why(error)}"
        case NoReply() | OutcomeUnknown():
            return "no answer came in time; the server may have done it or not"
        case InvalidAuthorities() | LoginBusy() | LoginReplaced() | VaultFailure():
            return printable(str(error))
        case _:
            return f"the server refused: {printable(str(error))}"


def _why(error: HttpRefused | ConnectionLost) -> str:
    """The reason that the server gives, in a few words."""
    if isinstance(error, ConnectionLost):
        return printable(error.reason) or meaning_of(error.close_code)
    return printable(error.detail) or "it does not say why"


def meaning_of(close_code: int) -> str:
    """The meaning of a close code, in a few words."""
    try:
        return f"{CloseCode(close_code).info.meaning} ({close_code})"
    except ValueError:
        return f"it gives no reason ({close_code})"
