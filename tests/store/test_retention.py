"""Floors by time: messages whose lifetime has ended are found, hidden from all users, and deleted."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable

import pytest

from client.http import Credentials
from protocol.frames import Message
from store import contacts, conversations, marks, messages, notifiers, participants, revisions, sql
from store.errors import NotAGroup, NotAnAdministrator, NotAParticipant, Refused, UnknownMessage
from store.history_pages import newest
from store.list_pages import first_page
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.retention import FloorMoves, below, clear, move_floors, note_announced, unannounced, uncleared
from tests.ageing import age
from tests.people import new_group, new_user
from tests.store.store_world import a_message
from tests.uploads import new_upload

DAY_S = 86_400


@pytest.fixture
async def talk(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    """Five messages of bob's, the first three 100 days old."""
    talk = await new_group(pool, alice, bob)
    await say(pool, talk, bob, 5)
    await age(pool, talk, upto=3)
    return talk


async def say(pool: Pool, talk: bytes, who: Credentials, count: int = 1) -> list[Committed]:
    batch = [a_message(talk, who.user, b"%d" % n) for n in range(count)]
    sent = await send(pool, ParticipantsCache(), batch)
    assert all(isinstance(each, Committed) for each in sent), sent
    return [each for each in sent if isinstance(each, Committed)]


async def move(pool: Pool, *, days: float = 0, archives: bool = False) -> FloorMoves:
    return await move_floors(pool, days=days, archives=archives, limit=10)


async def clear_all(pool: Pool, *, batch: int = 500) -> list[int]:
    """The result of each deletion."""
    moved = await unannounced(pool, limit=100)
    await note_announced(pool, [each.settings.conversation for each in moved])
    deleted = []
    while left := await uncleared(pool, limit=100):
        deleted += [await clear(pool, each.conversation, limit=batch) for each in left]
    return deleted


async def floor_of(pool: Pool, talk: bytes) -> int:
    [(floor,)] = await pool.fetch("select floor_seq from conversations where id = %s", (uuid(talk),))
    return int(floor)


@pytest.mark.parametrize(
    ("lifetime_days", "kept_days", "floor"),
    [(0, 0, 0), (50, 0, 3), (0, 50, 3), (50, 200, 3), (200, 50, 3), (200, 0, 0)],
)
async def test_the_shorter_of_the_two_times_counts(
    pool: Pool, alice: Credentials, talk: bytes, lifetime_days: int, kept_days: int, floor: int
) -> None:
    await participants.change_settings(pool, alice.user, talk, lifetime_s=lifetime_days * DAY_S)
    await move(pool, days=kept_days)
    assert await floor_of(pool, talk) == floor


