"""A page that is kept and mended has the bytes of one that is read afresh, and only what is new is read for it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from client.http import Credentials
from server.http import kept_pages
from server.http.answers.conversations import list_body
from server.http.answers.messages import MAX_CONTENT_BYTES, history_body
from server.http.conditional import EntityTags
from server.http.encoding import Encoding, encode
from server.http.first_pages import CachedPage, FirstPage, FirstPages
from store import contacts, conversations, history_pages, list_pages, messages, participants, profiles, revisions
from store.avatars import NO_AVATAR
from store.errors import NotAParticipant, Refused
from store.history_pages import HistoryVersion
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.retention import clear, move_floors, note_announced, unannounced, uncleared
from tests.ageing import age
from tests.people import new_direct, new_group, new_user
from tests.store.attachment_world import new_attachment
from tests.store.store_world import a_message

WAYS: list[tuple[int, Encoding]] = [(2, "json"), (10, "cbor"), (30, "json")]
"""Limits and encodings of the pages that are compared."""


async def bytes_of(read: Awaitable[tuple[object, FirstPage]]) -> bytes | None:
    """The body of a page; None if the reader may not see it."""
    try:
        _, page = await read
    except NotAParticipant:
        return None
    assert isinstance(page, CachedPage)
    return page.body


class Chats:
    """People, their conversations, and everything that they may do at random.

    :ivar kept: a process that has read all pages before.
    """

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.kept = FirstPages(pool, EntityTags(pool))
        self.people: list[Credentials] = []
        self.chats: list[bytes] = []

    async def begin(self) -> None:
        self.people = [await new_user(self.pool, name) for name in ("alice", "bob", "carol", "dora")]
        alice, bob, carol, dora = self.people
        self.chats = [
            await new_direct(self.pool, alice, bob),
            await new_direct(self.pool, carol, bob),
            await new_group(self.pool, alice, bob, carol),
            await new_group(self.pool, dora, alice),
        ]

    async def act(self) -> str:
        """Do something; returns its name."""
        names = [name for name in dir(self) if name.startswith("do_")]
        name = self.chance.choice([*names, *["do_send"] * 6, *["do_mark", "do_edit", "do_delete", "do_hide"] * 2])
        with suppress(Refused):
            await getattr(self, name)(self.chance.choice(self.people), self.chance.choice(self.chats))
        return name

    async def compare(self) -> None:
        """All pages of all people in the process that has kept them, with those of a process that has kept none."""
        for limit, encoding in WAYS:
            for person in self.people:
                for chat in (None, *self.chats):
                    kept, fresh = [
                        await bytes_of(
                            pages.first_of_list(person.token, limit, encoding)
                            if chat is None
                            else pages.newest_of(person.token, chat, limit, encoding)
                        )
                        for pages in (self.kept, FirstPages(self.pool, EntityTags(self.pool)))
                    ]
                    assert kept == fresh

    async def last_seq(self, chat: bytes) -> int:
        [(seq,)] = await self.pool.fetch("select last_seq from conversations where id = %s", (uuid(chat),))
        return int(seq)

    async def some_seq(self, chat: bytes) -> int:
        return max(1, await self.last_seq(chat) - self.chance.choice((0, 0, 1, 2, 5)))

    def other(self) -> Credentials:
        return self.chance.choice(self.people)

    async def do_send(self, person: Credentials, chat: bytes) -> None:
        count = self.chance.choice((1, 1, 1, 2, 4, 40))
        size = 20_000 if self.chance.random() < 0.1 else 10
        await send(
            self.pool,
            ParticipantsCache(),
            [a_message(chat, person.user, self.chance.randbytes(size)) for _ in range(count)],
        )

    async def do_mark(self, person: Credentials, chat: bytes) -> None:
        seq = await self.some_seq(chat)
        await mark(self.pool, [[Mark(person.user, chat, seq, self.chance.choice((0, seq)))]])

    async def do_edit(self, _: Credentials, chat: bytes) -> None:
        for seq, sender, revision in await self.one_message(chat):
            content = self.chance.randbytes(9)
            await revisions.edit(self.pool, sender, chat, seq, revision, "text", content, None, None)

    async def do_delete(self, _: Credentials, chat: bytes) -> None:
        for seq, sender, _revision in await self.one_message(chat):
            await revisions.delete_for_everyone(self.pool, sender, chat, seq)

    async def one_message(self, chat: bytes) -> list[tuple[int, bytes, int]]:
        """(seq, sender, revision) of a late message, if there is one."""
        query = "select seq, sender_id, revision from messages where conversation_id = %s and seq = %s"
        rows = await self.pool.fetch(query, (uuid(chat), await self.some_seq(chat)))
        return [(seq, sender, revision) for seq, sender, revision in rows]

    async def do_hide(self, person: Credentials, chat: bytes) -> None:
        await revisions.delete_for_me(self.pool, person.user, chat, await self.some_seq(chat))

    async def do_add(self, person: Credentials, chat: bytes) -> None:
        await participants.add(self.pool, person.user, chat, self.other().user)

    async def do_remove(self, person: Credentials, chat: bytes) -> None:
        await participants.remove(self.pool, person.user, chat, self.other().user)

    async def do_leave(self, person: Credentials, chat: bytes) -> None:
        await participants.remove(self.pool, person.user, chat, person.user)

    async def do_role(self, person: Credentials, chat: bytes) -> None:
        role = self.chance.choice(("admin", "member"))
        await participants.set_role(self.pool, person.user, chat, self.other().user, role)

    async def do_settings(self, person: Credentials, chat: bytes) -> None:
        await participants.change_settings(
            self.pool,
            person.user,
            chat,
            name=None if await self.is_direct(chat) else f"Name {self.chance.random()}",
            avatar=None if await self.is_direct(chat) else await self.avatar(person),
            joiners_see_all=None if await self.is_direct(chat) else self.chance.random() < 0.7,
            lifetime_s=self.chance.choice((0, 60 * 86400)),
        )

    async def avatar(self, person: Credentials) -> bytes | None:
        """A new one, none, or the one that there is."""
        if self.chance.random() < 0.5:
            return self.chance.choice((None, NO_AVATAR))
        return await new_attachment(self.pool, person.user, avatars="encrypted")

    async def is_direct(self, chat: bytes) -> bool:
        rows = await self.pool.fetch("select kind = 'direct' from conversations where id = %s", (uuid(chat),))
        return bool(rows[0][0])

    async def do_mute(self, person: Credentials, chat: bytes) -> None:
        await participants.mute(self.pool, person.user, chat, seconds=self.chance.choice((0, 1000)))

    async def do_accept(self, person: Credentials, chat: bytes) -> None:
        await participants.accept(self.pool, person.user, chat)

    async def do_decline(self, person: Credentials, chat: bytes) -> None:
        await participants.decline(self.pool, person.user, chat)

    async def do_rename(self, person: Credentials, _: bytes) -> None:
        avatar = await self.avatar(person)
        await profiles.change(self.pool, person.user, display_name=f"{self.chance.random()}", avatar=avatar)

    async def do_receipts(self, person: Credentials, _: bytes) -> None:
        await profiles.change(self.pool, person.user, gives_receipts=self.chance.random() < 0.5)

    async def do_block(self, person: Credentials, _: bytes) -> None:
        is_blocked = self.chance.random() < 0.4
        await contacts.set_blocked(self.pool, person.user, self.other().user, is_blocked=is_blocked)

    async def do_unfriend(self, person: Credentials, _: bytes) -> None:
        await contacts.remove(self.pool, person.user, self.other().user)

    async def do_group(self, person: Credentials, _: bytes) -> None:
        if len(self.chats) < 8:
            users = sorted({person.user, self.other().user})
            self.chats.append(await conversations.add_group(self.pool, "New", users, admin=person.user))

    async def do_direct(self, person: Credentials, _: bytes) -> None:
        other = self.other()
        if other != person:
            conversation, _is_new = await conversations.add_direct(self.pool, person.user, other.user)
            self.chats = list(dict.fromkeys([*self.chats, conversation]))

    async def do_expire(self, _: Credentials, chat: bytes) -> None:
        await age(self.pool, chat, upto=await self.some_seq(chat))
        await move_floors(self.pool, days=50, archives=False, limit=10)
        moved = await unannounced(self.pool, limit=100)
        await note_announced(self.pool, [each.settings.conversation for each in moved])
        for left in await uncleared(self.pool, limit=100):
            await clear(self.pool, left.conversation, limit=500)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
async def test_after_anything_that_people_do_a_mended_page_is_as_one_that_is_read_afresh(pool: Pool, seed: int) -> None:
    chats = Chats(pool, seed)
    await chats.begin()
    for _ in range(30):
        name = await chats.act()
        try:
            await chats.compare()
        except AssertionError as error:
            raise AssertionError(f"after {name}") from error
    lists, histories = chats.kept.statistics()
    assert lists.mended > 10
    assert histories.mended > 2


def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Notes what each read of a page has brought: its name, and the number of conversations or messages."""
    reads: list[tuple[str, int]] = []

    def note(module: Any, name: str, count: Callable[[Any], int]) -> None:
        read = getattr(module, name)

        async def noting(*arguments: Any, **options: Any) -> Any:
            found = await read(*arguments, **options)
            reads.append((name, count(found)))
            return found

        monkeypatch.setattr(module, name, noting)

    note(list_pages, "first_page_for", lambda found: len(found[1].entries))
    note(list_pages, "listed", len)
    note(list_pages, "list_state_for", lambda found: len(found[1].listed))
    note(history_pages, "newest", lambda found: len(found.messages))
    note(history_pages, "newest_for", lambda found: len(found[1].messages))
    note(history_pages, "history_version_for", lambda _: 0)
    return reads


