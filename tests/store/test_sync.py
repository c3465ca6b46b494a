"""A device that keeps its messages and one cursor ends with the same state as a fresh fetch."""

from __future__ import annotations

import random
import secrets
from contextlib import suppress
from typing import Any, Final

import cbor2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import Conversation, Departed, Message, OwnSettings, Participants, ReceiptCounts, Synced, Tombstone
from protocol.limits import COUNTED, CURSOR_DAYS, MAX_SHOWN
from store import contacts, conversations, messages, participants, profiles, revisions
from store import sync as sync_module
from store.avatars import NO_AVATAR
from store.errors import ExpiredCursor, ForeignCursor, Refused
from store.marks import Mark, mark
from store.messages import Committed, send
from store.own_settings import own_settings_of
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.retention import clear, move_floors, note_announced, unannounced, uncleared
from store.sync import Snapshot, SyncPage, SyncPush, cursor_of, sync, take_cursor_snapshot
from tests.ageing import age
from tests.people import new_group, new_user
from tests.rows import each_row
from tests.store.attachment_world import new_attachment
from tests.store.store_world import a_message


async def say(pool: Pool, conversation: bytes, user: bytes, *contents: bytes) -> None:
    batch = [a_message(conversation, user, content) for content in contents]
    for outcome in await send(pool, ParticipantsCache(), batch):
        if isinstance(outcome, Refused):
            raise outcome
        assert isinstance(outcome, Committed), outcome


class SyncingDevice:
    """A client's data: the reference client's mailbox, and how many pushes came twice."""

    def __init__(self, pool: Pool, user: bytes) -> None:
        self.pool = pool
        self.user = user
        self.mailbox = Mailbox(user)
        self.told: set[tuple[bytes, int, int]] = set()
        self.repeats = 0
        self.read_as_history = 0
        self.marks = 0

    @property
    def cursor(self) -> bytes | None:
        return self.mailbox.cursor

    @property
    def messages(self) -> dict[tuple[bytes, int], Message | Tombstone]:
        each = self.mailbox.conversations()
        return {(id_, message.seq): message for id_ in each for message in self.mailbox.messages(id_)}

    async def pull(self, newest: int | None = None) -> bool:
        """Fetch one page; return whether there is more."""
        page = await sync(self.pool, self.user, self.cursor, newest=newest)
        for push in page.pushes:
            self.apply(push)
        self.mailbox.synced(Synced(1, page.cursor, page.more))
        self.marks = page.marks
        return page.more

    async def stay(self) -> None:
        """Stay connected for a while: all changes but those of marks were pushed; then the cursor moves."""
        moved = cursor_of(self.user, await take_cursor_snapshot(self.pool), self.marks)
        more, cursor = True, self.cursor
        while more:
            page = await sync(self.pool, self.user, cursor)
            more, cursor = page.more, page.cursor
            for push in page.pushes:
                self.apply(_without_marks(push))
        self.mailbox.synced(Synced(1, moved, False))

    async def catch_up(self) -> int:
        """Fetch all pages; return how many."""
        pages = 1
        while await self.pull():
            pages += 1
        return pages

    def apply(self, push: SyncPush) -> None:
        if isinstance(push, Message | Tombstone):
            key = (push.conversation, push.seq, -1 if isinstance(push, Tombstone) else push.revision or 0)
            self.repeats += key in self.told
            self.told.add(key)
        self.mailbox.feed(push)

    async def fill_gaps(self) -> None:
        """Read missing messages as history: if the user has come back, or only the newest messages came."""
        while gaps := self.mailbox.gaps():
            for gap in gaps:
                page = await messages.history(
                    self.pool, self.user, gap.conversation, limit=100, before=gap.before_seq, after=gap.after_seq
                )
                self.mailbox.raise_floor(gap.conversation, page.first_seq)
                self.mailbox.apply(page.messages)
                self.read_as_history += len(page.messages)

    async def load_all(self) -> None:
        """Read all messages older than those that it holds."""
        for each in self.mailbox.conversations():
            page = await messages.history(self.pool, self.user, each, limit=100_000)
            self.mailbox.apply(page.messages)

    async def check(self) -> None:
        """It holds the same as a fresh fetch, for each conversation from the first message that it holds."""
        fresh = SyncingDevice(self.pool, self.user)
        await fresh.catch_up()
        await self.fill_gaps()
        assert self.mailbox.conversations() == fresh.mailbox.conversations()
        assert self.mailbox.is_complete
        for each in fresh.mailbox.conversations():
            page = await messages.history(self.pool, self.user, each, limit=100_000, after=0)
            held, shown = list(self.mailbox.messages(each)), fresh.mailbox
            first = held[0].seq if held else page.first_seq
            assert held == [message for message in page.messages if message.seq >= first]
            assert self.mailbox.head(each) == shown.head(each)
            own = [message for message in held if message.sender == self.user]
            assert [self.mailbox.status(message) for message in own] == [shown.status(message) for message in own]


