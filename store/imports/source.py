"""The database of the service before this one. All statements only read, and see one snapshot."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from protocol.limits import MAX_CONTENT_BYTES, MAX_CONTENT_TYPE_BYTES, MAX_NONCE_BYTES, MAX_PUBLIC_KEY_BYTES
from store import sql
from store.errors import DatabaseError, StoreError
from store.postgres.driver import PostgresConnection, connected

_sql = sql.load("imports/source")

SESSION: Final = "set client_encoding = 'UTF8'; set datestyle = 'ISO, YMD'; set timezone = 'UTC'"
"""Both sides write and read texts and times in one way."""

COLUMNS: Final[dict[str, set[str]]] = {
    "auth.users": {
        *("id", "email", "encrypted_password", "email_confirmed_at", "banned_until", "deleted_at", "created_at"),
        "raw_user_meta_data",
    },
    "public.users": {"id", "username", "display_name", "avatar_url", "last_seen_at", "created_at"},
    "public.conversations": {"id", "type", "name", "avatar_url", "created_at"},
    "public.conversation_participants": {"conversation_id", "user_id", "last_read_at", "joined_at"},
    "public.messages": {
        *("id", "conversation_id", "sender_id", "encrypted_content", "content_type", "nonce", "ephemeral_public_key"),
        *("created_at", "deleted_at"),
    },
    "public.message_receipts": {"message_id", "user_id", "status", "read_at"},
    "public.attachments": {"id", "message_id", "r2_key", "file_size", "mime_type", "thumbnail_r2_key"},
    "public.contacts": {"user_id", "contact_user_id"},
}
"""Table -> the columns that an import reads. Roles are read if conversation_participants has a column `role`."""


_INSUFFICIENT_PRIVILEGE: Final = "42501"


class NotTheOldService(StoreError):
    """The database lacks columns that the old service had, or the role may not read all rows."""


class OldDatabase:
    """A transaction in that database."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def identity(self) -> str:
        """A text that tells this database from others."""
        [(identity,)] = await self._connection.query(_sql.identity)
        return str(identity)

    async def check(self) -> None:
        """
        :raises NotTheOldService: if columns are missing.
        """
        rows = await self._connection.query(_sql.columns)
        found = set(rows)
        missing = sorted(
            f"{table}.{name}" for table, names in COLUMNS.items() for name in names if (table, name) not in found
        )
        if missing:
            raise NotTheOldService(f"the source lacks, or hides from this role: {', '.join(missing)}")

    def rows(self, name: str) -> AsyncGenerator[bytes, None]:
        """The rows of a query of source.sql, in pieces.

        :raises NotTheOldService: if the role may not read all of them.
        """
        return self._copied(getattr(_sql, name))

    def messages(self, ids: str) -> AsyncGenerator[bytes, None]:
        """The messages with these ids, a literal of Postgres' uuid[]."""
        limits = {
            "content": MAX_CONTENT_BYTES,
            "content_type": MAX_CONTENT_TYPE_BYTES,
            "nonce": MAX_NONCE_BYTES,
            "key": MAX_PUBLIC_KEY_BYTES,
        }
        return self._copied(_sql.messages.format(**limits, ids=ids))

    async def _copied(self, query: str) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._connection.copy_out(query)) as pieces:
                async for piece in pieces:
                    yield piece
        except DatabaseError as error:
            if error.sqlstate == _INSUFFICIENT_PRIVILEGE:
                raise NotTheOldService(f"the source refuses: {error}") from error
            raise


@asynccontextmanager
async def open_source(url: str) -> AsyncGenerator[OldDatabase, None]:
    """The source, while the block runs.

    :raises Unavailable: if it cannot be reached.
    :raises NotTheOldService: if it lacks columns.
    """
    async with connected(url, is_ours=False) as connection:
        await connection.script(SESSION)
        await connection.script(_sql.begin)
        source = OldDatabase(connection)
        await source.check()
        yield source
