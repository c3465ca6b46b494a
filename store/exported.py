"""The data of an account, for an export: lines of JSON, page by page, in bounded memory.

`docs/accounts.md` has a row for each table, which names the kind of its lines or says why the export leaves it out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

from store import sql
from store.postgres.driver import uuid

_sql = sql.load("exported")

PAGE: Final = 200
"""Lines of one query; conversations have up to 1,000 participants each."""

SEQS: Final = 100
"""Messages of one conversation that one query looks at: 100 of the largest have 9 MB in base64."""

_KINDS: Final = (
    _sql.account,
    _sql.external_identity,
    _sql.email,
    _sql.quiet_hours,
    _sql.devices,
    _sql.notifiers,
    _sql.contacts,
    _sql.security_events,
    _sql.activity,
    _sql.uploads,
)


class ExportSource(Protocol):
    """Where the data is read: the pool of the primary, or a replica (`store.replicas`)."""

    async def fetch(self, sql: str, parameters: Mapping[str, Any], /) -> list[tuple[Any, ...]]:
        """Run a query.

        :raises StoreError: as `Pool.fetch` does.
        """
        ...


async def lines_of(source: ExportSource, user: bytes) -> AsyncGenerator[str, None]:
    """All lines of an export: first the account, then each conversation, followed by its messages in the order of
    `seq`."""
    for query in _KINDS:
        async for _, line in _pages(source, query, user, PAGE):
            yield line
    async for conversation, line in _pages(source, _sql.conversations, user, PAGE // 10):
        yield line
        async for message in _messages(source, user, conversation):
            yield message


async def _pages(source: ExportSource, query: str, user: bytes, limit: int) -> AsyncGenerator[tuple[str, str], None]:
    after = ""
    while True:
        rows = await source.fetch(query, {"user": uuid(user), "after": after, "limit": limit})
        for key, line in rows:
            yield key, line
        if len(rows) < limit:
            return
        after = rows[-1][0]


async def _messages(source: ExportSource, user: bytes, conversation: str) -> AsyncGenerator[str, None]:
    after = 0
    while True:
        parameters = {
            "user": uuid(user),
            "conversation": uuid(UUID(conversation).bytes),
            "after": after,
            "limit": SEQS,
        }
        rows = await source.fetch(_sql.messages, parameters)
        if not rows:
            return
        for _, line in rows[:-1]:
            yield line
        after = rows[-1][0]
