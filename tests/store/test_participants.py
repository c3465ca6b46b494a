"""Joining, leaving and roles: each change is ordered with the messages."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Any

import pytest

from client.http import Credentials
from store import contacts, conversations, messages, notifiers, outbox, participants
from store.errors import (
    GroupFull,
    LastAdministrator,
    NotAGroup,
    NotAnAdministrator,
    NotAParticipant,
    Refused,
    UnknownUser,
)
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_direct, new_group
from tests.store.store_world import a_message


async def seqs_of(pool: Pool, user: bytes, group: bytes) -> list[int]:
    return [each.seq for each in (await messages.history(pool, user, group, limit=99, after=0)).messages]


async def test_a_joiner_sees_later_messages_and_a_removed_user_sees_none(pool: Pool, people: list[Credentials]) -> None:
    """A removed user sends nothing, though a cache still has the old list; a retry is answered all the same (P3)."""
    alice, bob, carol = people
    group, cache = await new_group(pool, alice, bob), ParticipantsCache()
    message = a_message(group, bob.user)
    await send(pool, cache, [message])
    added = await participants.add(pool, alice.user, group, carol.user)
    assert (added.is_new, set(added.participants)) == (True, {alice.user, bob.user, carol.user})
    assert (await participants.add(pool, alice.user, group, carol.user)).is_new is False
    [sent] = await send(pool, cache, [a_message(group, alice.user)])
    assert isinstance(sent, Committed)
    assert set(sent.participants) == {alice.user, bob.user, carol.user}
    assert await seqs_of(pool, carol.user, group) == [2]
    assert set((await participants.remove(pool, alice.user, group, bob.user)).participants) == {alice.user, carol.user}
    refused, last, again = await send(pool, cache, [a_message(group, bob.user), a_message(group, alice.user), message])
    assert isinstance(refused, NotAParticipant)
    assert isinstance(again, Committed)
    assert (again.seq, again.is_new) == (1, False)
    assert isinstance(last, Committed)
    assert set(last.participants) == {alice.user, carol.user}
    for read in (messages.history(pool, bob.user, group, limit=9), conversations.one(pool, bob.user, group)):
        with pytest.raises(NotAParticipant):
            await read
    rows = await pool.fetch(
        "select since_seq, left_seq, removed_by from departures where user_id = %s", (uuid(bob.user),)
    )
    assert [(since, left) for since, left, _ in rows] == [(0, 2)]
    assert rows[0][2] == alice.user
    await participants.add(pool, alice.user, group, bob.user)
    assert await seqs_of(pool, bob.user, group) == []
    assert await pool.fetch("select count(*) from departures") == [(0,)]


async def test_a_group_may_show_everything_to_newcomers(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await pool.fetch("update conversations set joiners_see_all = true")
    await send(pool, ParticipantsCache(), [a_message(group, alice.user) for _ in range(3)])
    await participants.add(pool, alice.user, group, carol.user)
    assert await seqs_of(pool, carol.user, group) == [1, 2, 3]
    shown = await conversations.one(pool, carol.user, group)
    assert (shown.first_seq, shown.unread_count) == (1, 0), "the joiner sees all messages and none counts as unread"


async def test_only_administrators_change_participants_and_every_participant_may_leave(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    for change in (
        participants.add(pool, bob.user, group, carol.user),
        participants.remove(pool, bob.user, group, alice.user),
        participants.set_role(pool, bob.user, group, bob.user, "admin"),
    ):
        with pytest.raises(NotAnAdministrator):
            await change
    assert (await participants.set_role(pool, alice.user, group, bob.user, "admin")).is_new
    assert (await participants.add(pool, bob.user, group, carol.user)).is_new
    assert (await participants.set_role(pool, bob.user, group, alice.user, "member")).is_new
    left = await participants.remove(pool, bob.user, group, bob.user)
    assert left.heir == alice.user, "no administrator is left, and Alice joined before Carol"
    with pytest.raises(NotAnAdministrator):
        await participants.remove(pool, carol.user, group, alice.user)
    with pytest.raises(LastAdministrator):
        await participants.set_role(pool, alice.user, group, alice.user, "member")
    assert (await participants.remove(pool, alice.user, group, carol.user)).heir is None
    assert (await participants.remove(pool, alice.user, group, alice.user)).participants == []


@pytest.mark.parametrize("is_removed", [False, True])
async def test_the_heir_of_the_last_administrator_is_the_one_who_has_taken_part_for_longest(
    pool: Pool, people: list[Credentials], is_removed: bool
) -> None:
    """By their last joining: a user who left and came back has taken part for less time."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, carol)
    await participants.remove(pool, alice.user, group, bob.user)
    await participants.add(pool, alice.user, group, bob.user)
    if is_removed:
        await participants.set_role(pool, alice.user, group, bob.user, "admin")
        assert (await participants.remove(pool, bob.user, group, alice.user)).heir is None
        assert (await participants.remove(pool, bob.user, group, bob.user)).heir == carol.user
    else:
        assert (await participants.remove(pool, alice.user, group, alice.user)).heir == carol.user
    shown = await conversations.one(pool, carol.user, group)
    assert {each.user for each in shown.participants or () if each.is_admin} == {carol.user}