async def test_messages_below_a_floor_are_hidden_whether_deleted_yet_or_not(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    await mark(pool, [[Mark(alice.user, talk, 1, 1)]])
    await move(pool, days=50)
    for _ in range(2):
        assert [each.seq for each in (await messages.history(pool, alice.user, talk, limit=9)).messages] == [5, 4]
        page = await messages.history(pool, alice.user, talk, limit=9, after=1)
        assert ([each.seq for each in page.messages], page.first_seq) == ([4, 5], 4)
        around = await messages.history_around(pool, alice.user, talk, around=2, limit=9)
        assert ([each.seq for each in around.messages], around.has_older) == ([4, 5], False)
        missed = await messages.messages_between(pool, talk, [alice.user], after=0, upto=9, limit=9)
        assert [each.message.seq for each in missed if each.holders] == [4, 5]
        shown = await conversations.one(pool, alice.user, talk)
        assert (shown.first_seq, shown.last_seq, shown.unread_count) == (4, 5, 2)
        newest_page = await newest(pool, alice.user, talk, limit=9, max_bytes=9999)
        assert ([each.seq for each in newest_page.messages], newest_page.version.floor) == ([5, 4], 3)
        for act in acts_on(pool, bob, talk):
            with pytest.raises(UnknownMessage):
                await act(3)
        await revisions.edit(pool, bob.user, talk, 4, await revision_of(pool, talk, 4), "text", b"x", None, None)
        replies = [a_message(talk, alice.user, reply_to=seq) for seq in (3, 4)]
        assert isinstance((await send(pool, ParticipantsCache(), replies[:1]))[0], UnknownMessage)
        outcomes = await send(pool, ParticipantsCache(), [*replies[:1], a_message(talk, bob.user, reply_to=2)])
        assert [type(each) for each in outcomes] == [UnknownMessage, UnknownMessage]
        await clear_all(pool)
    assert await pool.fetch("select array_agg(seq order by seq) from messages") == [([4, 5],)]


def acts_on(pool: Pool, who: Credentials, talk: bytes) -> list[Callable[[int], Awaitable[object]]]:
    return [
        lambda seq: revisions.edit(pool, who.user, talk, seq, 0, "text", b"x", None, None),
        lambda seq: revisions.delete_for_everyone(pool, who.user, talk, seq),
        lambda seq: revisions.delete_for_me(pool, who.user, talk, seq),
        lambda seq: marks.message_status(pool, who.user, talk, seq),
    ]


async def revision_of(pool: Pool, talk: bytes, seq: int) -> int:
    [(revision,)] = await pool.fetch(
        "select revision from messages where conversation_id = %s and seq = %s", (uuid(talk), seq)
    )
    return int(revision)


async def test_a_conversation_whose_last_message_is_gone_has_none_and_nothing_unread(
    pool: Pool, alice: Credentials, talk: bytes, bob: Credentials
) -> None:
    await age(pool, talk)
    before = (await first_page(pool, alice.user, limit=9)).state.version
    await move(pool, days=50)
    after = (await first_page(pool, alice.user, limit=9)).state.version
    assert after != before, "a page that a client keeps is out of date"
    [shown] = await conversations.list_of(pool, alice.user, limit=9)
    assert (shown.first_seq, shown.last_seq, shown.unread_count, shown.last_message) == (6, 5, 0, None)
    assert [each.seq for each in await say(pool, talk, bob)] == [6]
    [shown] = await conversations.list_of(pool, alice.user, limit=9)
    assert shown.last_message is not None
    assert (shown.last_message.seq, shown.unread_count) == (6, 1)


async def test_messages_below_a_floor_lead_to_no_notice(pool: Pool, alice: Credentials, talk: bytes) -> None:
    before = await notifiers.notice_context(pool, alice.user, read_after_s=60)
    await age(pool, talk)
    await move(pool, days=50)
    after = await notifiers.notice_context(pool, alice.user, read_after_s=60)
    assert before is not None
    assert after is not None
    assert (before.is_undelivered, after.is_undelivered) == (True, False)


async def test_rows_about_deleted_messages_go_with_them_and_attachments_are_orphaned(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    for seq in (1, 4):
        await revisions.edit(pool, bob.user, talk, seq, 0, "text", b"x", None, None)
    for seq in (2, 5):
        await revisions.delete_for_me(pool, alice.user, talk, seq)
        await new_upload(pool, bob.user, key=f"key {seq}", message=(talk, seq))
    await move(pool, days=50)
    assert await clear_all(pool, batch=2) == [2, 1]
    assert await pool.fetch("select array_agg(seq) from revisions") == [([4],)]
    assert await pool.fetch("select array_agg(seq) from hidden") == [([5],)]
    assert await pool.fetch("select object_key, seq from attachments order by 1") == [("key 2", None), ("key 5", 5)]
    assert await pool.fetch("select count(*) from sends") == [(5,)]


async def test_a_retry_of_a_send_whose_message_is_gone_gets_its_first_ack(
    pool: Pool, bob: Credentials, direct: bytes
) -> None:
    message = a_message(direct, bob.user)
    [first] = await send(pool, ParticipantsCache(), [message])
    await age(pool, direct)
    await move(pool, days=50)
    await clear_all(pool)
    [again] = await send(pool, ParticipantsCache(), [message])
    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert (again.seq, again.message, again.created, again.is_new) == (1, first.message, first.created, False)


async def test_each_is_looked_at_when_its_time_may_have_come_and_not_before(
    pool: Pool, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    assert await move(pool, days=50) == FloorMoves(1, 1)
    assert await move(pool, days=50) == FloorMoves(0, 0)
    await clear_all(pool)
    assert await move(pool, days=50) == FloorMoves(0, 0)
    await age(pool, talk)
    assert await move(pool, days=50) == FloorMoves(1, 1)
    await clear_all(pool)
    await pool.fetch("update expiries set oldest = oldest - interval '100 days'")
    assert await move(pool, days=50) == FloorMoves(1, 0), "there has been no message since"
    assert await move(pool, days=50) == FloorMoves(0, 0)
    await say(pool, talk, bob)
    await age(pool, talk)
    assert await move(pool, days=50) == FloorMoves(1, 1), "the job finds a message sent to an empty conversation"


async def test_a_lifetime_applies_to_earlier_messages_too_until_it_is_removed(
    pool: Pool, alice: Credentials, talk: bytes
) -> None:
    assert await move(pool) == FloorMoves(0, 0)
    changed, settings = await participants.change_settings(pool, alice.user, talk, lifetime_s=50 * DAY_S)
    assert (changed.is_new, settings.lifetime_s, settings.first_seq) == (True, 50 * DAY_S, 1)
    assert (await conversations.one(pool, alice.user, talk)).lifetime_s == 50 * DAY_S
    assert not (await participants.change_settings(pool, alice.user, talk, lifetime_s=50 * DAY_S))[0].is_new
    assert await move(pool) == FloorMoves(1, 1)
    await clear_all(pool)
    _, settings = await participants.change_settings(pool, alice.user, talk, lifetime_s=0)
    assert (settings.lifetime_s, settings.first_seq) == (None, 4)
    await age(pool, talk)
    assert await move(pool) == FloorMoves(0, 0)


async def test_administrators_set_the_lifetime_of_a_group_and_either_participant_that_of_a_direct_conversation(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, talk: bytes
) -> None:
    carol = await new_user(pool, "carol")
    with pytest.raises(NotAnAdministrator):
        await participants.change_settings(pool, bob.user, talk, lifetime_s=60)
    for each in (talk, direct):
        with pytest.raises(NotAParticipant):
            await participants.change_settings(pool, carol.user, each, lifetime_s=60)
    for seconds, each in ((60, alice), (90, bob)):
        changed, settings = await participants.change_settings(pool, each.user, direct, lifetime_s=seconds)
        assert (sorted(changed.participants), settings.lifetime_s) == (sorted([alice.user, bob.user]), seconds)
    with pytest.raises(NotAGroup):
        await participants.change_settings(pool, alice.user, direct, name="Two")


async def test_a_blocked_users_lifetime_applies_to_their_own_view_only(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Otherwise the blocked user could delete the blocker's messages, and would notice if nothing was deleted."""
    await say(pool, direct, alice, 5)
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    for lifetime_s in (0, 86400, 60):
        changed, settings = await participants.change_settings(pool, bob.user, direct, lifetime_s=lifetime_s)
        assert changed.is_new == (lifetime_s > 0)
        assert (
            settings.lifetime_s == (await conversations.one(pool, bob.user, direct)).lifetime_s == (lifetime_s or None)
        )
        assert (await conversations.one(pool, alice.user, direct)).lifetime_s is None
        if changed.others_settings is not None:
            assert changed.others_settings.lifetime_s is None
    await pool.fetch("update messages set created = created - interval '61 s' where seq <= 3")
    await pool.fetch("update expiries set oldest = oldest - interval '61 s', due = due - interval '61 s'")
    await move(pool)
    shown = [await conversations.one(pool, each.user, direct) for each in (alice, bob)]
    assert [each.first_seq for each in shown] == [1, 4]
    assert {each.joined_seq for seen in shown for each in seen.participants or ()} == {0}
    [(left,)] = await pool.fetch("select count(*) from expiries where due < clock_timestamp()")
    assert left == 0, "the job looks again only when the next message expires"
    await participants.change_settings(pool, alice.user, direct, lifetime_s=3600)
    for each in (alice, bob):
        assert (await conversations.one(pool, each.user, direct)).lifetime_s == 3600, (
            "both participants see the lifetime set last"
        )


async def test_a_conversation_that_is_locked_is_passed_over_and_comes_next_time(pool: Pool, talk: bytes) -> None:
    async with connected(pool.url) as other:
        await other.query("begin")
        await other.query("select from conversations where id = %s for no key update", (uuid(talk),))
        assert await move(pool, days=50) == FloorMoves(0, 0)
        await other.query("rollback")
    assert await move(pool, days=50) == FloorMoves(1, 1)


async def test_a_message_is_sent_while_a_batch_is_being_deleted(pool: Pool, talk: bytes, bob: Credentials) -> None:
    await move(pool, days=50)
    await note_announced(pool, [talk])
    async with connected(pool.url) as other:
        await other.query("begin")
        # The statement itself, in a transaction that stays open.
        assert await other.query(
            sql.load("retention").clear, {"conversation": uuid(talk), "upto": None, "limit": 9}
        ) == [(3,)]
        [sent] = await send(pool, ParticipantsCache(), [a_message(talk, bob.user)], lock_wait_s=0)
        assert isinstance(sent, Committed), "the send met no lock"
        await revisions.edit(pool, bob.user, talk, sent.seq, 0, "text", b"x", None, None)
        assert await clear(pool, talk, limit=9) == 0, "another transaction holds the lock"
        await other.query("rollback")
    assert await clear(pool, talk, limit=9) == 3


async def test_the_floor_stays_until_what_lies_below_is_deleted(pool: Pool, talk: bytes) -> None:
    """So an archive is the same after any number of attempts."""
    await move(pool, days=50, archives=True)
    await age(pool, talk)
    assert await move(pool, days=50) == FloorMoves(0, 0)
    assert [each.seq for each in await below(pool, talk, limit=2)] == [1, 2]
    assert await uncleared(pool, limit=9) == [], "participants are told first"
    await note_announced(pool, [talk])
    assert [each.wants_archive for each in await uncleared(pool, limit=9)] == [True]
    assert await clear(pool, talk, limit=9, upto=2) == 2
    assert [each.seq for each in await below(pool, talk, limit=9)] == [3]
    assert await clear(pool, talk, limit=9, upto=2) == 0
    assert await clear(pool, talk, limit=9) == 1
    assert await uncleared(pool, limit=9) == []
    assert await move(pool, days=50) == FloorMoves(1, 1)


async def test_disappearing_messages_are_never_archived(pool: Pool, alice: Credentials, talk: bytes) -> None:
    """Not even if the deployment would keep it for less."""
    await participants.change_settings(pool, alice.user, talk, lifetime_s=80 * DAY_S)
    await move(pool, days=50, archives=True)
    await note_announced(pool, [talk])
    assert [each.wants_archive for each in await uncleared(pool, limit=9)] == [False]


async def test_reading_for_an_archive_is_bounded_in_bytes(
    pool: Pool, talk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(two,)] = await pool.fetch("select sum(message_bytes(m))::int from messages m where seq <= 2")
    monkeypatch.setattr("store.retention.MAX_BATCH_BYTES", two)
    await move(pool, days=50)
    assert [each.seq for each in await below(pool, talk, limit=9)] == [1, 2]
    monkeypatch.setattr("store.retention.MAX_BATCH_BYTES", 0)
    [first] = await below(pool, talk, limit=9)
    assert isinstance(first, Message)
    assert first.content == b"0"


@pytest.mark.parametrize("seed", range(3))
async def test_the_last_message_whose_time_has_come_is_found_wherever_it_is(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    talk = secrets.token_bytes(16)
    last = chance.randint(1, 300)
    floor = chance.randint(0, last)
    await pool.fetch(
        "insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)"
        " select %s, n, gen_random_uuid(), gen_random_uuid(), to_timestamp(n / 3), 'text', ''"
        " from generate_series(%s::int, %s::int) n",
        (uuid(talk), floor + 1, last),
    )
    for until in {0, *range(0, last // 3 + 2, 7)}:
        [(found,)] = await pool.fetch(
            "select expired_upto(%s, %s, %s, to_timestamp(%s))", (uuid(talk), floor, last, until)
        )
        assert found == max(floor, min(last, 3 * until + 2)), (floor, last, until)


async def test_a_refused_change_of_the_lifetime_leaves_the_expiries_as_they_are(
    pool: Pool, bob: Credentials, talk: bytes
) -> None:
    before = await pool.fetch("select * from expiries order by 1")
    with pytest.raises(Refused):
        await participants.change_settings(pool, bob.user, talk, lifetime_s=60)
    assert await pool.fetch("select * from expiries order by 1") == before


async def test_a_lifetime_of_ones_own_is_announced_to_that_user_alone(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Alice is blocked, and lets messages disappear: her devices are told of her floor, and bob's of nothing. When the
    floor of both moves, each is told the settings that they see."""
    await say(pool, direct, alice, 4)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    await participants.change_settings(pool, alice.user, direct, lifetime_s=3600)
    await age(pool, direct, upto=2)
    await move(pool)
    [told] = await unannounced(pool, limit=9)
    assert told.users == [alice.user]
    assert (told.settings.first_seq, told.settings.lifetime_s, told.settings.actor) == (3, 3600, alice.user)
    assert (await conversations.one(pool, alice.user, direct)).first_seq == 3
    assert (await conversations.one(pool, bob.user, direct)).first_seq == 1
    await note_announced(pool, [direct])
    assert await unannounced(pool, limit=9) == []
    # It deletes nothing, and the next look finds the conversation again.
    for each in await uncleared(pool, limit=9):
        assert not each.wants_archive
        assert await clear(pool, each.conversation, limit=9) == 0
    assert await uncleared(pool, limit=9) == []
    assert await pool.fetch("select count(*) from messages") == [(4,)]
    await age(pool, direct, upto=3)
    assert (await move(pool, days=50)).moved == 1
    seen = {user: each.settings for each in await unannounced(pool, limit=9) for user in each.users}
    for who in (alice, bob):
        own = await conversations.one(pool, who.user, direct)
        told_settings = seen[who.user]
        assert (told_settings.first_seq, told_settings.lifetime_s, told_settings.actor) == (
            *(own.first_seq, own.lifetime_s, own.actor),
        )
        assert own.first_seq == 4
