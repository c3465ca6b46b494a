"""Contacts and blocking: a blocked user gets the same answers as others, and does not reach the blocker."""

from __future__ import annotations

import secrets

import pytest
import trio

from client.http import Credentials
from protocol.frames import Conversation, Message, Participants, Tombstone
from store import contacts, conversations, messages, outbox, participants, profiles, revisions
from store.errors import LastAdministrator, NotAccepted, NotAnAdministrator, NotAParticipant, UnknownUser
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.sync import sync
from tests.people import new_direct, new_group, new_user
from tests.store.store_world import a_message, is_waiting_for
from tests.waiting import wait_until


@pytest.fixture
async def pair(pool: Pool) -> tuple[Credentials, Credentials]:
    return await new_user(pool, "alice"), await new_user(pool, "bob")


async def say(pool: Pool, conversation: bytes, *senders: Credentials) -> list[Committed]:
    batch = [a_message(conversation, sender.user) for sender in senders]
    outcomes = await send(pool, ParticipantsCache(), batch)
    assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Committed)]


async def test_contacts_are_added_once_listed_in_pages_and_removed(
    pool: Pool, pair: tuple[Credentials, Credentials]
) -> None:
    alice, bob = pair
    others = sorted([bob.user, (await new_user(pool, "carol")).user, (await new_user(pool, "dave")).user])
    added = [await contacts.add(pool, alice.user, other) for other in (*others, bob.user)]
    assert [each.is_new for each in added] == [True] * 3 + [False]
    first = (await contacts.list_of(pool, alice.user, limit=2)).contacts
    rest = (await contacts.list_of(pool, alice.user, limit=2, after=first[-1].user)).contacts
    assert [each.user for each in (*first, *rest)] == others
    assert {each.username for each in (*first, *rest)} == {"bob", "carol", "dave"}
    await contacts.remove(pool, alice.user, bob.user)
    await contacts.remove(pool, alice.user, bob.user)
    assert [each.user for each in (await contacts.list_of(pool, alice.user, limit=9)).contacts] == [
        other for other in others if other != bob.user
    ]
    assert (await contacts.list_of(pool, bob.user, limit=9)).contacts == []


async def test_unknown_users_and_oneself_cannot_be_contacts(pool: Pool, pair: tuple[Credentials, Credentials]) -> None:
    for other in (pair[0].user, secrets.token_bytes(16)):
        with pytest.raises(UnknownUser):
            await contacts.add(pool, pair[0].user, other)
        with pytest.raises(UnknownUser):
            await contacts.set_blocked(pool, pair[0].user, other, is_blocked=True)


@pytest.mark.parametrize("others_in_batch", [0, 3])
async def test_a_blocked_sender_gets_the_same_answer_and_does_not_reach_the_blocker(
    pool: Pool, pair: tuple[Credentials, Credentials], others_in_batch: int
) -> None:
    """Not live, not in lists and history (a tombstone holds its place), not by a notice; and shown by no mark."""
    alice, bob = pair
    talk, elsewhere = await new_direct(pool, alice, bob), await new_group(pool, alice, bob)
    await say(pool, talk, bob)
    cursor = (await sync(pool, alice.user, None)).cursor
    assert await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    assert not await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    batch = [a_message(talk, bob.user), *[a_message(elsewhere, bob.user) for _ in range(others_in_batch)]]
    [silent, *others] = await send(pool, ParticipantsCache(), batch)
    assert isinstance(silent, Committed)
    assert (silent.seq, silent.is_new, silent.participants) == (2, True, (bob.user,))
    for other in others:
        assert isinstance(other, Committed)
        assert set(other.participants) == {alice.user, bob.user}, "participants of a group get all messages"
    [again] = await send(pool, ParticipantsCache(), batch[:1])
    assert isinstance(again, Committed)
    assert (again.seq, again.message, again.created) == (silent.seq, silent.message, silent.created)

    seen = await conversations.one(pool, alice.user, talk)
    assert (seen.unread_count, type(seen.last_message)) == (0, Tombstone)
    own = await conversations.one(pool, bob.user, talk)
    assert isinstance(own.last_message, Message)
    [reader] = [each for each in own.participants if each.user == alice.user]
    assert (reader.delivered_seq, reader.read_seq) == (0, 0)
    pages = [await messages.history(pool, who.user, talk, limit=9, after=0) for who in (alice, bob)]
    assert [[type(each) for each in page.messages] for page in pages] == [[Message, Tombstone], [Message, Message]]
    [missed] = await messages.messages_between(pool, talk, [alice.user, bob.user], after=1, upto=9, limit=9)
    assert (missed.message.seq, missed.holders, missed.hiders) == (2, [bob.user], [])
    pushes = (await sync(pool, alice.user, cursor)).pushes
    told = [each for each in pushes if getattr(each, "conversation", None) == talk]
    assert [type(each) for each in told] == [Conversation, Tombstone]
    assert isinstance(told[0], Conversation)
    assert told[0].unread_count == 0, "a blocked sender's message counts as read"
    await pool.fetch("delete from outbox where conversation_id <> %s or seq < 2", (uuid(talk),))
    assert await outbox.decide(pool, window_s=0) == (1, 0)


async def test_unread_messages_of_a_blocked_user_count_as_read_until_the_user_is_unblocked(
    pool: Pool, pair: tuple[Credentials, Credentials]
) -> None:
    alice, bob = pair
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, bob, bob)
    assert (await conversations.one(pool, alice.user, talk)).unread_count == 2
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    assert (await conversations.one(pool, alice.user, talk)).unread_count == 0
    await say(pool, talk, bob, alice, bob)
    assert await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=False)
    [heard] = await say(pool, talk, bob)
    assert set(heard.participants) == {alice.user, bob.user}
    assert (await conversations.one(pool, alice.user, talk)).unread_count == 1
    page = await messages.history(pool, alice.user, talk, limit=9, after=0)
    kinds = [type(each) for each in page.messages]
    assert kinds == [Message, Message, Tombstone, Message, Tombstone, Message], (
        "messages hidden by the block stay hidden"
    )


