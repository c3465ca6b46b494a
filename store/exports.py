"""Exports: a file with all data of an account, which its user has asked for.

A job reads the data page by page (`store.exported`), and writes parts into the object store, each a gzip file of lines
of JSON: all parts, one after the other, are one gzip file, too (RFC 1952). `docs/accounts.md` has the format.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import Struct

from store import sql
from store.emails import AccountNotice
from store.errors import TooManyExports, UnknownExport
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import SYSTEM, Source

_sql = sql.load("exports")

EXPORTS: Final = "exports/"
"""Prefix of keys in the object store."""

WINDOW_S: Final = 86400.0
"""A user may ask for one export in this time: it reads all that the user has ever got."""

MOST_S: Final = 86400.0
"""An export that is not ready after this time has failed: the attempts of its job take some hours."""

KEPT_S: Final = 7 * 86400.0
"""How long an export can be fetched: long enough for a mail that waits over a holiday, and a copy of everything should
not lie about."""


class Export(Struct, frozen=True):
    """An export; times in microseconds since 1970.

    :ivar ready: None while it is being made; like the following.
    :ivar expires: when it is deleted.
    :ivar parts: how many there are, from 1.
    """

    export: bytes
    asked: int
    ready: int | None
    expires: int | None
    parts: int | None
    size_bytes: int | None


def prefix_of(export: bytes) -> str:
    """The prefix of the keys of all parts."""
    return f"{EXPORTS}{UUID(bytes=export)}/"


def key_of(export: bytes, part: int) -> str:
    """
    :param part: from 1.
    """
    return f"{prefix_of(export)}{part:06d}.jsonl.gz"


async def ask(pool: Pool, user: bytes, *, source: Source = SYSTEM) -> bytes:
    """Have an export made; return its id.

    :raises TooManyExports: if the user has asked for one lately.
    """
    parameters = {"user": uuid(user), "window_s": WINDOW_S, "most_s": MOST_S, "source": source.encoded()}
    [(outcome, export, wait_s)] = await pool.fetch(_sql.ask, parameters)
    if outcome == "limited":
        raise TooManyExports(wait_s)
    return bytes(export)


async def exports_of(pool: Pool, user: bytes) -> list[Export]:
    """The user's exports that are being made or can be fetched, the newest first; a few at most."""
    return [Export(*row) for row in await pool.fetch(_sql.of_user, {"user": uuid(user)})]


async def check_part(pool: Pool, user: bytes, export: bytes, part: int) -> None:
    """
    :raises UnknownExport: if the user has no such export that is ready, or it has no such part.
    """
    rows = await pool.fetch(_sql.parts_of, {"export": uuid(export), "user": uuid(user)})
    if not rows or not 1 <= part <= rows[0][0]:
        raise UnknownExport


async def user_of_open(pool: Pool, export: bytes) -> bytes | None:
    """The user of an export that is still to be made; None if it is not."""
    rows = await pool.fetch(_sql.open, {"export": uuid(export)})
    return rows[0][0] if rows else None


async def note_ready(pool: Pool, export: bytes, *, parts: int, size_bytes: int) -> bool:
    """Note that all parts are in the object store, and have a mail sent. False: the export is gone, or was ready."""
    parameters = {"export": uuid(export), "parts": parts, "size_bytes": size_bytes, "kept_s": KEPT_S}
    return bool(await pool.fetch(_sql.note_ready, parameters))


async def ready_notice(pool: Pool, export: bytes) -> AccountNotice | None:
    """The mail that an export can be fetched; None if it is not wanted by now. `at` is until when."""
    rows = await pool.fetch(_sql.ready_notice, {"export": uuid(export)})
    return AccountNotice(*rows[0]) if rows else None


async def old_exports(pool: Pool, *, limit: int) -> list[bytes]:
    """Exports whose time is over, or that have failed: the caller deletes their objects, and then removes them.

    :param limit: the most of either.
    """
    return [export for (export,) in await pool.fetch(_sql.old, {"most_s": MOST_S, "limit": limit})]


async def exports_of_account(pool: Pool, user: bytes) -> list[bytes]:
    """All exports of a user, also those that cannot be fetched."""
    return [export for (export,) in await pool.fetch(_sql.of_account, {"user": uuid(user)})]


async def remove(pool: Pool, export: bytes) -> None:
    """Remove an export, whose objects are gone."""
    await pool.fetch(_sql.remove, {"export": uuid(export)})