async def synced(pool: Pool, owner: Credentials) -> SyncingDevice:
    """A new device of this user, which has fetched all pages."""
    device = SyncingDevice(pool, owner.user)
    await device.catch_up()
    return device


def _without_marks(push: SyncPush) -> SyncPush:
    if not isinstance(push, Participants):
        return push
    return replace(push, participants=[replace(each, delivered_seq=0, read_seq=0) for each in push.participants])


async def talks(pool: Pool, *people: Credentials, count: int) -> list[bytes]:
    return [await new_group(pool, *people) for _ in range(count)]


async def test_a_device_that_holds_nothing_gets_each_conversation_with_its_last_message(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    full, empty = await talks(pool, alice, bob, count=2)
    await say(pool, full, bob.user, b"1", b"2")
    page = await sync(pool, alice.user, None)
    own, *told = page.pushes
    assert own == await own_settings_of(pool, alice.user)
    assert sorted(told, key=repr) == sorted(
        [await conversations.one(pool, alice.user, each) for each in (full, empty)], key=repr
    )
    assert not page.more
    again = await sync(pool, alice.user, page.cursor)
    assert (again.pushes, again.more) == ([], False)


async def test_afterwards_it_gets_only_changes(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    here, there = await talks(pool, alice, bob, count=2)
    await say(pool, here, bob.user, b"1", b"2", b"3")
    await say(pool, there, bob.user, b"1")
    cursor = (await sync(pool, alice.user, None)).cursor
    await say(pool, here, bob.user, b"4", b"5")
    await revisions.edit(pool, bob.user, here, 1, 0, "text", b"one", None, None)
    await revisions.delete_for_me(pool, alice.user, here, 2)
    page = await sync(pool, alice.user, cursor)
    [conversation, participant, *rest] = page.pushes
    assert isinstance(participant, Participants)
    assert [each.user for each in participant.participants] == [alice.user], (
        "sync sends only the participant that has hidden a message"
    )
    assert isinstance(conversation, Conversation)
    assert (conversation.conversation, conversation.last_seq, conversation.last_message) == (here, 5, None)
    assert conversation.participants is None, "the participants are the same"
    assert [(type(each), each.seq) for each in rest if not isinstance(each, Conversation)] == [
        (Message, 1),
        (Tombstone, 2),
        (Message, 4),
        (Message, 5),
    ]
    page = await sync(pool, alice.user, page.cursor)
    assert page.pushes == []
    cursor = (await sync(pool, bob.user, None)).cursor
    assert (await mark(pool, [[Mark(alice.user, here, 4)]])).outcomes == [None]
    [marks] = (await sync(pool, bob.user, cursor)).pushes
    assert isinstance(marks, Participants)
    assert [(each.user, each.delivered_seq) for each in marks.participants] == [(alice.user, 4)], (
        "only the participant whose mark moved is sent"
    )


async def test_a_cursor_may_be_used_again(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    [here] = await talks(pool, alice, bob, count=1)
    cursor = (await sync(pool, alice.user, None)).cursor
    await say(pool, here, bob.user, b"1")
    first, second = await sync(pool, alice.user, cursor), await sync(pool, alice.user, cursor)
    assert first.pushes == second.pushes
    assert len(first.pushes) == 2


ROLES: Final[tuple[participants.Role, ...]] = ("admin", "member")


class RandomChanges:
    """Random changes by several users."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.users: list[bytes] = []
        self.groups: list[bytes] = []

    async def begin(self) -> None:
        people = [await new_user(self.pool, f"user{n}") for n in range(3)]
        self.users = [person.user for person in people]
        self.groups = await talks(self.pool, *people, count=3)

    async def step(self) -> None:
        chance = self.chance
        group, user, seq = chance.choice(self.groups), chance.choice(self.users), chance.randint(1, 12)
        kind = chance.random()
        change = self.change_message if kind < 0.6 else self.change_people if kind < 0.9 else self.expire
        with suppress(Refused):
            await change(chance, group, user, seq)

    async def change_message(self, chance: random.Random, group: bytes, user: bytes, seq: int) -> None:
        action = chance.randrange(7)
        if action < 3:
            await say(self.pool, group, user, *[chance.randbytes(chance.choice((3, 900)))] * chance.randint(1, 4))
        elif action == 3:
            await mark(self.pool, [[Mark(user, group, seq, chance.choice((0, seq)))]])
        elif action == 4:
            await revisions.edit(self.pool, user, group, seq, 0, "text", chance.randbytes(5), None, None)
        elif action == 5:
            await revisions.delete_for_everyone(self.pool, user, group, seq)
        else:
            await revisions.delete_for_me(self.pool, user, group, seq)

    async def change_people(self, chance: random.Random, group: bytes, user: bytes, _: int) -> None:
        action, other = chance.randrange(5), chance.choice(self.users)
        if action == 0:
            stranger = await new_user(self.pool, secrets.token_hex(8))
            self.groups.append(
                await new_group(self.pool, *[Credentials(each, b"", "") for each in self.users], stranger)
            )
        elif action == 1:
            await participants.remove(self.pool, user, group, other)
        elif action == 2:
            await participants.add(self.pool, user, group, other)
        elif action == 3:
            await participants.set_role(self.pool, user, group, other, chance.choice(ROLES))
        else:
            await self.change_settings(user, group)

    async def expire(self, chance: random.Random, group: bytes, _: bytes, upto: int) -> None:
        """The lifetime of the first messages ends; some messages below floors are deleted, some not yet."""
        await age(self.pool, group, upto=chance.choice((upto, 10 * upto)))
        await move_floors(self.pool, days=50, archives=False, limit=2)
        moved = await unannounced(self.pool, limit=2)
        await note_announced(self.pool, [each.settings.conversation for each in moved])
        for each in await uncleared(self.pool, limit=2):
            await clear(self.pool, each.conversation, limit=4)

    async def avatar(self, user: bytes) -> bytes | None:
        """An upload for a user or a group to show; or none any longer, or the one that there is."""
        if self.chance.random() < 0.6:
            return self.chance.choice((None, NO_AVATAR))
        return await new_attachment(self.pool, user, avatars="encrypted")

    async def change_settings(self, user: bytes, group: bytes) -> None:
        chance = self.chance
        if chance.random() < 0.5:
            await participants.change_settings(
                self.pool,
                user,
                group,
                name=chance.choice((None, "A", "B")),
                avatar=await self.avatar(user),
                joiners_see_all=chance.random() < 0.5,
                lifetime_s=chance.choice((None, 0, 50 * 86_400)),
            )
        else:
            await profiles.change(
                self.pool,
                user,
                display_name=chance.choice((None, "", "Ann", "Bo")),
                avatar=await self.avatar(user),
                gives_receipts=chance.random() < 0.7,
                shows_presence=None,
            )


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
async def test_a_device_that_syncs_amid_random_changes_ends_with_the_state_of_a_fresh_fetch(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sync_module, "MAX_CONVERSATIONS", 2)
    monkeypatch.setattr(sync_module, "MAX_MESSAGES", 3)
    monkeypatch.setattr(sync_module, "MAX_BYTES", 3000)
    changes = RandomChanges(pool, seed)
    await changes.begin()
    devices = [SyncingDevice(pool, user) for user in changes.users]
    for _ in range(60):
        await changes.step()
        if changes.chance.random() < 0.6:
            await changes.chance.choice(devices).pull(changes.chance.choice((None, None, 0, 1, 3)))
        if changes.chance.random() < 0.2:
            device = changes.chance.choice(devices)
            await device.catch_up()
            for _ in range(6):
                await changes.step()
            await device.stay()
        if changes.chance.random() < 0.1:
            device = changes.chance.choice(devices)
            assert await device.catch_up() <= 100
            await device.check()
    for device in devices:
        await device.catch_up()
        await device.check()


async def test_devices_that_pull_while_others_write_miss_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions overlap with the pages and with each other, in any order of beginning and committing."""
    monkeypatch.setattr(sync_module, "MAX_MESSAGES", 7)
    changes = RandomChanges(pool, 1)
    await changes.begin()
    devices = [SyncingDevice(pool, user) for user in changes.users]
    done = trio.Event()

    async def write(steps: int) -> None:
        for _ in range(steps):
            await changes.step()

    async def pull(device: SyncingDevice) -> None:
        while not done.is_set():
            await device.pull()

    async with trio.open_nursery() as readers:
        for device in devices:
            readers.start_soon(pull, device)
        async with trio.open_nursery() as writers:
            for _ in range(4):
                writers.start_soon(write, 60)
        done.set()
    # A message that `age` made older while its conversation was locked, and that still exists, differs from itself.
    await move_floors(pool, days=50, archives=False, limit=100)
    for device in devices:
        await device.catch_up()
        await device.check()


async def test_a_transaction_from_before_the_cursor_that_commits_after_it_comes(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """A sequence or a time would miss it: it is older than the changes that the cursor has seen."""
    early, late = await talks(pool, alice, bob, count=2)
    device = await synced(pool, alice)
    async with connected(pool.url) as slow:
        await slow.query("begin")
        await slow.query("update conversations set changed = pg_current_xact_id() where id = %s", (uuid(early),))
        await say(pool, late, bob.user, b"later")
        await device.catch_up()
        await slow.query(
            "insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)"
            " values (%s, 1, %s, %s, now(), 'text', 'earlier')",
            (uuid(early), uuid(secrets.token_bytes(16)), uuid(bob.user)),
        )
        await slow.query("update conversations set last_seq = 1 where id = %s", (uuid(early),))
        await device.catch_up()
        assert (early, 1) not in device.messages
        await slow.query("commit")
    await device.catch_up()
    assert {content(each) for each in device.messages.values()} == {b"earlier", b"later"}
    assert device.repeats == 0


def content(message: Message | Tombstone) -> bytes:
    assert isinstance(message, Message)
    return message.content


async def test_a_cursor_never_passes_the_last_transaction_that_is_on_disk(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """After a crash Postgres issues the numbers of lost transactions again: their changes must count as new."""
    [here] = await talks(pool, alice, bob, count=1)
    await say(pool, here, bob.user, b"1")
    [(durable,)] = await pool.fetch("select max(added)::text from messages")
    for _ in range(3):
        async with connected(pool.url) as connection:
            await connection.query("begin")
            await connection.query("select pg_current_xact_id()")
            await connection.query("rollback")
    first = await sync(pool, alice.user, None)
    second = await sync(pool, alice.user, first.cursor)
    for page in (first, second):
        assert cbor2.loads(page.cursor)[2][0] == int(durable) + 1


async def test_conversations_come_from_the_latest_message_down_and_one_that_moves_up_meanwhile_is_not_missed(
    pool: Pool, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its edits would be lost with its place: the cursor passes them in the end."""
    monkeypatch.setattr(sync_module, "MAX_CONVERSATIONS", 2)
    groups = await talks(pool, alice, bob, count=6)
    for group in groups:
        await say(pool, group, bob.user, b"held")
    for device in (fresh := SyncingDevice(pool, alice.user), behind := SyncingDevice(pool, alice.user)):
        if device is behind:
            await device.catch_up()
            for group in groups:
                await say(pool, group, bob.user, b"x")
                await revisions.edit(pool, bob.user, group, 1, 0, "text", b"edited", None, None)
        page = await sync(pool, alice.user, device.cursor)
        assert [each.conversation for each in page.pushes if isinstance(each, Conversation)] == groups[:3:-1]
        await device.pull()
        for group in groups[1::3]:
            await say(pool, group, bob.user, b"moves up")
        await device.catch_up()
        assert len(device.mailbox.conversations()) == 6
        await device.check()
    assert fresh is not behind


async def test_the_newest_alone_leave_a_gap_and_everything_else_is_told(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    [here] = await talks(pool, alice, bob, count=1)
    await say(pool, here, bob.user, b"1", b"2")
    device = await synced(pool, alice)
    await device.load_all()
    await say(pool, here, bob.user, b"3", b"4", b"5", b"6")
    await say(pool, here, alice.user, b"7", b"8")
    await revisions.edit(pool, bob.user, here, 1, 0, "text", b"one", None, None)
    await revisions.delete_for_everyone(pool, bob.user, here, 4)
    assert not await device.pull(newest=2)
    assert [(gap.after_seq, gap.before_seq) for gap in device.mailbox.gaps()] == [(2, 4)], "tombstones come"
    [bobs] = [each for each in device.mailbox.participants(here) if each.user == bob.user]
    assert bobs.read_seq == 6, "a sender has read the messages of theirs that sync leaves out"
    await device.check()
    assert device.read_as_history == 3


async def test_ten_thousand_missed_messages_come_once_each_in_pages(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    [here] = await talks(pool, alice, bob, count=1)
    device = await synced(pool, alice)
    for _ in range(20):
        await say(pool, here, bob.user, *[b"x"] * 500)
    pages = await device.catch_up()
    assert pages == 10_000 / sync_module.MAX_MESSAGES + 1, "one more page brings the messages since the first"
    assert sorted(seq for _, seq in device.messages) == list(range(1, 10_001))
    assert device.repeats == 0
    await device.check()


async def test_a_hundred_changed_conversations_are_one_page(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    groups = await talks(pool, alice, bob, count=150)
    device = SyncingDevice(pool, alice.user)
    assert await device.catch_up() == 3
    for group in groups[:100]:
        await say(pool, group, bob.user, b"x")
    assert await device.catch_up() == 1
    await device.check()
    for group in groups[:101]:
        await say(pool, group, bob.user, b"x")
    assert await device.catch_up() == 3
    await device.check()


async def test_a_page_is_bounded_in_bytes_but_holds_one_message_at_least(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    groups = await talks(pool, alice, bob, count=4)
    fresh, behind = SyncingDevice(pool, alice.user), SyncingDevice(pool, alice.user)
    await behind.catch_up()
    for group in groups:
        await say(pool, group, bob.user, *[bytes(65536)] * 3)
    assert await fresh.catch_up() == 5, "two last messages and their profiles exceed a page"
    await fresh.check()
    pages: list[SyncPage] = []
    while not pages or pages[-1].more:
        pages.append(await sync(pool, alice.user, pages[-1].cursor if pages else behind.cursor))
        sizes = [len(each.content) for each in pages[-1].pushes if isinstance(each, Message)]
        assert sum(sizes) <= 2 * 65536
        assert sizes or not pages[-1].more
        for push in pages[-1].pushes:
            behind.apply(push)
    behind.mailbox.synced(Synced(1, pages[-1].cursor, False))
    await behind.check()


async def test_a_cursor_of_another_user_or_history_is_foreign(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    await talks(pool, alice, bob, count=1)
    cursor = (await sync(pool, alice.user, None)).cursor
    with pytest.raises(ForeignCursor):
        await sync(pool, bob.user, cursor)
    await pool.fetch("update history set id = gen_random_uuid()")
    with pytest.raises(ForeignCursor):
        await sync(pool, alice.user, cursor)


async def test_after_a_cursor_was_moved_on_sync_returns_only_the_rest(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """A connected device does not get pushes again."""
    [here] = await talks(pool, alice, bob, count=1)
    await say(pool, here, bob.user, b"1", b"2")
    moved = cursor_of(alice.user, await take_cursor_snapshot(pool), 0)
    assert (await sync(pool, alice.user, moved)).pushes == []
    await say(pool, here, bob.user, b"3")
    assert [push.seq for push in (await sync(pool, alice.user, moved)).pushes if isinstance(push, Message)] == [3]
    with pytest.raises(ForeignCursor):
        await sync(pool, bob.user, moved)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("whose", ["another's", "their own"])
async def test_a_cursor_that_was_moved_on_tells_of_everybodys_marks_since_the_last_sync(
    pool: Pool, alice: Credentials, bob: Credentials, whose: str, read: int, times: int
) -> None:
    """They are pushed to the authors only: a third participant, or the marker's other device, learns of them now."""
    carol = await new_user(pool, "carol")
    here = await new_group(pool, alice, bob, carol)
    device = await synced(pool, carol)
    await say(pool, here, bob.user, b"1")
    for _ in range(times):
        await device.stay()
    marker = alice if whose == "another's" else carol
    await mark(pool, [[Mark(marker.user, here, 1, read)]])
    for _ in range(times):
        await device.stay()
    await device.catch_up()
    await device.check()
    assert (await sync(pool, carol.user, device.cursor)).pushes == [], (
        "the device has been sent the participants by then"
    )


@pytest.mark.parametrize("is_unblocked", [False, True])
@pytest.mark.parametrize("in_a_batch", [False, True])
async def test_a_cursor_that_was_moved_on_covers_messages_of_a_blocked_user(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, in_a_batch: bool, is_unblocked: bool
) -> None:
    """The blocker's devices are not told live, so no cursor may pass it: a fresh device is shown its tombstone."""
    device = await synced(pool, alice)
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    await device.stay()
    await say(pool, direct, bob.user, *[b"1", b"2"][: 1 + in_a_batch])
    device.mailbox.synced(Synced(1, cursor_of(alice.user, await take_cursor_snapshot(pool), device.marks), False))
    if is_unblocked:
        await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=False)
        device.mailbox.synced(Synced(1, cursor_of(alice.user, await take_cursor_snapshot(pool), device.marks), False))
    await device.catch_up()
    await device.check()
    assert [type(each) for each in device.messages.values()] == [Tombstone] * (1 + in_a_batch)
    assert (await sync(pool, alice.user, device.cursor)).pushes == [], "the tombstone has been sent by then"


async def test_a_cursor_that_is_too_old_is_expired(pool: Pool, alice: Credentials) -> None:
    owner, day, *rest = cbor2.loads((await sync(pool, alice.user, None)).cursor)
    assert not (await sync(pool, alice.user, cbor2.dumps([owner, day - CURSOR_DAYS, *rest]))).more
    with pytest.raises(ExpiredCursor):
        await sync(pool, alice.user, cbor2.dumps([owner, day - CURSOR_DAYS - 1, *rest]))


async def test_a_removed_user_gets_the_departure_and_no_message_sent_after_it(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    [here] = await talks(pool, alice, bob, count=1)
    device = await synced(pool, bob)
    await say(pool, here, alice.user, b"before")
    await participants.remove(pool, alice.user, here, bob.user)
    await say(pool, here, alice.user, b"after")
    cursor = device.cursor
    page = await sync(pool, bob.user, cursor)
    assert [(type(push), push.conversation) for push in page.pushes] == [(Departed, here)]
    await device.catch_up()
    await device.check()
    await participants.add(pool, alice.user, here, bob.user)
    await say(pool, here, alice.user, b"again")
    await device.catch_up()
    await device.check()
    assert [content(each) for each in device.messages.values()] == [b"again"]


async def test_a_user_who_returns_while_a_page_says_that_they_left_gets_the_return_too(
    pool: Pool, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: a departure that was sent with the version of the return made the conversation vanish for good."""
    [here] = await talks(pool, alice, bob, count=1)
    device = await synced(pool, bob)
    await participants.remove(pool, alice.user, here, bob.user)
    read = sync_module.some_of

    async def come_back_meanwhile(*given: Any) -> list[Conversation]:
        found = await read(*given)
        await participants.add(pool, alice.user, here, bob.user)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sync_module, "some_of", come_back_meanwhile)
        await device.pull()
    await device.catch_up()
    await device.check()
    assert device.mailbox.conversations() == [here]


async def test_sync_sends_no_marks_of_other_participants_of_a_large_group(pool: Pool, alice: Credentials) -> None:
    """Otherwise one message to all would be a change for all from each of them."""
    others = [await new_user(pool, f"user{n}") for n in range(32)]
    here = await new_group(pool, alice, *others)
    await say(pool, here, alice.user, b"1")
    device, other = SyncingDevice(pool, alice.user), SyncingDevice(pool, others[0].user)
    for each in (device, other):
        await each.catch_up()
    await mark(pool, [[Mark(each.user, here, 1, 1) for each in others]])
    assert (await sync(pool, alice.user, device.cursor)).pushes == [ReceiptCounts(here, [(1, 32, 32, 32)])]
    [own] = (await sync(pool, others[0].user, other.cursor)).pushes
    assert isinstance(own, Participants)
    assert [(each.user, each.read_seq) for each in own.participants] == [(others[0].user, 1)]
    await device.catch_up()
    await device.check()


@pytest.fixture
async def many(pool: Pool) -> list[Credentials]:
    return [await new_user(pool, f"user{n}") for n in range(MAX_SHOWN)]


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("how", ["marks", "an answer"])
async def test_sync_sends_the_receipt_counts_of_own_last_messages_in_a_large_group_as_to_a_fresh_device(
    pool: Pool, alice: Credentials, many: list[Credentials], how: str, stays: bool
) -> None:
    """They are pushed only to connected devices; a user who answers has read, without a mark."""
    here = await new_group(pool, alice, *many)
    await say(pool, here, alice.user, b"old", *[b"x"] * COUNTED, b"new")
    device, other = SyncingDevice(pool, alice.user), SyncingDevice(pool, many[0].user)
    for each in (device, other):
        await each.catch_up()
    last = COUNTED + 2
    await mark(pool, [[Mark(each.user, here, last, last) for each in many[1:]]])
    if how == "marks":
        await mark(pool, [[Mark(many[0].user, here, last, last)]])
    else:
        await say(pool, here, many[0].user, b"I see")
    if stays:
        await device.stay()
    await device.catch_up()
    await device.check()
    held = device.mailbox.messages(here)
    assert {each.seq: device.mailbox.status(each) for each in held if each.sender == alice.user}[last] == "read"
    fresh = await synced(pool, alice)
    await fresh.load_all()
    statuses = [fresh.mailbox.status(each) for each in fresh.mailbox.messages(here)]
    assert statuses[0] == "sent", "a client asks for the marks of earlier messages"
    assert set(statuses[-COUNTED:-1]) == {"read"}
    assert (await sync(pool, many[0].user, other.cursor)).pushes != []
    await other.catch_up()
    await other.check()


@pytest.mark.parametrize("stays", [False, True])
async def test_sync_sends_no_profiles_of_a_large_group_and_all_profiles_of_a_smaller_one(
    pool: Pool, alice: Credentials, bob: Credentials, many: list[Credentials], stays: bool
) -> None:
    """A name that changed while the group was too large for names; and the group's becoming small enough for them."""
    here = await new_group(pool, alice, *many)
    await say(pool, here, alice.user, b"1")
    device = await synced(pool, alice)

    async def next_change() -> None:
        if stays:
            # `tests/server/test_participants.py` covers the live pushes of these changes.
            await device.catch_up()
            await device.stay()
        await device.catch_up()
        await device.check()

    await profiles.change(pool, many[0].user, display_name="Ann", gives_receipts=None, shows_presence=None)
    await mark(pool, [[Mark(many[0].user, here, 1, 1)]])
    await next_change()
    await participants.remove(pool, alice.user, here, many[1].user)
    await next_change()
    [ann] = [each for each in device.mailbox.participants(here) if each.user == many[0].user]
    assert (ann.display_name, ann.revision, ann.read_seq) == ("Ann", 1, 1)
    await participants.add(pool, alice.user, here, bob.user)
    await next_change()
    assert [each.user for each in device.mailbox.participants(here)] == [alice.user]


@pytest.mark.parametrize("shows_all", [False, True])
@pytest.mark.parametrize("way", ["new", "added", "back"])
async def test_a_newcomer_gets_the_last_message_like_a_fresh_device(
    pool: Pool, alice: Credentials, bob: Credentials, way: str, shows_all: bool
) -> None:
    """Others are read as history; edits and deletions of messages that the device holds are sent all the same."""
    device = SyncingDevice(pool, bob.user)
    here = await new_group(pool, alice, *([bob] if way == "back" else []))
    await participants.change_settings(pool, alice.user, here, joiners_see_all=shows_all)
    await say(pool, here, alice.user, b"1", b"2")
    await device.catch_up()
    if way == "back":
        await participants.remove(pool, alice.user, here, bob.user)
    if way == "new":
        here = await new_group(pool, alice, bob)
    else:
        await participants.add(pool, alice.user, here, bob.user)
    cursor = device.cursor
    await say(pool, here, alice.user, b"3", b"4", b"5")
    _, *fresh = (await sync(pool, bob.user, None)).pushes
    told = [each for each in (await sync(pool, bob.user, cursor)).pushes if not isinstance(each, OwnSettings)]
    assert told == fresh == [await conversations.one(pool, bob.user, here)]
    await device.catch_up()
    await device.check()
    [held, *_] = device.messages.values()
    assert device.read_as_history == 0 or way == "back"
    await revisions.edit(pool, alice.user, here, held.seq, 0, "text", b"other", None, None)
    edited = (await sync(pool, bob.user, cursor)).pushes
    assert [each.seq for each in edited if isinstance(each, Message)] in ([held.seq], []), way
    await device.catch_up()
    await device.check()


async def test_a_floor_that_has_risen_is_pushed_and_messages_below_it_are_dropped(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    [here] = await talks(pool, alice, bob, count=1)
    device = await synced(pool, alice)
    await say(pool, here, bob.user, *[b"x"] * 5)
    await device.catch_up()
    await pool.fetch("delete from messages where seq <= 3")
    await pool.fetch("update conversations set floor_seq = 3, changed = pg_current_xact_id()")
    await device.catch_up()
    assert [seq for _, seq in device.messages] == [4, 5]
    await device.check()
    assert (await messages.history(pool, alice.user, here, limit=9, after=1, before=3)).first_seq == 4


@pytest.mark.parametrize("in_a_batch", [False, True])
async def test_messages_of_a_blocked_user_do_not_count_on_any_device(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, in_a_batch: bool
) -> None:
    """Messages from before the block count as read; later ones are tombstones."""
    await say(pool, direct, bob.user, b"1", b"2")
    device = await synced(pool, alice)
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    await device.catch_up()
    await device.check()
    assert own_mark(device, direct) == 2
    await say(pool, direct, bob.user, *[b"3", b"4"][: 1 + in_a_batch])
    await device.catch_up()
    await device.check()
    assert (own_mark(device, direct), unread_on(device, direct)) == (2, 0)
    fresh = await synced(pool, alice)
    assert unread_on(fresh, direct) == 0


def unread_on(device: SyncingDevice, conversation: bytes) -> int:
    head = device.mailbox.head(conversation)
    assert head is not None
    return head.unread_count


def own_mark(device: SyncingDevice, conversation: bytes) -> int:
    head = device.mailbox.head(conversation)
    [own] = [each for each in head.participants or () if each.user == device.user]
    assert own.read_seq is not None
    return own.read_seq


async def test_a_cursor_from_the_future_is_foreign(pool: Pool, alice: Credentials) -> None:
    """Postgres was set back, by a fail-over that lost the end of its log or by a restored copy."""
    owner, day, *_ = cbor2.loads((await sync(pool, alice.user, None)).cursor)
    for snapshots in (([2**40], []), ([5], [2**40])):
        with pytest.raises(ForeignCursor):
            await sync(pool, alice.user, cbor2.dumps([owner, day, *snapshots, bytes(16), -1]))


@each_row(
    "cursor",
    [
        [b"owner", 1, [5], [], bytes(16)],
        [b"owner", 1, [5], [], bytes(16), -1, 2**63],
        [b"owner", 1, [5], [], bytes(16), -1, 2**32],
        [b"owner", 1, [5], [], bytes(16), -1, -1],
        [b"owner", 1, [5], [], bytes(16), -1, 0, 0],
        [b"owner", 1, [5], [], bytes(15), -1],
        [b"owner", 1, [5], [], bytes(16), -2],
        [b"owner", 1, [5], [], bytes(16), 2**63],
        [b"owner", 1, [0], [], bytes(16), -1],
        [b"owner", 1, [2**63], [], bytes(16), -1],
        [b"owner", 1, [5, 6], [], bytes(16), -1],
        [b"owner", 1, [5, 3, 2], [], bytes(16), -1],
        [b"owner", 1, [5, 3, 3], [], bytes(16), -1],
        [b"owner", 1, [5], ["5"], bytes(16), -1],
        [b"owner", 1, [5], [], bytes(16), True],
        ["owner", 1, [5], [], bytes(16), -1],
        {},
        7,
    ],
)
async def test_a_cursor_that_no_server_issued_is_foreign(pool: Pool, alice: Credentials, cursor: object) -> None:
    with pytest.raises(ForeignCursor):
        await sync(pool, alice.user, cbor2.dumps(cursor))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_cursor_or_a_foreign_one(data: bytes) -> None:
    try:
        cursor = sync_module.SyncCursor.decode(data)
    except ForeignCursor:
        return
    assert sync_module.SyncCursor.decode(cursor.encode()) == cursor


xids = st.integers(1, 300)


@given(xids, st.sets(xids), xids)
def test_part_of_a_snapshot_knows_no_transaction_that_the_whole_does_not(
    xmax: int, under_way: set[int], bound: int
) -> None:
    whole = Snapshot(xmax, tuple(sorted(xid for xid in under_way if xid < xmax)))
    part = whole.cut(bound)
    known = {xid for xid in range(1, 301) if xid < part.xmax and xid not in part.under_way}
    assert known <= {xid for xid in range(1, 301) if xid < whole.xmax and xid not in whole.under_way}
    assert len(part.under_way) <= sync_module.MAX_UNDER_WAY
    assert part.xmax <= bound
    if len(whole.under_way) <= sync_module.MAX_UNDER_WAY:
        assert len(known) == sum(xid not in whole.under_way for xid in range(1, min(bound, xmax)))
    assert Snapshot.parse(str(part)) == part