async def test_edits_and_deletions_of_withheld_messages_stay_withheld(
    pool: Pool, pair: tuple[Credentials, Credentials]
) -> None:
    alice, bob = pair
    talk = await new_direct(pool, alice, bob)
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    await say(pool, talk, bob)
    change, _, _ = await revisions.edit(pool, bob.user, talk, 1, 0, "text", b"other", None, None)
    assert change.participants == [bob.user]
    everybody = [alice.user, bob.user]
    [(_, concerned)] = await revisions.revised_since(pool, everybody, ago_s=60)
    assert concerned == [bob.user]
    gone = await revisions.delete_for_everyone(pool, bob.user, talk, 1)
    assert gone.participants == [bob.user]


async def test_a_block_from_before_the_conversation_holds_in_it(
    pool: Pool, pair: tuple[Credentials, Credentials]
) -> None:
    alice, bob = pair
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    talk = await new_direct(pool, bob, alice)
    assert [each.participants for each in await say(pool, talk, bob)] == [(bob.user,)]
    with pytest.raises(NotAParticipant):
        await conversations.one(pool, alice.user, talk)
    assert (await conversations.add_direct(pool, alice.user, bob.user)) == (talk, True)
    assert (await conversations.one(pool, alice.user, talk)).first_seq == 2, "no earlier message reaches Alice"
    assert [set(each.participants) for each in await say(pool, talk, alice)] == [{alice.user, bob.user}]


async def test_a_block_and_the_making_of_the_conversation_do_not_miss_each_other(
    pool: Pool, pair: tuple[Credentials, Credentials]
) -> None:
    """Each waits for the other, so the second one sees the first."""
    alice, bob = pair
    async with connected(pool.url) as other, trio.open_nursery() as nursery:
        await other.query("begin")
        await other.query("select set_blocked(%s, %s, true, true)", (uuid(alice.user), uuid(bob.user)))
        made: list[bytes] = []

        async def make() -> None:
            made.append((await conversations.add_direct(pool, bob.user, alice.user))[0])

        nursery.start_soon(make)
        await wait_until(lambda: is_waiting_for(pool, "Lock", "add_direct"), "the conversation waits for the block")
        await other.query("commit")
    assert [each.participants for each in await say(pool, made[0], bob)] == [(bob.user,)]


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_a_withheld_administrator_is_one_to_all_others(pool: Pool, is_blocked: bool) -> None:
    """Others' requests are answered as if the blocker took part and had not accepted yet."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    if is_blocked:
        await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    group = await conversations.add_group(pool, "Group", [alice.user, bob.user, carol.user], admin=alice.user)
    with pytest.raises(LastAdministrator):
        await participants.set_role(pool, alice.user, group, alice.user, "member")
    await participants.set_role(pool, alice.user, group, bob.user, "admin")
    assert (await participants.set_role(pool, alice.user, group, alice.user, "member")).is_new
    for who in (alice, carol):
        with pytest.raises(NotAnAdministrator):
            await participants.change_settings(pool, who.user, group, name="Other")
    assert (await participants.remove(pool, alice.user, group, alice.user)).heir is None
    shown = (await conversations.one(pool, carol.user, group)).participants or ()
    assert {each.user for each in shown if each.is_admin} == {bob.user}


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_a_contact_is_accepted_and_does_not_learn_of_a_block(pool: Pool, is_blocked: bool) -> None:
    """Bob accepts conversations and groups only from contacts; alice is one."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    await contacts.add(pool, bob.user, alice.user)
    await profiles.change(pool, bob.user, messages_from="contacts", groups_from="contacts")
    if is_blocked:
        await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    group = await conversations.add_group(pool, "Group", [alice.user, bob.user], admin=alice.user, starts_per_day=0)
    other = await conversations.add_group(pool, "Other", [alice.user], admin=alice.user)
    assert (await participants.add(pool, alice.user, other, bob.user, starts_per_day=0)).is_new
    assert (await conversations.add_direct(pool, alice.user, bob.user, starts_per_day=0))[1]
    assert len(await conversations.list_of(pool, bob.user, limit=9)) == (0 if is_blocked else 3)
    assert await conversations.list_of(pool, bob.user, limit=9, is_request=True) == []
    assert len((await conversations.one(pool, alice.user, group)).participants or ()) == 2
    with pytest.raises(NotAccepted):
        await conversations.add_direct(pool, carol.user, bob.user)


async def test_a_withheld_participant_is_shown_without_a_name_to_the_blocker(pool: Pool) -> None:
    """Bob blocks carol, who has declined: a device that resumes is told of her, as of any other participant."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    await profiles.change(pool, carol.user, display_name="Carol")
    group = await conversations.add_group(pool, "Group", [alice.user, bob.user, carol.user], admin=alice.user)
    await participants.decline(pool, carol.user, group)
    for is_blocked in (True, False):
        cursor = (await sync(pool, bob.user, None)).cursor
        changed = await contacts.set_blocked(pool, bob.user, carol.user, is_blocked=is_blocked)
        assert changed is not None
        assert changed.shown == [group]
        told = [
            each
            for each in (await sync(pool, bob.user, cursor)).pushes
            if isinstance(each, Conversation | Participants)
        ]
        fresh = await conversations.one(pool, bob.user, group)
        assert [each.participants for each in told] == [fresh.participants]
        names = {each.user: each.display_name for each in fresh.participants or ()}
        assert names[carol.user] == (None if is_blocked else "Carol")
