"""A cached page equals the answer of a process without a cache, after every kind of change, on every process (P6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import msgspec
import pytest

from client.http import Credentials
from server.http.conditional import EntityTags
from server.http.encoding import Encoding
from server.http.first_pages import CachedPage, FirstPage, FirstPages, HeldPage
from server.http.versioned_cache import VersionedCache
from store import contacts, participants, revisions
from store.errors import NotAParticipant, Unavailable
from store.marks import Mark, mark
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user


def new_pages(pool: Pool) -> FirstPages:
    return FirstPages(pool, EntityTags(pool))


async def list_of(pages: FirstPages, reader: Credentials, limit: int = 10, encoding: Encoding = "json") -> bytes:
    identity, page = await pages.first_of_list(reader.token, limit, encoding)
    assert (identity.user, identity.device) == (reader.user, reader.device)
    assert isinstance(page, CachedPage)
    return page.body


async def history_of(
    pages: FirstPages, reader: Credentials, conversation: bytes, limit: int = 10, encoding: Encoding = "json"
) -> bytes:
    identity, page = await pages.newest_of(reader.token, conversation, limit, encoding)
    assert (identity.user, identity.device) == (reader.user, reader.device)
    assert isinstance(page, CachedPage)
    return page.body


class CachedPages:
    """Two users, a stranger, their conversations, and processes that have all pages in their caches."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.processes = [new_pages(pool), new_pages(pool)]
        self.sent = 0

    async def begin(self) -> None:
        self.alice, self.bob, self.carol = [await new_user(self.pool, name) for name in ("alice", "bob", "carol")]
        self.direct = await new_direct(self.pool, self.alice, self.bob)
        self.group = await new_group(self.pool, self.alice, self.bob)
        for conversation in (self.direct, self.group):
            for sender in (self.alice, self.bob, self.alice):
                await self.say(conversation, sender)

    async def say(self, conversation: bytes, sender: Credentials) -> None:
        self.sent += 1
        temp_id = self.sent.to_bytes(16, "big")
        message = NewMessage(conversation, sender.user, temp_id, "text", b"%d" % self.sent, None, None)
        [outcome] = await send(self.pool, ParticipantsCache(), [message])
        assert isinstance(outcome, Committed)

    async def shown(self, pages: FirstPages) -> list[bytes | None]:
        """Every first page of every user."""
        found: list[bytes | None] = []
        for person in (self.alice, self.bob, self.carol):
            found.append(await list_of(pages, person))
            for conversation in (self.direct, self.group):
                try:
                    found.append(await history_of(pages, person, conversation))
                except NotAParticipant:
                    found.append(None)
        return found