async def say(pool: Pool, chat: bytes, sender: Credentials, count: int) -> None:
    for outcome in await send(pool, ParticipantsCache(), [a_message(chat, sender.user) for _ in range(count)]):
        assert isinstance(outcome, Committed)


async def test_a_mended_page_reads_the_messages_and_conversations_alone_that_it_lacks(
    pool: Pool, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = [await new_group(pool, alice, bob) for _ in range(5)]
    for chat in chats:
        await say(pool, chat, bob, 20)
    pages, reads = FirstPages(pool, EntityTags(pool)), noted(monkeypatch)

    async def read() -> list[tuple[str, int]]:
        reads.clear()
        for _ in range(2):
            await pages.first_of_list(alice.token, 9, "json")
        for _ in range(2):
            await pages.newest_of(alice.token, chats[0], 9, "json")
        return list(reads)

    hits = [("list_state_for", 0), ("history_version_for", 0)]
    assert await read() == [("first_page_for", 5), hits[0], ("newest_for", 9), hits[1]]
    assert await read() == [hits[0], hits[0], hits[1], hits[1]]
    await say(pool, chats[0], bob, 2)
    await say(pool, chats[3], bob, 1)
    mended = [("list_state_for", 5), ("listed", 2), hits[0], hits[1], ("newest", 2), hits[1]]
    assert await read() == mended
    await participants.mute(pool, alice.user, chats[1], seconds=9)
    assert await read() == [("list_state_for", 5), ("listed", 1), hits[0], hits[1], hits[1]]
    await participants.remove(pool, alice.user, chats[2], alice.user)
    assert await read() == [("list_state_for", 4), hits[0], hits[1], hits[1]]
    await revisions.edit(pool, bob.user, chats[0], 20, 0, "text", b"x", None, None)
    assert await read() == [("list_state_for", 4), ("listed", 1), hits[0], hits[1], ("newest", 9), hits[1]]
    lists, histories = pages.statistics()
    assert (lists.mended, lists.misses, lists.stale) == (4, 1, 0)
    assert (histories.mended, histories.misses, histories.stale) == (1, 2, 1)


@pytest.mark.parametrize("change", ["a message", "an edit", "a hidden message"])
async def test_a_commit_between_the_queries_of_a_mended_page_is_on_the_page(
    pool: Pool, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The version that the page is kept with is that of what is on it: the next use reads nothing again."""
    chat = await new_direct(pool, alice, bob)
    await say(pool, chat, bob, 5)
    pages = FirstPages(pool, EntityTags(pool))
    await pages.first_of_list(alice.token, 9, "json")
    await pages.newest_of(alice.token, chat, 9, "json")
    await say(pool, chat, bob, 1)

    async def interrupted(module: Any, name: str, turn: int) -> None:
        read = getattr(module, name)

        async def after_a_commit(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(module, name, read)
            if change == "a message":
                await say(pool, chat, bob, 1)
            elif change == "an edit":
                await revisions.edit(pool, bob.user, chat, 2, turn, "text", b"x", None, None)
            else:
                await revisions.delete_for_me(pool, alice.user, chat, 3 + turn)
            return await read(*arguments, **options)

        monkeypatch.setattr(module, name, after_a_commit)

    for turn, (module, name, page) in enumerate(
        (
            (list_pages, "listed", lambda each: each.first_of_list(alice.token, 9, "json")),
            (history_pages, "newest", lambda each: each.newest_of(alice.token, chat, 9, "json")),
        )
    ):
        await interrupted(module, name, turn)
        mended = await bytes_of(page(pages))
        assert getattr(module, name).__name__ == name, "the commit came between the queries"
        assert mended == await bytes_of(page(FirstPages(pool, EntityTags(pool))))
        misses = [each.misses for each in pages.statistics()]
        assert await bytes_of(page(pages)) == mended
        assert [each.misses for each in pages.statistics()] == misses


@pytest.mark.parametrize("encoding", ["json", "cbor"])
@pytest.mark.parametrize("count", [0, 1, 23, 24, 60])
async def test_a_kept_page_has_the_bytes_of_one_that_is_encoded_whole(
    pool: Pool, alice: Credentials, bob: Credentials, encoding: Encoding, count: int
) -> None:
    chat = await new_direct(pool, alice, bob)
    if count:
        await say(pool, chat, bob, count)
    for _ in range(count // 2):
        await new_group(pool, alice, bob)
    pages = FirstPages(pool, EntityTags(pool))
    for limit in (1, 24, 100):
        listed = await conversations.entries_of_list(pool, alice.user, limit=limit + 1)
        expected = encode(list_body(listed, limit, encoding), encoding)
        assert await bytes_of(pages.first_of_list(alice.token, limit, encoding)) == expected
        page = await messages.history(pool, alice.user, chat, limit=limit, max_bytes=MAX_CONTENT_BYTES)
        expected = encode(history_body(page, chat, "before", encoding), encoding)
        assert await bytes_of(pages.newest_of(alice.token, chat, limit, encoding)) == expected


async def test_a_mended_history_is_cut_at_the_bytes_of_a_page_as_a_fresh_one_is(
    pool: Pool, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("first_pages", "kept_pages"):
        monkeypatch.setattr(f"server.http.{module}.MAX_CONTENT_BYTES", 3000)
    monkeypatch.setattr(kept_pages, "MAX_PAGE_BYTES", 5000)
    chats = [await new_direct(pool, alice, bob), await new_group(pool, alice, bob)]
    pages = FirstPages(pool, EntityTags(pool))
    for size in (10, 1400, 1400, 200, 10, 5000, 10, 2900, 10, 10, 3100, 10):
        for chat in chats:
            [outcome] = await send(pool, ParticipantsCache(), [a_message(chat, bob.user, bytes(size))])
            assert isinstance(outcome, Committed)
            for read in (
                lambda each: each.first_of_list(alice.token, 9, "json"),
                lambda each: each.newest_of(alice.token, chat, 9, "json"),  # noqa: B023  (called at once)
            ):
                assert await bytes_of(read(pages)) == await bytes_of(read(FirstPages(pool, EntityTags(pool))))


def test_only_new_messages_follow_a_version() -> None:
    held = HistoryVersion(3, 9, 70, True, 50, 60)
    assert held.follows(held)
    assert held._replace(last_seq=12).follows(held)
    for other in (
        held._replace(last_seq=8),
        held._replace(floor=4),
        held._replace(revised=69),
        held._replace(own=59),
        held._replace(added=None),
        held._replace(is_personal=False),
    ):
        assert not other.follows(held), other


async def test_a_commit_is_seen_though_a_later_transaction_has_committed_before_it(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """The number of a transaction tells when it began to write, not when it committed."""
    chat = await new_direct(pool, alice, bob)
    await say(pool, chat, bob, 5)
    pages = FirstPages(pool, EntityTags(pool))
    async with connected(pool.url) as slow:
        await slow.query("begin")
        await slow.query("select pg_current_xact_id()")
        await profiles.change(pool, alice.user, display_name="Alice")
        before = await bytes_of(pages.newest_of(alice.token, chat, 9, "json"))
        await slow.query("select hide_message(%s, %s, 3)", (uuid(alice.user), uuid(chat)))
        await slow.query("commit")
    after = await bytes_of(pages.newest_of(alice.token, chat, 9, "json"))
    assert before != after == await bytes_of(FirstPages(pool, EntityTags(pool)).newest_of(alice.token, chat, 9, "json"))
