"""`python -m store import`: takes over the database of the service before this one (docs/moving-in.md)."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from runtime.config import Config, ConfigError
from store.cli.import_progress import Bar
from store.cli.import_rules import RULES
from store.imports.report import lines
from store.imports.steps import import_from
from store.postgres.driver import is_url

USAGE: Final = "python -m store import SOURCE_URL [--json]"


class ImportOptions(msgspec.Struct, frozen=True):
    """
    :ivar source_url: of the old database.
    :ivar is_json: the report is for programs.
    """

    source_url: str
    is_json: bool


def options(arguments: list[str]) -> ImportOptions | None:
    """None: the arguments are wrong."""
    match arguments:
        case [url] | [url, "--json"] | ["--json", url] if not url.startswith("--"):
            return ImportOptions(url, len(arguments) == 2)
    return None


async def import_old(config: Config, chosen: ImportOptions) -> None:
    """Import, and print the report.

    :raises ConfigError: if the URL cannot be read.
    :raises StoreError: see `import_from`.
    """
    if not is_url(chosen.source_url):
        raise ConfigError("SOURCE_URL must be a postgresql:// URL or a libpq connection string")
    with Bar() as bar:
        made = await import_from(chosen.source_url, config.database_url, RULES, bar)
    text = msgspec.json.encode(made).decode() if chosen.is_json else "\n".join(lines(made))
    sys.stdout.write(f"{text}\n")
