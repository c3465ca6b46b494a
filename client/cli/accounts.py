"""Commands about the account of a user, and where the user is logged in."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from client.cli.console import CommandFailure, check, show, warn
from client.cli.environment import http_url
from client.cli.logins import at_server, load_login, make_keys, open_http
from client.cli.passwords import read_external_token, read_passphrase, read_password, read_proof
from client.e2ee.vault import WrongPassphrase
from client.errors import HttpRefused
from client.http import HttpClient
from client.login import LoginFile
from client.rules import fault_of_username, username_of
from client.terminal import local_time, printable
from client.unlock import forget_keys, is_possible, open_keyring

EXPORT_POLL_S: Final = 2.0
"""From one look whether an export is ready to the next."""


async def register(arguments: argparse.Namespace) -> None:
    """`register NAME [--invitation CODE]`"""
    check(fault_of_username(arguments.name))
    password = read_password(twice=True)
    async with at_server() as http:
        await http.register(arguments.name, password, invitation=arguments.invitation)
        await _log_in(http, arguments.name, password)
    show(f"registered and logged in as {arguments.name}")


async def log_in(arguments: argparse.Namespace) -> None:
    """`login NAME [--external-token]`"""
    check(fault_of_username(arguments.name))
    if arguments.external_token:
        await log_in_externally(arguments)
        return
    password = read_password(twice=False)
    async with at_server() as http:
        await _log_in(http, arguments.name, password, keeps_account=arguments.keep)
    show(f"logged in as {arguments.name}")


async def log_in_externally(arguments: argparse.Namespace) -> None:
    """`login NAME --external-token [--invitation CODE]`"""
    token = read_external_token()
    async with at_server() as http:
        username, credentials = await http.log_in_externally(
            token, arguments.name, _device_name(), invitation=arguments.invitation, keeps_account=arguments.keep
        )
    stored = LoginFile(http_url(), username_of(username))
    async with stored.locked():
        stored.save(credentials)
    if is_possible():
        async with at_server() as http:
            await make_keys(http, stored, credentials, read_passphrase(username))
    show(f"logged in as {printable(username)}")


async def _log_in(http: HttpClient, username: str, password: str, *, keeps_account: bool = False) -> None:
    stored = LoginFile(http_url(), username)
    async with stored.locked():
        if (kept := stored.load()) is not None:
            # Wrong passwords of strangers do not count for a device that the server knows, even if its token has
            # expired.
            http = http.with_token(kept.token)
        credentials = await http.log_in(username, password, _device_name(), keeps_account=keeps_account)
        stored.save(credentials)
    await make_keys(http, stored, credentials, password)


def _device_name() -> str:
    return platform.node() or "terminal"


async def delete_account(arguments: argparse.Namespace) -> None:
    """`delete-account NAME [--messages]`"""
    load_login(arguments.name)
    proof = read_proof()
    async with open_http(arguments.name) as http:
        await http.confirm(**proof)
        due = await http.delete_account(deletes_messages=arguments.messages)
    show(f"logged out everywhere; the account is deleted at {local_time(due)}")
    show(f"until then you keep it with: python -m client login {arguments.name} --keep")


async def export(arguments: argparse.Namespace) -> None:
    """`export NAME FILE`"""
    load_login(arguments.name)
    proof = read_proof()
    async with open_http(arguments.name) as http:
        await http.confirm(**proof)
        found = await http.exports() or await http.ask_export()
        while (parts := found[0].parts) is None:
            await trio.sleep(EXPORT_POLL_S)
            found = await http.exports()
            if not found:
                raise CommandFailure("the server could not make the export; ask again")
        with Path(arguments.file).open("xb") as file:  # noqa: ASYNC230  (one user, one file)
            for part in range(1, parts + 1):
                file.write(await http.export_part(found[0].export, part))
    show(f"all data of {arguments.name} are in {arguments.file}")


async def reset(arguments: argparse.Namespace) -> None:
    """`reset NAME [--token TOKEN]`"""
    async with at_server() as http:
        if arguments.token is None:
            await http.ask_reset(arguments.name)
            show("if the account has a verified address, a mail with a link is on its way")
            show(f"open the link, or: python -m client reset {arguments.name} --token (the end of the link)")
            return
        await http.reset_password(arguments.token, read_password(twice=True))
    show(f"the password is set; log in with: python -m client login {arguments.name}")


async def change_password(arguments: argparse.Namespace) -> None:
    """`password NAME [--others]`"""
    load_login(arguments.name)
    old = read_password(twice=False)
    new = read_password(twice=True, called="New password", variable="ALO_NEW_PASSWORD")
    async with open_http(arguments.name) as http:
        await http.change_password(old, new, ends_others=arguments.others)
    if is_possible() and "ALO_PASSPHRASE" not in os.environ:
        credentials = load_login(arguments.name)
        try:
            open_keyring(LoginFile(http_url(), arguments.name), credentials, old).set_passphrase(new)
        except WrongPassphrase:
            warn("the keys on this machine keep their passphrase: it was another one than the password")
    show("the password is changed" + (", and your other devices are logged out" if arguments.others else ""))


async def list_sessions(arguments: argparse.Namespace) -> None:
    """`sessions NAME`"""
    async with open_http(arguments.name) as http:
        for device in await http.devices():
            client = f" ({printable(device.client)})" if device.client else ""
            this = ", this device" if device.is_this else ""
            since, used = local_time(device.created), local_time(device.last_used)
            show(f"{printable(device.name)}{client}: logged in {since}, last used {used}{this}")


async def log_out(arguments: argparse.Namespace) -> None:
    """`logout NAME [--others | --everywhere]`"""
    async with open_http(arguments.name) as http:
        if arguments.others:
            await _confirmed(http, http.log_out_others)
        elif arguments.everywhere:
            await _confirmed(http, http.log_out_everywhere)
        else:
            await http.log_out()
    if arguments.others:
        show(f"{arguments.name} is logged out everywhere else")
        return
    stored = LoginFile(http_url(), arguments.name)
    async with stored.locked():
        stored.forget()
        forget_keys(stored)
    show(f"{arguments.name} is logged out" + (" everywhere" if arguments.everywhere else ""))


async def _confirmed(http: HttpClient, act: Callable[[], Awaitable[None]]) -> None:
    """Do it; show the password first if the server wants it."""
    try:
        await act()
    except HttpRefused as refused:
        if refused.code != "confirmation_required":
            raise
        await http.confirm(**read_proof())
        await act()