Change = Callable[[CachedPages], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "the other sends": lambda w: w.say(w.direct, w.bob),
    "one sends": lambda w: w.say(w.direct, w.alice),
    "one reads": lambda w: mark(w.pool, [[Mark(w.bob.user, w.group, 3, 3)]]),
    "one has it": lambda w: mark(w.pool, [[Mark(w.bob.user, w.group, 3)]]),
    "an edit of the last": lambda w: revisions.edit(w.pool, w.alice.user, w.direct, 3, 0, "text", b"x", None, None),
    "an edit of an earlier one": lambda w: revisions.edit(w.pool, w.bob.user, w.group, 2, 0, "text", b"x", None, None),
    "a deletion for all": lambda w: revisions.delete_for_everyone(w.pool, w.alice.user, w.group, 3),
    "a deletion for one": lambda w: revisions.delete_for_me(w.pool, w.bob.user, w.group, 3),
    "a deletion for one in the direct one": lambda w: revisions.delete_for_me(w.pool, w.bob.user, w.direct, 2),
    "somebody joins": lambda w: participants.add(w.pool, w.alice.user, w.group, w.carol.user),
    "one leaves": lambda w: participants.remove(w.pool, w.bob.user, w.group, w.bob.user),
    "one is removed": lambda w: participants.remove(w.pool, w.alice.user, w.group, w.bob.user),
    "a new group": lambda w: new_group(w.pool, w.alice, w.carol),
    "a new direct one": lambda w: new_direct(w.pool, w.carol, w.bob),
    "a block": lambda w: contacts.set_blocked(w.pool, w.bob.user, w.alice.user, is_blocked=True),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_after_a_change_every_process_answers_as_one_without_a_cache(pool: Pool, name: str) -> None:
    cached = CachedPages(pool)
    await cached.begin()
    for pages in cached.processes:
        assert await cached.shown(pages) == await cached.shown(new_pages(pool))
    before = await cached.shown(cached.processes[0])
    await CHANGES[name](cached)
    expected = await cached.shown(new_pages(pool))
    assert expected != before, "the change can be seen"
    for pages in cached.processes:
        assert await cached.shown(pages) == expected


async def test_all_changes_one_after_the_other_are_seen_too(pool: Pool) -> None:
    cached = CachedPages(pool)
    await cached.begin()
    for name in reversed(CHANGES):
        try:
            await CHANGES[name](cached)
        except NotAParticipant:
            continue  # a user who left before
        expected = await cached.shown(new_pages(pool))
        for pages in cached.processes:
            assert await cached.shown(pages) == expected, name
    silent = [msgspec.json.decode(page)["messages"] for page in expected if page and b'"messages"' in page]
    assert any(message["is_deleted"] for page in silent for message in page)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_tag_names_one_body_and_is_current_no_longer_than_that(pool: Pool, name: str) -> None:
    cached = CachedPages(pool)
    await cached.begin()
    bodies: dict[str, bytes] = {}
    held: list[tuple[Read, str, bytes]] = []

    async def look() -> None:
        for pages in (*cached.processes, new_pages(pool)):
            for read in reads_of(pages, cached):
                with suppress(NotAParticipant):
                    page = await read("")
                    assert isinstance(page, CachedPage)
                    assert page.tag is not None
                    assert bodies.setdefault(page.tag, page.body) == page.body
                    held.append((read, page.tag, page.body))

    await look()
    for read, tag, _ in held:
        assert await read(f'"{tag}"') == HeldPage(tag)
    await CHANGES[name](cached)
    former = list(held)
    await look()
    for read, tag, body in former:
        with suppress(NotAParticipant):
            if isinstance(await read(f'"{tag}"'), HeldPage):
                current = await read("")
                assert isinstance(current, CachedPage)
                assert current.body == body
    assert len(bodies) > len({tag for _, tag, _ in former})


Read = Callable[[str], Awaitable[FirstPage]]
"""From the header If-None-Match to a page."""


def reads_of(pages: FirstPages, cached: CachedPages) -> list[Read]:
    """Every first page of every user."""

    async def read_list(token: str, if_none_match: str) -> FirstPage:
        return (await pages.first_of_list(token, 10, "json", if_none_match))[1]

    async def read_history(token: str, conversation: bytes, if_none_match: str) -> FirstPage:
        return (await pages.newest_of(token, conversation, 10, "json", if_none_match))[1]

    tokens = [person.token for person in (cached.alice, cached.bob, cached.carol)]
    conversations = (cached.direct, cached.group)
    return [
        *(partial(read_list, token) for token in tokens),
        *(partial(read_history, token, conversation) for token in tokens for conversation in conversations),
    ]


async def test_an_unchanged_page_is_read_once(pool: Pool) -> None:
    """A group's history is read once for all participants who see the same of it, a direct history and a list once for
    each user."""
    cached = CachedPages(pool)
    await cached.begin()
    pages = new_pages(pool)
    for _ in range(5):
        await cached.shown(pages)
    lists, histories = pages.statistics()
    assert (lists.name, lists.values, lists.hits, lists.misses) == ("list", 3, 12, 3)
    assert (histories.name, histories.values, histories.hits, histories.misses) == ("history", 3, 17, 3)


async def test_after_a_restore_of_postgres_equal_versions_are_misses(pool: Pool) -> None:
    """A restored server gives out the same numbers of transactions again, for other messages."""
    cached = CachedPages(pool)
    await cached.begin()
    pages = cached.processes[0]
    before = await cached.shown(pages)
    async with connected(pool.url) as elsewhere:
        await elsewhere.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database()"
        )
        await elsewhere.query("update messages set content = 'of the back-up'")
    with suppress(Unavailable):
        await cached.shown(pages)
    after = await cached.shown(pages)
    assert after == await cached.shown(new_pages(pool)) != before


async def test_encodings_and_limits_do_not_share_pages(pool: Pool) -> None:
    cached = CachedPages(pool)
    await cached.begin()
    pages = cached.processes[0]
    alice = cached.alice
    for _ in range(2):
        assert len(msgspec.json.decode(await list_of(pages, alice, 1))["conversations"]) == 1
        assert len(msgspec.json.decode(await list_of(pages, alice, 9))["conversations"]) == 2
        assert (await list_of(pages, alice, 9, "cbor"))[:1] == b"\xa2"
        assert len(msgspec.json.decode(await history_of(pages, alice, cached.direct, 2))["messages"]) == 2
        assert (await history_of(pages, alice, cached.direct, 2, "cbor"))[:1] == b"\xa2"


def test_a_cache_is_bounded_and_counts() -> None:
    cache: VersionedCache[str] = VersionedCache("c", 10)
    a, b, c = ("a", 1), ("b", 1), ("c", 1)
    cache.put(a, "epoch", 1, "A", 4)
    cache.put(b, "epoch", 1, "B", 4)
    assert (cache.get(a, "epoch", 1), cache.get(a, "epoch", 2), cache.get(c, "epoch", 1)) == ("A", None, None)
    assert (cache.get(a, "other", 1), cache.held(a, "other"), cache.held(a, "epoch")) == (None, None, "A")
    cache.put(c, "epoch", 1, "C", 4)
    assert [cache.has(each) for each in "abc"] == [True, False, True]
    cache.put(a, "epoch", 2, "AA", 6, is_mended=True)
    cache.put(c, "epoch", 2, "CC", 4)
    assert (cache.get(a, "epoch", 2), cache.get(c, "epoch", 2)) == ("AA", "CC")
    huge = ("huge", 1)
    cache.put(huge, "epoch", 1, "H", 11)
    cache.put(a, "epoch", 3, "huge", 11)
    assert [cache.has(each) for each in ("huge", "a", "c")] == [False, False, True]
    cache.missed()
    statistics = cache.statistics()
    assert (statistics.values, statistics.bytes) == (1, 4)
    assert (statistics.hits, statistics.mended, statistics.misses, statistics.stale) == (3, 1, 7, 2)
