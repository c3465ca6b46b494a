"""A user's reads after an ack: lists, unread counts and history, against a plain model of the conversations."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trio
from msgspec import Struct
from msgspec.structs import replace

from client.http import Credentials
from protocol.frames import Conversation, Message, Tombstone
from store import conversations, messages, revisions
from store.errors import NotAParticipant, UnknownUser
from store.history_pages import newest
from store.list_pages import first_page
from store.marks import Mark, mark
from store.messages import Committed, MissedMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.rows import conversation_of
from store.sync import sync
from tests.people import new_direct, new_group, new_user
from tests.rows import each_row
from tests.store.store_world import a_message


async def sent(pool: Pool, conversation: bytes, sender: bytes, *contents: bytes) -> list[Message]:
    batch = [a_message(conversation, sender, content) for content in contents]
    stored = []
    for message, outcome in zip(batch, await send(pool, ParticipantsCache(), batch), strict=True):
        assert isinstance(outcome, Committed)
        stored.append(
            Message(
                conversation,
                outcome.seq,
                outcome.message,
                outcome.created,
                sender,
                message.content_type,
                message.content,
                message.nonce,
                message.ephemeral_public_key,
                message.temp_id,
            )
        )
    return stored


def as_seen_by(user: bytes, message: Message) -> Message:
    """A temp_id is for its sender's devices only."""
    return message if message.sender == user else replace(message, temp_id=None)


async def history(pool: Pool, user: bytes, conversation: bytes, **bounds: int | None) -> list[Message | Tombstone]:
    return (await messages.history(pool, user, conversation, **bounds)).messages  # type: ignore[arg-type]


@dataclass
class ModelParticipant:
    """One participant in the model."""

    joined: int = 0
    delivered: int = 0
    read: int = 0


@dataclass
class ModelConversation:
    """One conversation in the model."""

    readers: dict[bytes, ModelParticipant]
    history: list[Message] = field(default_factory=list)

    @property
    def last(self) -> int:
        return len(self.history)

    def unread_by(self, user: bytes) -> int:
        """By the words of the promise (P7): messages of others above both the reader's mark and the join floor."""
        reader = self.readers[user]
        floor = max(reader.read, reader.joined)
        return sum(message.sender != user and message.seq > floor for message in self.history)

    def readable_by(self, user: bytes) -> list[Message]:
        return [as_seen_by(user, message) for message in self.history if message.seq > self.readers[user].joined]


