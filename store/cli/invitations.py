"""`python -m store invitations`: makes, lists and revokes invitations, for deployments with REGISTRATION=invitation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from runtime.config import Config
from store import invitations
from store.postgres.migrate import wait_migrated
from store.postgres.pool import Pool

MAX_USES: Final = 1_000_000

MAX_DAYS: Final = 3650.0

USAGE: Final = "python -m store invitations add [--uses N] [--days N] | list | revoke INVITATION"

Command: TypeAlias = Callable[[Config], Awaitable[None]]


def command_of(arguments: Sequence[str]) -> Command:
    """The command, which prints an object of JSON for each invitation.

    :param arguments: behind the word `invitations`.
    :raises SystemExit: with status 2 if they are not understood.
    """
    parser = argparse.ArgumentParser(prog="python -m store invitations", description="Codes with which users register.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    add = commands.add_parser("add", help="make an invitation; its code is printed once and is not stored")
    add.add_argument("--uses", type=_uses, default=1, metavar="N", help="how many users may register (default 1)")
    add.add_argument("--days", type=_days, default=7.0, metavar="N", help="how long it is good (default 7)")
    commands.add_parser("list", help="show the invitations with which users can register")
    revoke = commands.add_parser("revoke", help="end an invitation; users who have registered with it stay")
    revoke.add_argument("invitation", type=UUID, metavar="INVITATION", help="its id, as `list` shows it")
    parsed = parser.parse_args(arguments)

    async def run(config: Config) -> None:
        pool = Pool(config.database_url, 1)
        await wait_migrated(pool)
        match parsed.command:
            case "add":
                invitation, code, expires = await invitations.add(
                    pool, uses=parsed.uses, lifetime_s=parsed.days * 86400
                )
                _print(invitation=_id(invitation), code=code, uses=parsed.uses, expires=_time(expires))
            case "list":
                for each in await invitations.open_invitations(pool):
                    _print(
                        invitation=_id(each.invitation),
                        created=_time(each.created),
                        expires=_time(each.expires),
                        most_uses=each.most_uses,
                        uses=each.uses,
                    )
            case _:
                await invitations.revoke(pool, parsed.invitation.bytes)
        pool.close()

    return run


def _uses(text: str) -> int:
    uses = int(text) if text.isdecimal() else 0
    if not 1 <= uses <= MAX_USES:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_USES}")
    return uses


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0.0 < days <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"must be more than 0, and at most {MAX_DAYS:g}")
    return days


def _id(invitation: bytes) -> str:
    return str(UUID(bytes=invitation))


def _time(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _print(**fields: Any) -> None:
    sys.stdout.write(f"{msgspec.json.encode(fields).decode()}\n")