async def test_participants_see_the_actor_of_each_change(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await participants.set_role(pool, alice.user, group, bob.user, "admin")
    await participants.add(pool, bob.user, group, carol.user)
    await participants.set_role(pool, bob.user, group, bob.user, "member")
    _, settings = await participants.change_settings(pool, alice.user, group, name="Other")
    assert settings.actor == alice.user
    shown = await conversations.one(pool, carol.user, group)
    assert shown.actor == alice.user
    actors = {each.user: each.actor for each in shown.participants or ()}
    assert actors == {alice.user: None, bob.user: None, carol.user: bob.user}, "bob gave his role back himself"
    assert shown.former is None
    await participants.remove(pool, alice.user, group, bob.user)
    await participants.remove(pool, carol.user, group, carol.user)
    former = (await conversations.one(pool, alice.user, group)).former or ()
    assert [(each.user, each.actor) for each in former] == [(carol.user, None), (bob.user, alice.user)]


async def test_strangers_direct_conversations_and_unknown_users_are_refused(
    pool: Pool, people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = people
    group, direct = await new_group(pool, alice, bob), await new_direct(pool, alice, bob)

    async def refused(change: Awaitable[Any]) -> type[Refused]:
        with pytest.raises(Refused) as error:
            await change
        return type(error.value)

    nobody = secrets.token_bytes(16)
    assert await refused(participants.add(pool, carol.user, group, carol.user)) is NotAParticipant
    assert await refused(participants.add(pool, alice.user, nobody, carol.user)) is NotAParticipant
    assert await refused(participants.add(pool, alice.user, direct, carol.user)) is NotAGroup
    assert await refused(participants.remove(pool, alice.user, direct, bob.user)) is NotAGroup
    assert await refused(participants.add(pool, alice.user, group, nobody)) is UnknownUser
    assert await refused(participants.remove(pool, alice.user, group, carol.user)) is UnknownUser
    assert await refused(participants.set_role(pool, alice.user, group, carol.user, "admin")) is UnknownUser
    monkeypatch.setattr(participants, "MAX_PARTICIPANTS", 2)
    assert await refused(participants.add(pool, alice.user, group, carol.user)) is GroupFull


async def test_muting_is_the_participants_own(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await participants.mute(pool, bob.user, group, seconds=60)
    assert await pool.fetch("select user_id from participants where muted_until > now()") == [(bob.user,)]
    await participants.mute(pool, bob.user, group, seconds=0)
    assert await pool.fetch("select count(*) from participants where muted_until is not null") == [(0,)]
    with pytest.raises(NotAParticipant):
        await participants.mute(pool, carol.user, group, seconds=60)


async def is_wanted(pool: Pool, user: Credentials) -> bool:
    """Whether the user would get a notice."""
    context = await notifiers.notice_context(pool, user.user, read_after_s=60)
    return context is not None and context.is_undelivered


async def test_a_muted_conversation_leads_to_no_notices_until_the_mute_ends(
    pool: Pool, people: list[Credentials]
) -> None:
    """Neither for new messages, nor by a notice that was due already."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, carol)
    await send(pool, ParticipantsCache(), [a_message(group, alice.user)])
    assert await outbox.decide(pool, window_s=0) == (1, 2)
    assert [await is_wanted(pool, each) for each in (bob, carol)] == [True, True]
    await participants.mute(pool, bob.user, group, seconds=60)
    assert [await is_wanted(pool, each) for each in (bob, carol)] == [False, True]
    await pool.fetch("delete from jobs")
    await send(pool, ParticipantsCache(), [a_message(group, alice.user)])
    assert await outbox.decide(pool, window_s=0) == (1, 1)
    await pool.fetch("update participants set muted_until = now() - interval '1 s' where muted_until is not null")
    await send(pool, ParticipantsCache(), [a_message(group, alice.user)])
    assert await outbox.decide(pool, window_s=0) == (1, 2)


async def test_a_conversation_counts_its_participants_as_they_are_shown(pool: Pool, people: list[Credentials]) -> None:
    """Also those that are withheld: a user who declines, or whom a user adds who blocks them, seems to take part."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)

    async def count() -> int:
        rows = await pool.fetch(
            "select c.participant_count, (select count(*) from shown_participants p where p.conversation_id = c.id)"
            " from conversations c"
        )
        assert [counted for counted, _ in rows] == [shown for _, shown in rows]
        return await conversations.participant_count(pool, group)

    assert await count() == 2
    await participants.add(pool, alice.user, group, carol.user)
    await participants.decline(pool, carol.user, group)
    assert await count() == 3
    await participants.add(pool, alice.user, group, carol.user)
    assert await count() == 3
    await contacts.set_blocked(pool, carol.user, alice.user, is_blocked=True)
    await conversations.add_direct(pool, alice.user, carol.user)
    assert await count() == 3
    await contacts.set_blocked(pool, carol.user, alice.user, is_blocked=False)
    for removed, left in ((carol, 2), (bob, 1)):
        await participants.remove(pool, alice.user, group, removed.user)
        assert await count() == left
    await pool.fetch("delete from withheld")
    await pool.fetch("delete from participants")
    assert await count() == 0
