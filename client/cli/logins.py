"""The login that a command uses: its token, its keys, and the users whom it names."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from client.cli.console import CommandFailure, check, warn
from client.cli.environment import http_url
from client.cli.passwords import read_passphrase
from client.e2ee.keyring import Keyring
from client.errors import HttpRefused, LoginBusy, LoginReplaced, Unreachable
from client.http import Credentials, HttpClient, Token, User
from client.login import LoginFile
from client.renewal import RENEW_S, renew
from client.rules import fault_of_username
from client.terminal import printable
from client.unlock import HistoryReader, is_possible, open_keyring, publish


def at_server(token: Token = None) -> HttpClient:
    """The server for HTTP, asked with this token."""
    return HttpClient(http_url(), token=token)


def load_login(username: str) -> Credentials:
    """The login kept for that name at the server that the environment names."""
    credentials = LoginFile(http_url(), username).load()
    if credentials is None:
        raise CommandFailure(
            f"{username} is not logged in at {printable(http_url())}; do so with: python -m client login {username}"
        )
    return credentials


@asynccontextmanager
async def open_http(username: str) -> AsyncGenerator[HttpClient]:
    """The server, asked with the stored token of that name, which is renewed first if it is a day old."""
    credentials, stored = load_login(username), LoginFile(http_url(), username)
    async with at_server(stored.token) as http:
        if time.time() - credentials.renewed >= RENEW_S:
            # The command goes on with the token that it has; if that is no longer good, its refusal says so.
            with suppress(HttpRefused, LoginBusy, LoginReplaced):
                await renew(stored, credentials, http.renew)
        yield http


async def find_users(http: HttpClient, usernames: Sequence[str]) -> list[User]:
    """The users of these names; the error names the first that does not exist."""
    users = []
    for username in usernames:
        check(fault_of_username(username))
        try:
            users.append(await http.user(username))
        except HttpRefused as refused:
            if refused.code != "unknown_user":
                raise
            raise CommandFailure(f"there is no user called {username}") from None
    return users


def open_keys(name: str) -> Keyring:
    """The keys of a login, which are made at first.

    :raises CommandFailure: if there is no login, or no passphrase.
    """
    return open_keyring(LoginFile(http_url(), name), load_login(name), read_passphrase(name))


async def make_keys(http: HttpClient, stored: LoginFile, credentials: Credentials, passphrase: str) -> None:
    """Make the keys of a new device, and publish them: from now on others encrypt for it."""
    if not is_possible():
        return
    keyring = open_keyring(stored, credentials, os.environ.get("ALO_PASSPHRASE") or passphrase)
    try:
        await publish(http.with_token(credentials.token), keyring)
    except (HttpRefused, Unreachable) as error:
        warn(f"others cannot encrypt for this device before it chats: {printable(str(error))}")


def history_reader(http: HttpClient, name: str) -> HistoryReader:
    """A reader of messages that opens the keys of a login when it needs them."""
    return HistoryReader(http, partial(open_keys, name) if is_possible() else None)
