"""Secrets that a command needs: from the environment, or from the terminal, without echo."""

from __future__ import annotations

import os
from getpass import getpass

from client.cli.console import CommandFailure, check
from client.cli.environment import EXTERNAL_TOKEN
from client.rules import fault_of_password
from client.terminal import printable


def read_password(*, twice: bool, called: str = "Password", variable: str = "ALO_PASSWORD") -> str:
    """Read a password from the environment or the terminal, without echo. Refuses one that breaks the server's rules.

    :raises CommandFailure: says why.
    """
    password = os.environ.get(variable)
    if password is not None:
        check(fault_of_password(password))
        return password
    try:
        password = getpass(f"{called}: ")
        check(fault_of_password(password))
        if twice and getpass(f"{called} again: ") != password:
            raise CommandFailure("the passwords differ")
    except (EOFError, OSError):
        raise CommandFailure(f"no password: there is no terminal to ask on; set {variable}") from None
    return password


def read_external_token() -> str:
    """Read a token of the external issuer from the environment or the terminal, without echo: other users of the
    machine see the arguments of commands.

    :raises CommandFailure: says why.
    """
    try:
        token = os.environ.get(EXTERNAL_TOKEN) or getpass("Token of the external issuer: ")
    except (EOFError, OSError):
        raise CommandFailure(f"no token: there is no terminal to ask on; set {EXTERNAL_TOKEN}") from None
    check(None if token.strip().isascii() else "a token has letters, digits and the signs - _ . alone")
    return token.strip()


def read_passphrase(name: str) -> str:
    """The passphrase of the keys on this machine, from the environment or the terminal, without echo.

    :raises CommandFailure: says why.
    """
    for variable in ("ALO_PASSPHRASE", "ALO_PASSWORD"):
        if (found := os.environ.get(variable)) is not None:
            return found
    try:
        return getpass(f"Password of {printable(name)}, which opens the keys on this machine: ")
    except (EOFError, OSError):
        raise CommandFailure("no passphrase: there is no terminal to ask on; set ALO_PASSPHRASE") from None


def read_proof() -> dict[str, str]:
    """What `HttpClient.confirm` shows: the token in ALO_EXTERNAL_TOKEN, if there is one, or the password.

    :raises CommandFailure: says why.
    """
    if os.environ.get(EXTERNAL_TOKEN):
        return {"external_token": read_external_token()}
    return {"password": read_password(twice=False)}