class ModelledConversations:
    """Random sends, marks, reads and joins, applied to the store and to the model alike."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.talks: dict[bytes, ModelConversation] = {}
        self.users: list[bytes] = []

    async def begin(self) -> None:
        people = [await new_user(self.pool, f"user{i}") for i in range(4)]
        self.users = [person.user for person in people]
        for participants in (people[:2], people[1:3], people[:3]):
            conversation = await new_group(self.pool, *participants)
            self.talks[conversation] = ModelConversation({person.user: ModelParticipant() for person in participants})

    async def step(self) -> None:
        action = self.chance.choice((self.send, self.send, self.mark, self.read, self.join))
        conversation = self.chance.choice(list(self.talks))
        await action(conversation, self.talks[conversation])

    async def send(self, conversation: bytes, talk: ModelConversation) -> None:
        sender = self.chance.choice(list(talk.readers))
        contents = [self.chance.randbytes(4) for _ in range(self.chance.randint(1, 3))]
        talk.history += await sent(self.pool, conversation, sender, *contents)
        writer = talk.readers[sender]
        writer.read = writer.delivered = talk.last

    async def mark(self, conversation: bytes, talk: ModelConversation) -> None:
        user, seq = self.chance.choice(self.users), self.chance.randint(0, talk.last + 2)
        assert (await mark(self.pool, [[Mark(user, conversation, seq)]])).outcomes == [None]
        if reader := talk.readers.get(user):
            reader.delivered = max(reader.delivered, min(seq, talk.last))

    async def read(self, conversation: bytes, talk: ModelConversation) -> None:
        user, seq = self.chance.choice(list(talk.readers)), self.chance.randint(0, talk.last)
        assert (await mark(self.pool, [[Mark(user, conversation, seq, seq)]])).outcomes == [None]
        reader = talk.readers[user]
        reader.read = max(reader.read, seq)
        reader.delivered = max(reader.delivered, seq)

    async def join(self, conversation: bytes, talk: ModelConversation) -> None:
        user = self.chance.choice(self.users)
        if user in talk.readers:
            return
        await self.pool.fetch(
            "with joined as (insert into participants (conversation_id, user_id, joined_seq, since_seq)"
            " values (%s, %s, %s, %s))"
            " update conversations set participants_version = participants_version + 1 where id = %s",
            (uuid(conversation), uuid(user), talk.last, talk.last, uuid(conversation)),
        )
        talk.readers[user] = ModelParticipant(joined=talk.last)

    async def check(self) -> None:
        for user in self.users:
            mine = {c: talk for c, talk in self.talks.items() if user in talk.readers}
            listed = await conversations.list_of(self.pool, user, limit=100)
            assert {entry.conversation for entry in listed} == set(mine)
            assert listed == sorted(listed, key=lambda entry: (entry.active_at, entry.conversation), reverse=True)
            for entry in listed:
                self._check_entry(user, entry, mine[entry.conversation])
                assert await conversations.one(self.pool, user, entry.conversation) == entry
            await self._check_history(user)

    def _check_entry(self, user: bytes, entry: Conversation, talk: ModelConversation) -> None:
        readable = talk.readable_by(user)
        assert entry.unread_count == talk.unread_by(user)
        assert entry.last_seq == talk.last
        assert entry.first_seq == talk.readers[user].joined + 1
        assert entry.last_message == (readable[-1] if readable else None)
        assert {(p.user, p.joined_seq, p.delivered_seq, p.read_seq) for p in entry.participants} == {
            (user, reader.joined, reader.delivered, reader.read) for user, reader in talk.readers.items()
        }
        if talk.history:
            assert entry.active_at == talk.history[-1].created

    async def _check_history(self, user: bytes) -> None:
        conversation, talk = self.chance.choice(list(self.talks.items()))
        if user not in talk.readers:
            with pytest.raises(NotAParticipant):
                await messages.history(self.pool, user, conversation, limit=10)
            return
        limit, seq = self.chance.randint(1, 5), self.chance.randint(-1, talk.last + 2)
        readable = talk.readable_by(user)
        older = await history(self.pool, user, conversation, limit=limit, before=seq)
        assert older == [message for message in readable[::-1] if message.seq < seq][:limit]
        newer = await history(self.pool, user, conversation, limit=limit, after=seq)
        assert newer == [message for message in readable if message.seq > seq][:limit]
        latest = await history(self.pool, user, conversation, limit=limit)
        assert latest == readable[::-1][:limit]


@pytest.mark.parametrize("seed", range(3))
async def test_lists_unread_counts_and_history_are_what_a_plain_model_says(pool: Pool, seed: int) -> None:
    modelled = ModelledConversations(pool, seed)
    await modelled.begin()
    for turn in range(60):
        await modelled.step()
        if turn % 4 == 0:
            await modelled.check()
    await modelled.check()


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
async def test_history_in_pages_is_the_whole_history_in_both_directions(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, limit: int
) -> None:
    whole = [
        as_seen_by(bob.user, each) for each in await sent(pool, direct, alice.user, *[b"%d" % n for n in range(7)])
    ]
    back: list[Message | Tombstone] = []
    while page := await history(pool, bob.user, direct, limit=limit, before=back[-1].seq if back else None):
        assert len(page) <= limit
        back += page
    assert back == whole[::-1]
    on: list[Message | Tombstone] = []
    while page := await history(pool, bob.user, direct, limit=limit, after=on[-1].seq if on else 0):
        on += page
    assert on == whole


async def test_history_between_two_seqs_is_read_from_the_older_end(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    whole = [
        as_seen_by(bob.user, each) for each in await sent(pool, direct, alice.user, *[b"%d" % n for n in range(9)])
    ]
    page = await messages.history(pool, bob.user, direct, limit=3, after=2, before=7)
    assert (page.messages, page.more) == (whole[2:5], True)
    page = await messages.history(pool, bob.user, direct, limit=3, after=5, before=7)
    assert (page.messages, page.more) == (whole[5:6], False)
    page = await messages.history(pool, bob.user, direct, limit=3, after=6, before=7)
    assert (page.messages, page.more) == ([], False)


@pytest.mark.parametrize("after", [None, 0])
async def test_history_page_is_bounded_in_bytes_but_holds_one_message_at_least(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, after: int | None
) -> None:
    # With a nonce of 24 bytes each has 1,024.
    whole = [as_seen_by(bob.user, each) for each in await sent(pool, direct, alice.user, *[b"x" * 1000] * 5)]
    if after is None:
        whole.reverse()
    for max_bytes, count in ((3071, 2), (3072, 3), (1, 1), (5120, 5)):
        page = await messages.history(pool, bob.user, direct, limit=5, after=after, max_bytes=max_bytes)
        assert (page.messages, page.more) == (whole[:count], count < 5)


async def test_list_in_pages_misses_and_repeats_nothing_though_all_were_active_at_once(
    pool: Pool, alice: Credentials
) -> None:
    """The cursor breaks ties by id; the old one split at the time and skipped them."""
    made = {await new_group(pool, alice) for _ in range(7)}
    await pool.fetch("update conversations set active_at = '2026-01-01 00:00:00.123456+00'")
    for limit in (1, 2, 3, 7):
        listed: list[Conversation] = []
        before = None
        while page := await conversations.list_of(pool, alice.user, limit=limit, before=before):
            assert len(page) <= limit
            listed += page
            before = (page[-1].active_at, page[-1].conversation)
        assert [entry.conversation for entry in listed] == sorted(made, reverse=True)


async def test_list_in_pages_keeps_its_order_while_conversations_move_up(pool: Pool, alice: Credentials) -> None:
    """A conversation that moved between two pages is missing from the second only because it is above the first now."""
    groups = [await new_group(pool, alice) for _ in range(6)]
    for group in groups:
        await sent(pool, group, alice.user, b"x")
    first = await conversations.list_of(pool, alice.user, limit=3)
    await sent(pool, groups[0], alice.user, b"moves up")
    second = await conversations.list_of(
        pool, alice.user, limit=3, before=(first[-1].active_at, first[-1].conversation)
    )
    assert [entry.conversation for entry in first + second] == [groups[i] for i in (5, 4, 3, 2, 1)]


async def test_a_user_that_is_no_participant_reads_nothing(pool: Pool) -> None:
    """P11: a conversation of others and one that does not exist look alike."""
    alice, bob, eve = [await new_user(pool, name) for name in ("alice", "bob", "eve")]
    conversation = await new_direct(pool, alice, bob)
    await sent(pool, conversation, alice.user, b"secret")
    assert await conversations.list_of(pool, eve.user, limit=10) == []
    for user, target in ((eve.user, conversation), (alice.user, secrets.token_bytes(16)), (b"?" * 16, conversation)):
        for read in (
            lambda: conversations.one(pool, user, target),  # noqa: B023  (called at once)
            lambda: messages.history(pool, user, target, limit=1),  # noqa: B023
            lambda: messages.history(pool, user, target, limit=1, after=0),  # noqa: B023
        ):
            with pytest.raises(NotAParticipant):
                await read()


async def test_participant_of_an_empty_conversation_reads_an_empty_history(
    pool: Pool, alice: Credentials, direct: bytes
) -> None:
    for after in (None, 0):
        page = await messages.history(pool, alice.user, direct, limit=10, after=after)
        assert (page.messages, page.more) == ([], False)
    [entry] = await conversations.list_of(pool, alice.user, limit=10)
    assert (entry.first_seq, entry.last_seq, entry.unread_count, entry.last_message) == (1, 0, 0, None)


async def test_two_users_have_one_direct_conversation_however_often_it_is_made(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """Both at once, from both sides: one of the requests creates it, and all get it."""
    made: list[tuple[bytes, bool]] = []

    async def make(one: Credentials, other: Credentials) -> None:
        made.append(await conversations.add_direct(pool, one.user, other.user))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(make, alice, bob)
            nursery.start_soon(make, bob, alice)
    assert len({conversation for conversation, _ in made}) == 1
    assert [is_new for _, is_new in made].count(True) == 1
    assert set(await messages.current_participants(pool, made[0][0])) == {alice.user, bob.user}


@each_row(
    ("around", "limit", "seqs", "older", "newer"),
    [
        (5, 4, [3, 4, 5, 6], False, True),
        (5, 1, [5], True, True),
        (3, 4, [3, 4], False, True),
        (9, 6, [6, 7, 8, 9], True, False),
        (99, 4, [7, 8, 9], True, False),
        (0, 4, [3], False, True),
        (6, 100, [3, 4, 5, 6, 7, 8, 9], False, False),
    ],
)
async def test_history_around_a_message_has_as_much_before_as_after(
    pool: Pool, alice: Credentials, bob: Credentials, around: int, limit: int, seqs: list[int], older: bool, newer: bool
) -> None:
    """From the join floor, here 2, to the last message, here 9."""
    group = await new_group(pool, alice, bob)
    await send(pool, ParticipantsCache(), [a_message(group, alice.user) for _ in range(9)])
    await pool.fetch("update participants set joined_seq = 2, since_seq = 2 where user_id = %s", (uuid(bob.user),))
    page = await messages.history_around(pool, bob.user, group, around=around, limit=limit)
    assert [message.seq for message in page.messages] == seqs
    assert (page.has_older, page.has_newer) == (older, newer)
    whole = await messages.history(pool, bob.user, group, limit=99, after=0)
    assert page.messages == [message for message in whole.messages if message.seq in seqs]


@pytest.mark.parametrize(
    ("around", "max_bytes", "seqs", "older", "newer"),
    [
        (5, 3071, [4, 5], True, True),
        (5, 3072, [4, 5, 6], True, True),
        (5, 1, [5], True, True),
        (1, 2048, [1, 2], False, True),
        (9, 2500, [8, 9], True, False),
        (0, 1, [1], False, True),
        (99, 1, [9], True, False),
    ],
)
async def test_history_around_a_message_is_bounded_in_bytes_and_holds_the_nearest_messages(
    pool: Pool,
    alice: Credentials,
    bob: Credentials,
    direct: bytes,
    around: int,
    max_bytes: int,
    seqs: list[int],
    older: bool,
    newer: bool,
) -> None:
    await sent(pool, direct, alice.user, *[b"x" * 1000] * 9)
    page = await messages.history_around(pool, bob.user, direct, around=around, limit=9, max_bytes=max_bytes)
    assert [message.seq for message in page.messages] == seqs
    assert (page.has_older, page.has_newer) == (older, newer)


async def test_history_around_is_for_participants_and_empty_where_there_is_nothing(pool: Pool) -> None:
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    group = await new_group(pool, alice, bob)
    page = await messages.history_around(pool, alice.user, group, around=5, limit=4)
    assert (page.messages, page.has_older, page.has_newer) == ([], False, False)
    with pytest.raises(NotAParticipant):
        await messages.history_around(pool, carol.user, group, around=5, limit=4)


async def test_conversation_with_an_unknown_user_is_not_made(pool: Pool, alice: Credentials) -> None:
    with pytest.raises(UnknownUser):
        await conversations.add_direct(pool, alice.user, b"?" * 16)
    with pytest.raises(UnknownUser):
        await conversations.add_group(pool, "Group", [alice.user, b"?" * 16], admin=alice.user)
    assert await pool.fetch("select count(*) from conversations") == [(0,)]


async def test_active_conversations_have_the_seq_from_before_the_period(pool: Pool) -> None:
    """A node that missed messages reads from `base` on: no lower than needed, no higher than safe."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    moved, still = await new_direct(pool, alice, bob), await new_direct(pool, alice, carol)
    await sent(pool, moved, alice.user, b"old", b"old")
    await sent(pool, still, alice.user, b"old")
    await pool.fetch("update messages set created = created - interval '1 hour'")
    await pool.fetch("update conversations set active_at = active_at - interval '1 hour'")
    new = await sent(pool, moved, bob.user, b"new", b"newer")
    [found] = await messages.active_conversations(pool, [alice.user, carol.user], ago_s=60)
    assert (found.conversation, found.last_seq, found.base) == (moved, 4, 2)
    assert set(found.participants) == {alice.user, bob.user}
    missed = await messages.messages_between(pool, moved, [bob.user], after=found.base, upto=found.last_seq, limit=10)
    assert missed == [MissedMessage(each, [bob.user], []) for each in new]
    assert await messages.messages_between(pool, moved, [bob.user], after=2, upto=4, limit=1) == missed[:1]
    assert await messages.active_conversations(pool, [carol.user], ago_s=60) == []
    assert await messages.active_conversations(pool, [], ago_s=60) == []


