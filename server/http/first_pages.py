"""A cache of the pages that clients read most, encoded: the first of a user's list, the newest of a conversation.

Each use checks the version of the page in Postgres (`server.http.versioned_cache`), so an answer has everything that
was acknowledged before its request. A page that has changed is mended: only the conversations or messages that it lacks
are read, and the versions prove that the page is then as one that is read afresh. A cached page is used only until the
process makes a new connection to Postgres: versions are numbers of transactions, which begin again when a back-up is
restored, and no back-up is restored while a process is connected.

A client that shows the entity tag of the current page gets `304`, and the page is not read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from typing import Final, Generic, TypeAlias

from msgspec import Struct

from server.http.answers.messages import MAX_CONTENT_BYTES
from server.http.compression import CompressedForms
from server.http.conditional import EntityTags, ReadHistory, held_tag
from server.http.cursors import history_bounds
from server.http.encoding import Encoding
from server.http.kept_pages import (
    HistoryParts,
    KeptPage,
    ListPage,
    ListParts,
    Parts,
    history_page,
    lacking,
    list_page,
)
from server.http.owners import Owners
from server.http.queries import HistoryQuery
from server.http.versioned_cache import CacheStatistics, Key, VersionedCache
from store import history_pages, list_pages
from store.envelopes import with_own
from store.history_pages import NewestPage
from store.list_pages import NO_DIGEST, ListState
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.replicas import NeededVersion, Replicas
from store.tokens import Identity

MAX_LIST_BYTES: Final = 64 * 1024 * 1024
MAX_HISTORY_BYTES: Final = 64 * 1024 * 1024
"""For each process. Either holds some 1,000 pages of 50 entries, with their compressed forms."""

ENTRY_BYTES: Final = 300
"""About the memory that the place of an entry takes."""


class CachedPage(Struct, Generic[Parts], frozen=True):
    """A page, encoded.

    :ivar tag: None if the process has just connected, and cannot tell it.
    :ivar forms: the compressed forms that clients have asked for.
    """

    page: KeptPage[Parts]
    tag: str | None
    forms: CompressedForms

    @property
    def body(self) -> bytes:
        return self.page.body

    @property
    def cursor(self) -> str | None:
        """The cursor of the next page; None: this page is the last."""
        return self.page.cursor


class HeldPage(Struct, frozen=True):
    """A page that the client holds, under this tag."""

    tag: str


class OlderPage(Struct, frozen=True):
    """A page of history that the handler reads.

    :ivar tag: None if the process has just connected, and cannot tell it.
    :ivar needed: what a replica must have to read it.
    :ivar before: the page has messages below this seq; None: no bound.
    :ivar after: the page has messages above this seq; None: no bound.
    """

    tag: str | None
    needed: NeededVersion
    before: int | None
    after: int | None


FirstPage: TypeAlias = CachedPage[ListParts] | CachedPage[HistoryParts] | HeldPage


class FirstPages:
    """First pages as bodies of answers.

    :param replicas: they read pages of history that are not kept.
    """

    def __init__(self, pool: Pool, tags: EntityTags, replicas: Replicas | None = None) -> None:
        self._pool = pool
        self._tags = tags
        self._replicas = replicas or Replicas(pool)
        self._owners = Owners()
        self._lists: VersionedCache[CachedPage[ListParts]] = VersionedCache("list", MAX_LIST_BYTES)
        self._histories: VersionedCache[CachedPage[HistoryParts]] = VersionedCache("history", MAX_HISTORY_BYTES)

    async def first_of_list(
        self, token: str, limit: int, encoding: Encoding, if_none_match: str = ""
    ) -> tuple[Identity, FirstPage]:
        """The owner of a token, and the first page of the owner's conversations. Errors are those of the store.

        :param if_none_match: the header of that name.
        """
        history = await self._tags.history()
        owner = self._owners.guess(token)
        held = None if owner is None else self._lists.held((owner, limit, encoding), history.epoch)
        if held is None and not if_none_match:
            identity, found = await list_pages.first_page_for(self._pool, token, limit=limit + 1)
            self._owners.note(token, identity.user)
            return identity, self._new_list(history, identity.user, limit, encoding, found)
        known = NO_DIGEST if held is None else held.page.parts.version
        identity, state = await list_pages.list_state_for(self._pool, token, limit=limit + 1, known=known)
        self._owners.note(token, identity.user)
        key = (identity.user, limit, encoding)
        tag = self._tags.of(history, "list", *key, state.version)
        if (shown := held_tag(if_none_match, tag)) is not None:
            return identity, HeldPage(shown)
        if tag is not None:
            cached = self._lists.get(key, history.epoch, state.version)
            if cached is None and (held := self._lists.held(key, history.epoch)) is not None:
                cached = await self._mended_list(history, identity.user, limit, encoding, state, held)
            if cached is not None:
                return identity, cached
        return identity, await self._fresh_list(history, identity.user, limit, encoding)

    async def _fresh_list(
        self, history: ReadHistory, user: bytes, limit: int, encoding: Encoding
    ) -> CachedPage[ListParts]:
        found = await list_pages.first_page(self._pool, user, limit=limit + 1)
        return self._new_list(history, user, limit, encoding, found)

    def _new_list(
        self, history: ReadHistory, user: bytes, limit: int, encoding: Encoding, found: list_pages.FirstPage
    ) -> CachedPage[ListParts]:
        page = list_page(found.state, found.entries, limit, encoding)
        return self._keep_list(history, (user, limit, encoding), page)

    async def _mended_list(
        self,
        history: ReadHistory,
        user: bytes,
        limit: int,
        encoding: Encoding,
        state: ListState,
        held: CachedPage[ListParts],
    ) -> CachedPage[ListParts] | None:
        """The page of this state, of a held one and of the conversations that this lacks. None if one of these has
        changed since the state was read."""
        wanted = lacking(held.page, state.listed[:limit])
        ids = [each.conversation for each in wanted]
        read = await list_pages.listed(self._pool, user, ids) if ids else {}
        if any((one := read.get(each.conversation)) is None or one[1] != each.digest for each in wanted):
            return None
        found = {id_: entry for id_, (entry, _) in read.items()}
        page = list_page(state, found, limit, encoding, held.page)
        return self._keep_list(history, (user, limit, encoding), page, is_mended=True)

    async def newest_of(
        self, token: str, conversation: bytes, limit: int, encoding: Encoding, if_none_match: str = ""
    ) -> tuple[Identity, FirstPage]:
        """The owner of a token, and the newest messages of a conversation as the owner sees them.

        :param if_none_match: the header of that name.
        :raises NotAParticipant: if the owner may not see it.
        """
        history = await self._tags.history()
        if not self._histories.has(conversation) and not if_none_match and not self._replicas:
            identity, found = await history_pages.newest_for(
                self._pool, token, conversation, limit=limit, max_bytes=MAX_CONTENT_BYTES
            )
            return identity, await self._history(history, identity, conversation, limit, encoding, found)
        identity, version = await history_pages.history_version_for(self._pool, token, conversation)
        key = (conversation, version.view(identity.user), limit, encoding)
        tag = self._tags.of(history, "history", *key, version)
        if if_none_match:
            shown = held_tag(if_none_match, tag) or held_tag(
                if_none_match, self._tags.of(history, "history", *key, identity.device, version)
            )
            if shown is not None:
                return identity, HeldPage(shown)
        held = None
        if tag is not None:
            cached = self._histories.get(key, history.epoch, version)
            if cached is not None:
                return identity, cached
            held = self._histories.held(key, history.epoch)
            if held is not None and not version.follows(held.page.parts.version):
                held = None
        needed = NeededVersion(history.id, identity.user, conversation, version)
        found = await self._newest(needed, limit, held)
        if held is not None and not found.version.follows(held.page.parts.version):
            # There was another commit than of messages between the two queries.
            held, found = None, await self._newest(needed, limit, None)
        return identity, await self._history(history, identity, conversation, limit, encoding, found, held)

    async def _newest(self, needed: NeededVersion, limit: int, held: CachedPage[HistoryParts] | None) -> NewestPage:
        """The newest messages, or those that a held page lacks."""
        after = 0 if held is None else held.page.parts.version.last_seq

        def read(reader: StatementReader) -> Awaitable[NewestPage]:
            return history_pages.newest(
                reader, needed.user, needed.conversation, limit=limit, max_bytes=MAX_CONTENT_BYTES, after=after
            )

        return await self._replicas.page(needed, read)

    async def older_of(
        self, token: str, conversation: bytes, query: HistoryQuery, encoding: Encoding
    ) -> tuple[Identity, OlderPage]:
        """The owner of a token, and the tag and the bounds of another page of history; the caller reads it after that.

        :raises NotAParticipant: if the owner may not see the conversation.
        :raises InvalidCursor: if the cursor is not one of this history.
        """
        history = await self._tags.history()
        identity, version = await history_pages.history_version_for(self._pool, token, conversation)
        before, after = history_bounds(query.cursor, conversation)
        # New messages do not change the pages before a cursor.
        state = version if before is None else version._replace(last_seq=0)
        bounds = (query.limit, query.cursor, query.after_seq, query.around_seq)
        view = version.view(identity.user)
        # With the device, which has envelopes of its own.
        tag = self._tags.of(history, "older", conversation, view, identity.device, bounds, encoding, state)
        needed = NeededVersion(history.id, identity.user, conversation, version.up_to(before))
        return identity, OlderPage(tag, needed, before, query.after_seq if after is None else after)

    def _keep_list(
        self, history: ReadHistory, key: Key, page: ListPage, *, is_mended: bool = False
    ) -> CachedPage[ListParts]:
        tag = self._tags.of(history, "list", *key, page.parts.version)
        cached = CachedPage(page, tag, CompressedForms())
        _keep(self._lists, key, history, page.parts.version, cached, is_mended=is_mended)
        return cached

    async def _history(
        self,
        history: ReadHistory,
        identity: Identity,
        conversation: bytes,
        limit: int,
        encoding: Encoding,
        found: NewestPage,
        held: CachedPage[HistoryParts] | None = None,
    ) -> CachedPage[HistoryParts]:
        """The page of these messages. It is kept, unless it has envelopes: then it is for this device alone."""
        key = (conversation, found.version.view(identity.user), limit, encoding)
        told = await with_own(self._pool, identity.device, found.messages)
        if told is not found.messages:
            # Pages that are kept have no message with envelopes.
            found = found.with_envelopes(told)
            page = history_page(conversation, found, limit, encoding, held.page if held else None)
            self._histories.missed()
            tag = self._tags.of(history, "history", *key, identity.device, found.version)
            return CachedPage(page, tag, CompressedForms())
        page = history_page(conversation, found, limit, encoding, held.page if held else None)
        cached = CachedPage(page, self._tags.of(history, "history", *key, found.version), CompressedForms())
        _keep(self._histories, key, history, found.version, cached, is_mended=held is not None)
        return cached

    def statistics(self) -> list[CacheStatistics]:
        return [self._lists.statistics(), self._histories.statistics()]


def _keep(
    cache: VersionedCache[CachedPage[Parts]],
    key: Key,
    history: ReadHistory,
    version: Hashable,
    cached: CachedPage[Parts],
    *,
    is_mended: bool,
) -> None:
    """Keep a page that has a tag, with room for its compressed forms, which are at most as long as its body."""
    if cached.tag is None:
        cache.missed()
    else:
        size = 2 * len(cached.body) + ENTRY_BYTES * len(cached.page.parts.entries)
        cache.put(key, history.epoch, version, cached, size, is_mended=is_mended)
