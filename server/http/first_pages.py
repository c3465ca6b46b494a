"""A cache of the pages that clients read most, encoded: the first of a user's list, the newest of a conversation.

Each use checks the version of the page in Postgres (`server.http.versioned_cache`), so an answer has everything that
was acknowledged before its request. A cached page is used only until the process makes a new connection to Postgres:
versions are numbers of transactions, which begin again when a back-up is restored, and no back-up is restored while a
process is connected.

A client that shows the entity tag of the current page gets `304`, and the page is not read.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeAlias

from msgspec import Struct

from server.http.answers.conversations import list_body
from server.http.answers.messages import MAX_CONTENT_BYTES, history_body
from server.http.compression import CompressedForms
from server.http.conditional import EntityTags, held_tag
from server.http.encoding import Encoding, encode
from server.http.versioned_cache import CacheStatistics, VersionedCache
from store import conversations, messages
from store.accounts import Identity
from store.messages import HistoryVersion
from store.postgres.pool import Pool

MAX_LIST_BYTES: Final = 64 * 1024 * 1024
MAX_HISTORY_BYTES: Final = 64 * 1024 * 1024
"""For each process. Either holds some 1,000 pages of 50 entries, with their compressed forms."""


class CachedPage(Struct, frozen=True):
    """A page, encoded.

    :ivar cursor: of the next page; None: this page is the last.
    :ivar tag: None if there is none this time.
    :ivar forms: the compressed forms that clients have asked for.
    """

    body: bytes
    cursor: str | None
    tag: str | None
    forms: CompressedForms


class HeldPage(Struct, frozen=True):
    """A page that the client holds, under this tag."""

    tag: str


FirstPage: TypeAlias = CachedPage | HeldPage


class FirstPages:
    """First pages as bodies of answers."""

    def __init__(self, pool: Pool, tags: EntityTags) -> None:
        self._pool = pool
        self._tags = tags
        self._lists: VersionedCache[CachedPage] = VersionedCache("list", MAX_LIST_BYTES)
        self._histories: VersionedCache[CachedPage] = VersionedCache("history", MAX_HISTORY_BYTES)

    async def first_of_list(
        self, token: str, limit: int, encoding: Encoding, if_none_match: str = ""
    ) -> tuple[Identity, FirstPage]:
        """The owner of a token, and the first page of the owner's conversations. Errors are those of the store.

        :param if_none_match: the header of that name.
        """
        history = await self._tags.history()
        identity, version = await conversations.list_version_for(self._pool, token)
        key = (identity.user, limit, encoding)
        if if_none_match and (held := held_tag(if_none_match, self._tags.of(history, "list", *key, version))):
            return identity, HeldPage(held)
        cached = self._lists.get(key, (version, history.id, self._pool.connects))
        if cached is not None:
            return identity, cached
        page, version = await conversations.first_page(self._pool, identity.user, limit=limit + 1)
        body = list_body(page, limit, encoding)
        tag = self._tags.of(history, "list", *key, version)
        cached = CachedPage(encode(body, encoding), body.cursor, tag, CompressedForms())
        if version is not None:
            _keep(self._lists, key, (version, history.id, self._pool.connects), cached)
        return identity, cached

    async def newest_of(
        self, token: str, conversation: bytes, limit: int, encoding: Encoding, if_none_match: str = ""
    ) -> tuple[Identity, FirstPage]:
        """The owner of a token, and the newest messages of a conversation as the owner sees them.

        :param if_none_match: the header of that name.
        :raises NotAParticipant: if the owner may not see it.
        """
        history = await self._tags.history()
        identity, version = await messages.history_version_for(self._pool, token, conversation)
        user = identity.user
        readers, current = _state(user, version)
        key = (conversation, readers, limit, encoding)
        if if_none_match and (held := held_tag(if_none_match, self._tags.of(history, "history", *key, current))):
            return identity, HeldPage(held)
        cached = self._histories.get(key, (current, history.id, self._pool.connects))
        if cached is None:
            page = await messages.history(self._pool, user, conversation, limit=limit, max_bytes=MAX_CONTENT_BYTES)
            body = history_body(page, conversation, "before", encoding)
            tag = self._tags.of(history, "history", *key, current)
            cached = CachedPage(encode(body, encoding), body.cursor, tag, CompressedForms())
            _keep(self._histories, key, (current, history.id, self._pool.connects), cached)
        return identity, cached

    async def tag_of_older(
        self, token: str, conversation: bytes, bounds: tuple[int | str | None, ...], encoding: Encoding
    ) -> tuple[Identity, str | None]:
        """The owner of a token, and the tag of another page of history; the caller reads the page after that.

        :param bounds: the parameters of the page.
        :raises NotAParticipant: if the owner may not see the conversation.
        """
        history = await self._tags.history()
        identity, version = await messages.history_version_for(self._pool, token, conversation)
        readers, current = _state(identity.user, version)
        return identity, self._tags.of(history, "older", conversation, readers, bounds, encoding, current)

    def statistics(self) -> list[CacheStatistics]:
        return [self._lists.statistics(), self._histories.statistics()]


def _state(user: bytes, version: HistoryVersion) -> tuple[Hashable, Hashable]:
    """The users who see the same pages of a history as this one, and the state of these pages."""
    return (user, version) if version.is_personal else (version.floor, version.changed)


def _keep(cache: VersionedCache[CachedPage], key: Hashable, version: Hashable, page: CachedPage) -> None:
    """Keep a page that has a tag, with room for its compressed forms, which are no longer than its body."""
    if page.tag is not None:
        cache.put(key, version, page, 2 * len(page.body))
