"""`python -m store migrate`: the process `release`, which runs before the other processes of a new version start.
`python -m store archive`: prints archives.
`python -m store import`: takes over the database of the service before this one (docs/moving-in.md).
`python -m store invitations`: makes, lists and revokes invitations.
`python -m store restored`: begins another history after a data directory was restored from a copy (docs/backup.md)."""

from __future__ import annotations

from runtime.early_signals import exit_when_told

if __name__ == "__main__":
    # An interrupted command has failed: processes that need its migrations must not start after it.
    exit_when_told(1)

import sys
from uuid import UUID

import structlog

from runtime.config import Config
from runtime.process import run_process
from store.cli import import_old
from store.cli.archive import USAGE as ARCHIVE_USAGE
from store.cli.archive import print_archive
from store.cli.invitations import USAGE as INVITATIONS_USAGE
from store.cli.invitations import command_of
from store.cli.restored import restored
from store.errors import StoreError
from store.postgres.migrate import migrate
from store.postgres.pool import Pool


async def _release(config: Config) -> None:
    pool = Pool(config.database_url, 1)
    await pool.wait_ready()
    pool.close()
    applied = await migrate(config.database_url)
    structlog.get_logger(__name__).info("release_done", applied=applied)


def _archive(what: str, text: str) -> None:
    try:
        conversation = UUID(text).bytes
    except ValueError:
        sys.exit(f"CONVERSATION must be a UUID, not {text}")
    run_process("archive", lambda config: print_archive(config, what, conversation), StoreError, BrokenPipeError)


def main() -> None:
    match sys.argv[1:]:
        case ["migrate"]:
            run_process("release", _release, StoreError)
        case ["archive", ("list" | "read") as what, conversation]:
            _archive(what, conversation)
        case ["import", *rest] if chosen := import_old.options(rest):
            run_process("import", lambda config: import_old.import_old(config, chosen), StoreError)
        case ["invitations", *rest]:
            run_process("invitations", command_of(rest), StoreError, BrokenPipeError)
        case ["restored"]:
            run_process("restored", restored, StoreError)
        case _:
            usages = ["python -m store migrate", import_old.USAGE, "python -m store restored"]
            usages += [INVITATIONS_USAGE, ARCHIVE_USAGE]
            sys.exit("usage: " + "\n       ".join(usages))


if __name__ == "__main__":
    main()
