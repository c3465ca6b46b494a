"""A cache of the pages that clients read most, encoded: the first of a user's list, the newest of a conversation.

Each use checks the version of the page in Postgres (`server.http.versioned_cache`), so an answer has everything that
was acknowledged before its request. A cached page is used only until the process makes a new connection to Postgres:
versions are numbers of transactions, which begin again when a back-up is restored, and no back-up is restored while a
process is connected.
"""

from __future__ import annotations

from typing import Final

from server.http.answers.conversations import list_body
from server.http.answers.messages import MAX_CONTENT_BYTES, history_body
from server.http.encoding import Encoding, encode
from server.http.versioned_cache import CacheStatistics, VersionedCache
from store import conversations, messages
from store.accounts import Identity
from store.postgres.pool import Pool

MAX_LIST_BYTES: Final = 64 * 1024 * 1024
MAX_HISTORY_BYTES: Final = 64 * 1024 * 1024
"""For each process. Either holds some 2,000 pages of 50 entries."""


class FirstPages:
    """First pages as bodies of answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lists: VersionedCache[bytes] = VersionedCache("list", MAX_LIST_BYTES)
        self._histories: VersionedCache[bytes] = VersionedCache("history", MAX_HISTORY_BYTES)

    async def first_of_list(self, token: str, limit: int, encoding: Encoding) -> tuple[Identity, bytes]:
        """The owner of a token, and the first page of the owner's conversations. Errors are those of the store."""
        identity, version = await conversations.list_version_for(self._pool, token)
        key = (identity.user, limit, encoding)
        body = self._lists.get(key, (version, self._pool.connects))
        if body is not None:
            return identity, body
        page, version = await conversations.first_page(self._pool, identity.user, limit=limit + 1)
        body = encode(list_body(page, limit, encoding), encoding)
        if version is not None:
            self._lists.put(key, (version, self._pool.connects), body, len(body))
        return identity, body

    async def newest_of(
        self, token: str, conversation: bytes, limit: int, encoding: Encoding
    ) -> tuple[Identity, bytes]:
        """The owner of a token, and the newest messages of a conversation as the owner sees them.

        :raises NotAParticipant: if the owner may not see it.
        """
        identity, version = await messages.history_version_for(self._pool, token, conversation)
        user = identity.user
        key = (conversation, user if version.is_personal else version.floor, limit, encoding)
        current = (version if version.is_personal else version.changed, self._pool.connects)
        body = self._histories.get(key, current)
        if body is None:
            page = await messages.history(self._pool, user, conversation, limit=limit, max_bytes=MAX_CONTENT_BYTES)
            body = encode(history_body(page, conversation, "before", encoding), encoding)
            self._histories.put(key, current, body, len(body))
        return identity, body

    def statistics(self) -> list[CacheStatistics]:
        return [self._lists.statistics(), self._histories.statistics()]