async def on_first_page(pool: Pool, user: bytes) -> list[Conversation]:
    return [conversation_of(each) for each in (await first_page(pool, user, limit=9)).entries.values()]


WAYS: dict[str, Callable[[Pool, bytes, bytes], Awaitable[object]]] = {
    "history": lambda pool, user, talk: messages.history(pool, user, talk, limit=9),
    "history after": lambda pool, user, talk: messages.history(pool, user, talk, limit=9, after=0),
    "history around": lambda pool, user, talk: messages.history_around(pool, user, talk, around=1, limit=9),
    "the list": lambda pool, user, talk: conversations.list_of(pool, user, limit=9),
    "its first page": lambda pool, user, talk: on_first_page(pool, user),
    "the newest page of history": lambda pool, user, talk: newest(pool, user, talk, limit=9, max_bytes=9999),
    "one conversation": lambda pool, user, talk: conversations.one(pool, user, talk),
    "a fresh sync": lambda pool, user, talk: sync(pool, user, None),
}


def messages_in(found: object) -> Iterator[Message]:
    """All temp_ids anywhere in the result."""
    if isinstance(found, Message):
        yield found
    elif isinstance(found, Struct):
        for name in found.__struct_fields__:
            yield from messages_in(getattr(found, name))
    elif isinstance(found, dict):
        yield from messages_in(list(found.values()))
    elif isinstance(found, list | tuple):
        for each in found:
            yield from messages_in(each)


@pytest.mark.parametrize("way", WAYS)
async def test_a_temp_id_is_told_to_the_senders_devices_alone(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, way: str
) -> None:
    [whole] = await sent(pool, direct, alice.user, b"x")
    assert list(messages_in(await WAYS[way](pool, alice.user, direct))) == [whole]
    assert list(messages_in(await WAYS[way](pool, bob.user, direct))) == [replace(whole, temp_id=None)]


async def test_a_resumed_sync_tells_the_temp_id_of_own_messages(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """So a device whose `sent` was lost recognises the message among those that it still shows as being sent."""
    cursors = {user: (await sync(pool, user, None)).cursor for user in (alice.user, bob.user)}
    whole = [*await sent(pool, direct, alice.user, b"1"), *await sent(pool, direct, bob.user, b"2")]
    await revisions.edit(pool, alice.user, direct, 1, 0, "text", b"one", None, None)
    for user, cursor in cursors.items():
        found = list(messages_in((await sync(pool, user, cursor)).pushes))
        assert [each.temp_id for each in found] == [as_seen_by(user, each).temp_id for each in whole]
