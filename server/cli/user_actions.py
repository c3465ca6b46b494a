"""What operators do to users: `ops user ACTION NAME` and `ops sessions end`.

The transaction of each action has its security events, with the operator's name.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias
from uuid import UUID

import trio

from runtime.commands import CommandError, Rows, suggestion
from server.cli.found_users import named_user
from server.cli.operators import source_of_options
from server.cli.services import CommandAnswer, OperatorServices
from server.cli.shown import shown_id, shown_time
from store import account_deletions, devices, exports, inspected_users, password_resets, suspensions
from store.errors import TooManyExports, UnknownDevice
from store.exports import Export
from store.objects.interface import Objects
from store.objects.url import open_objects
from store.postgres.pool import Pool
from store.security_events import Source

POLL_S: Final = 0.5
"""Between two looks whether an export is ready."""

Act: TypeAlias = Callable[[OperatorServices, bytes, str, Source, argparse.Namespace], Awaitable[Rows]]
"""An action on a user, who is given by id and by name."""


async def act(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """Do what `ACTION NAME` says.

    :raises CommandError: if there is no such action or user, or the action cannot be done.
    """
    action, typed = options.words
    if action not in ACTIONS:
        raise CommandError(f"{action} is no action: there are {', '.join(ACTIONS)}{suggestion(action, list(ACTIONS))}")
    source = source_of_options(options)
    user = await named_user(services.pool, typed)
    account = await inspected_users.account_of(services.pool, user)
    if account.deleted is not None:
        raise CommandError(f"{typed} was deleted at {shown_time(account.deleted)}")
    return CommandAnswer(await ACTIONS[action](services, user, account.username, source, options))


async def _suspend(
    services: OperatorServices, user: bytes, name: str, source: Source, options: argparse.Namespace
) -> Rows:
    if not await suspensions.set_suspended(services.pool, user, is_suspended=True, source=source):
        raise CommandError(f"{name} is suspended already (python -m server ops user {name} shows since when)")
    return [{"user": name, "done": "suspended"}]


async def _unsuspend(
    services: OperatorServices, user: bytes, name: str, source: Source, options: argparse.Namespace
) -> Rows:
    if not await suspensions.set_suspended(services.pool, user, is_suspended=False, source=source):
        raise CommandError(f"{name} is not suspended")
    return [{"user": name, "done": "unsuspended"}]


async def _delete(
    services: OperatorServices, user: bytes, name: str, source: Source, options: argparse.Namespace
) -> Rows:
    days = 0.0 if options.now else services.config.account_deletion_days
    what = "with the user's messages for everyone" if options.messages else "and the messages stay"
    if not options.yes:
        when = "within a minute" if days == 0 else f"in {days:g} days, unless the user logs in and keeps it"
        raise CommandError(f"this deletes the account of {name} {when}, {what}: repeat the command with --yes")
    due = await account_deletions.close(
        services.pool, user, delay_s=days * 86400, deletes_messages=options.messages, source=source
    )
    return [{"user": name, "done": "closed", "deleted_at": shown_time(due), "deletes_messages": options.messages}]


async def _reset_password(
    services: OperatorServices, user: bytes, name: str, source: Source, options: argparse.Namespace
) -> Rows:
    token = await password_resets.void(services.pool, user, source=source)
    if token is None:
        raise CommandError(f"{name} has no password: the user logs in by the external issuer, who can reset that one")
    base = services.config.public_url.rstrip("/")
    link = f"{base}/v1/password-resets/{token}" if base else None
    hours = password_resets.VOIDED_S / 3600
    return [{"user": name, "done": "password voided", "link": link, "token": token, "good_h": hours}]


async def _export(
    services: OperatorServices, user: bytes, name: str, source: Source, options: argparse.Namespace
) -> Rows:
    config = services.config
    async with open_objects(config.object_store_url) as objects:
        if objects is None:
            raise CommandError("OBJECT_STORE_URL is not set: exports are files in the object store")
        export, is_new = await _asked(services.pool, user, source)
        if options.to is not None:
            found = await _wait_ready(services.pool, user, export, options.wait)
            await _write(objects, found, Path(options.to))
    [found] = [each for each in await exports.exports_of(services.pool, user) if each.export == export]
    return [
        {
            "user": name,
            "export": shown_id(export),
            "done": "asked" if is_new else "asked before",
            "ready": shown_time(found.ready),
            "expires": shown_time(found.expires),
            "parts": found.parts,
            "bytes": found.size_bytes,
            "file": options.to,
        }
    ]


async def _asked(pool: Pool, user: bytes, source: Source) -> tuple[bytes, bool]:
    """The export to show, and whether it was asked for now. A user has one in a day at most."""
    try:
        return await exports.ask(pool, user, source=source), True
    except TooManyExports:
        return (await exports.exports_of(pool, user))[0].export, False


async def _wait_ready(pool: Pool, user: bytes, export: bytes, wait_s: float) -> Export:
    with trio.move_on_after(wait_s):
        while True:
            for each in await exports.exports_of(pool, user):
                if each.export == export and each.parts is not None:
                    return each
            await trio.sleep(POLL_S)
    raise CommandError(
        f"the export was not ready within {wait_s:g} s: is a worker running? (python -m jobs status); then repeat"
    )


async def _write(objects: Objects, export: Export, file: Path) -> None:
    """Write all parts, one after the other: one gzip file."""
    assert export.parts is not None
    try:
        to = await trio.to_thread.run_sync(_open_private, file)
        with to:
            for part in range(1, export.parts + 1):
                await trio.to_thread.run_sync(to.write, await objects.get(exports.key_of(export.export, part)))
    except FileExistsError:
        raise CommandError(f"{file} exists: give --to another name") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror or error}") from None


def _open_private(file: Path) -> BinaryIO:
    """It has everything of a user: for the operator alone, and never over a file that is there."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


ACTIONS: Final[dict[str, Act]] = {
    "suspend": _suspend,
    "unsuspend": _unsuspend,
    "delete": _delete,
    "export": _export,
    "reset-password": _reset_password,
}
"""The actions of `ops user ACTION NAME`."""


async def end_sessions(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """Revoke all devices of a user, or one.

    :raises CommandError: if there is no such user or device.
    """
    source = source_of_options(options)
    user = await named_user(services.pool, options.name)
    good = [each for each in await inspected_users.devices_of(services.pool, [user]) if each.revoked is None]
    if options.device is None:
        await devices.revoke_devices(services.pool, user, source=source)
        ended = good
    else:
        id_ = _device_id(options.device)
        try:
            await devices.revoke_device(services.pool, user, id_.bytes, source=source)
        except UnknownDevice:
            known = [str(shown_id(each.device)) for each in good]
            hint = suggestion(str(id_), known) or f"; the devices are {', '.join(known) or 'none'}"
            raise CommandError(f"{options.name} has no device {id_}{hint}") from None
        ended = [each for each in good if each.device == id_.bytes]
    return CommandAnswer(
        [{"user": options.name, "device": shown_id(each.device), "name": each.name, "done": "ended"} for each in ended]
    )


def _device_id(typed: str) -> UUID:
    try:
        return UUID(typed)
    except ValueError:
        raise CommandError(f"--device must be the id of a device, not {typed}") from None
