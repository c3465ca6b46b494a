"""Participants, group settings and display names: every node pushes changes at once, and the ones it missed later."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import cbor2
import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import (
    Conversation,
    Delete,
    Departed,
    Done,
    Edit,
    Error,
    Message,
    OwnSettings,
    Participants,
    Presence,
    Profile,
    Receipts,
    Revised,
    Send,
    Sent,
    Settings,
    Stay,
    Sync,
    Synced,
    Tombstone,
    Watch,
)
from protocol.limits import MAX_SHOWN
from server.cluster.presence import GRACE_S
from server.cluster.writer import Writer
from store import contacts, conversations, participants, profiles
from store.marks import Mark, mark
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.directory import LEASE_S
from tests.people import make_contacts, new_direct, new_group, new_user
from tests.server.http_world import CBOR, Api, open_api, say
from tests.server.node_world import RawClient, TestNode, open_node
from tests.server.pushed_devices import PushedDevice
from tests.waiting import DEADLINE_S, PATIENCE_S, wait_until


@asynccontextmanager
async def scene(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> AsyncGenerator[tuple[TestNode, list[RawClient], list[Api]], None]:
    """A node with a synced client for each person, and an HTTP interface that acts like a separate process."""
    async with (
        open_node(pool.url, redis_url) as node,
        open_api(pool, redis_url, "cbor") as api,
        node.open_synced(*people) as clients,
    ):
        yield node, clients, [api.of(person.token) for person in people]


async def change(api: Api, method: str, path: str, **body: Any) -> Any:
    answer = await api.request(method, path, data=cbor2.dumps(body), headers={"Content-Type": CBOR})
    assert answer.status < 300, answer.body
    return answer.body


async def test_a_new_conversation_is_told_to_everybody_in_it(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    async with scene(pool, redis_url, people) as (_, [first, second, third], [api, *_]):
        made = await change(api, "POST", "/v1/conversations", kind="direct", participants=[bob.user])
        for client in (first, second):
            told = await client.find(Conversation)
            assert told.conversation == made["conversation"]
            assert {each.user for each in told.participants or ()} == {alice.user, bob.user}
        await change(api, "POST", "/v1/conversations", kind="direct", participants=[bob.user])
        for client in (first, second, third):
            await client.nothing_came()


def since_of(mailbox: Mailbox, conversation: bytes, person: Credentials) -> int | None:
    """The seq above which a user is a recipient; None if the device knows of no participation."""
    return {each.user: each.since for each in mailbox.participants(conversation)}.get(person.user)


async def test_a_return_that_is_told_before_the_departure_shows_what_the_user_may_see_now(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """Pushes of different users take turns, so the push of the departure may be the later one. Bob's device holds a
    message that is edited during his absence; on Alice's it stays read."""
    alice, bob, _ = people
    group = await new_group(pool, alice, bob)
    await participants.change_settings(pool, alice.user, group, joiners_see_all=True)
    path = f"/v1/conversations/{UUID(bytes=group)}/participants"
    async with scene(pool, redis_url, people) as (node, _, [api, *_]):
        alices, bobs = PushedDevice("Alice's", alice, node), PushedDevice("Bob's", bob, node)
        async with alices.connected() as first, bobs.connected() as second:
            await first.send(group, b"first", temp_id=b"t" * 16)
            await first.send(group, b"second", temp_id=b"u" * 16)
            await mark(pool, [[Mark(bob.user, group, 2, 2)]])
            await alices.begin(first)
            await bobs.begin(second)
            [written, _] = alices.mailbox.messages(group)
            assert alices.mailbox.status(written) == "read"
            gone = await participants.remove(pool, alice.user, group, bob.user)
            await first.edit(group, 1, b"edited", revision=0, content_type="application/octet-stream")
            await change(api, "POST", path, user=bob.user)
            for device in (alices, bobs):
                await wait_until(lambda at=device: since_of(at.mailbox, group, bob) == 2, "Bob has come back")
            assert alices.mailbox.status(written) == "read"
            assert [each.seq for each in bobs.mailbox.messages(group)] == [2]
            assert gone.stay is not None
            late = Departed(group, [bob.user], gone.version, former=[gone.stay])
            for device in (alices, bobs):
                before = device.shown()
                device.mailbox.take(late)
                assert device.shown() == before


async def test_participants_are_told_of_joins_departures_and_roles(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await say(pool, group, alice.user, b"before")
    path = f"/v1/conversations/{UUID(bytes=group)}/participants"
    async with scene(pool, redis_url, people) as (_, [first, second, third], [api, *_]):
        await change(api, "POST", path, user=carol.user)
        joined = await third.find(Conversation)
        assert (joined.conversation, joined.first_seq, joined.last_seq, joined.unread_count) == (group, 2, 1, 0)
        for client in (first, second):
            told = await client.find(Participants)
            assert [(each.user, each.username, each.joined_seq) for each in told.participants] == [
                (carol.user, "carol", 1)
            ]
            assert told.participants_version == joined.participants_version
        await change(api, "PATCH", f"{path}/{UUID(bytes=carol.user)}", role="admin")
        for client in (first, second, third):
            told = await client.find(Participants)
            assert [(each.user, each.is_admin, each.actor) for each in told.participants] == [
                (carol.user, True, alice.user)
            ]
        await change(api, "DELETE", f"{path}/{UUID(bytes=carol.user)}")
        for client in (first, second, third):
            gone = await client.find(Departed)
            assert (gone.users, gone.participants_version) == ([carol.user], joined.participants_version + 2)
            assert gone.former == [Stay(carol.user, 0, 0, 1, alice.user, 1)]
        await first.send(Send(2, group, "text", b"after", None, None, b"t" * 16))
        assert (await second.find(Message)).content == b"after"
        await third.nothing_came()


async def test_when_the_last_administrator_leaves_all_are_told_who_has_become_one(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, carol)
    path = f"/v1/conversations/{UUID(bytes=group)}/participants"
    async with scene(pool, redis_url, people) as (_, [first, second, third], [api, *_]):
        await change(api, "DELETE", f"{path}/{UUID(bytes=alice.user)}")
        heirs = set()
        for client in (second, third):
            gone, told = await client.read(2)
            assert isinstance(gone, Departed)
            assert gone.former == [Stay(alice.user, 0, 0, 0, None, 0)]
            assert isinstance(told, Participants)
            [heir] = told.participants
            assert (heir.is_admin, heir.actor) == (True, None)
            heirs.add(heir.user)
        assert len(heirs) == 1
        assert (await first.find(Departed)).users == [alice.user]


async def test_an_administrator_deletes_for_everyone_and_all_devices_are_told_by_whom(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    group = await new_group(pool, *people)
    await say(pool, group, bob.user, b"spam")
    async with scene(pool, redis_url, people) as (_, [first, second, third], _):
        [refused] = await third.ask(Delete(2, group, 1, True))
        assert isinstance(refused, Error)
        assert refused.code == "not_the_sender"
        assert await first.ask(Delete(3, group, 1, True)) == [Done(3)]
        for client in (second, third):
            stone = await client.find(Tombstone)
            assert (stone.seq, stone.sender, stone.actor) == (1, bob.user, alice.user)


@pytest.mark.parametrize("others", [0, 32])
async def test_others_are_told_of_who_comes_or_administers_what_a_fresh_device_is_shown(
    pool: Pool, redis_url: str, people: list[Credentials], others: int
) -> None:
    """Marks from the start, which message statuses need; in large groups neither marks nor names are told."""
    alice, bob, carol = people
    more = [await new_user(pool, f"user{number}") for number in range(others)]
    await make_contacts(pool, *people)
    group = await new_group(pool, alice, bob, *more)
    await profiles.change(pool, carol.user, display_name="Carol C.", gives_receipts=None, shows_presence=None)
    path = f"/v1/conversations/{UUID(bytes=group)}/participants"
    async with scene(pool, redis_url, people) as (_, [first, *_], [api, *_]):
        for role in (None, True):
            if role:
                await change(api, "PATCH", f"{path}/{UUID(bytes=carol.user)}", role="admin")
            else:
                await change(api, "POST", path, user=carol.user)
            told = await first.find(Participants)
            now = await conversations.one(pool, alice.user, group)
            [carols] = told.participants
            assert (carols.user, carols.is_admin, told.participant_count) == (carol.user, role, now.participant_count)
            if others:
                assert (now.participant_count, len(now.participants or ())) == (others + 3, 1)
                assert (carols.display_name, carols.read_seq) == (None, None)
        if not others:
            assert carols in (now.participants or ())


@pytest.mark.parametrize("size", [32, 33])
async def test_a_group_that_grows_beyond_what_is_shown_and_shrinks_again_is_told(
    pool: Pool, redis_url: str, people: list[Credentials], size: int
) -> None:
    """The pushes leave a device in the state that a fresh device fetches, on both sides of the limit."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, *[await new_user(pool, f"user{n}") for n in range(size - 2)])
    path = f"/v1/conversations/{UUID(bytes=group)}/participants"
    mailboxes = [Mailbox(person.user) for person in people]

    async def wait_same(clients: list[RawClient]) -> None:
        with trio.fail_after(DEADLINE_S):
            for client, mailbox in zip(clients, mailboxes, strict=True):
                while _shown(mailbox) != await _fresh(pool, mailbox.user):
                    for frame in await client.frames_so_far():
                        if isinstance(frame, Conversation):
                            mailbox.learn(frame)
                        elif isinstance(frame, Participants | Departed):
                            mailbox.take(frame)

    async with scene(pool, redis_url, people) as (_, clients, [api, *_]):
        for mailbox in mailboxes:
            for found in await conversations.list_of(pool, mailbox.user, limit=9):
                mailbox.learn(found)
        for method, where, body in (
            ("POST", path, {"user": carol.user}),
            ("DELETE", f"{path}/{UUID(bytes=carol.user)}", {}),
            ("POST", path, {"user": carol.user}),
            ("DELETE", f"{path}/{UUID(bytes=bob.user)}", {}),
        ):
            await change(api, method, where, **body)
            await wait_same(clients)


def _shown(mailbox: Mailbox) -> list[Any]:
    heads = [mailbox.head(each) for each in mailbox.conversations()]
    return [(head.participant_count, head.participants) for head in heads if head]


async def _fresh(pool: Pool, user: bytes) -> list[Any]:
    found = await conversations.list_of(pool, user, limit=9)
    return [(each.participant_count, each.participants) for each in found]


async def test_a_new_group_of_many_is_told_to_each_without_the_others(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    _, bob, carol = people
    users = [bob.user, carol.user, *[(await new_user(pool, f"user{n}")).user for n in range(30)]]
    async with scene(pool, redis_url, people) as (_, clients, [api, *_]):
        made = await change(api, "POST", "/v1/conversations", kind="group", name="Many", participants=users)
        assert (len(made["participants"]), made["participant_count"]) == (1, 33)
        for client, person in zip(clients, people, strict=True):
            told = await client.find(Conversation)
            assert [each.user for each in told.participants or ()] == [person.user]
            assert told.participant_count == 33


@pytest.mark.parametrize("shows_all", [False, True])
async def test_a_joiner_gets_the_same_live_and_by_sync(
    pool: Pool, redis_url: str, people: list[Credentials], shows_all: bool
) -> None:
    """The conversation comes with its last message, if they may read it; earlier messages are read as history."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await participants.change_settings(pool, alice.user, group, joiners_see_all=shows_all)
    await say(pool, group, alice.user, b"1", b"2")
    async with scene(pool, redis_url, people) as (_, [*_, third], [api, *_]):
        cursor = (await third.ask(Sync(2, None)))[-1]
        assert isinstance(cursor, Synced)
        await change(api, "POST", f"/v1/conversations/{UUID(bytes=group)}/participants", user=carol.user)
        live = await third.find(Conversation)
        assert (live.last_message is not None) == shows_all
        await third.nothing_came()
        for held in (cursor.cursor, None):
            told = (await third.ask(Sync(3, held)))[:-1]
            assert [each for each in told if not isinstance(each, OwnSettings)] == [live]


async def test_when_few_enough_are_left_names_and_marks_of_all_are_told(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """Marks as others see them: only the reader sees a private read mark."""
    alice, bob, carol = people
    more = [await new_user(pool, f"user{number}") for number in range(MAX_SHOWN - 2)]
    group = await new_group(pool, alice, bob, carol, *more)
    await profiles.change(pool, bob.user, display_name="Bob B.", gives_receipts=None, shows_presence=None)
    await profiles.change(pool, carol.user, display_name=None, gives_receipts=False, shows_presence=None)
    await say(pool, group, alice.user, b"1")
    await mark(pool, [[Mark(bob.user, group, 1, 1), Mark(carol.user, group, 1, 1)]])
    async with scene(pool, redis_url, people) as (_, clients, [api, *_]):
        await change(api, "DELETE", f"/v1/conversations/{UUID(bytes=group)}/participants/{UUID(bytes=more[0].user)}")
        for person, client in zip(people, clients, strict=True):
            told = await client.find(Conversation)
            fresh = await conversations.one(pool, person.user, group)
            assert told == replace(fresh, last_message=None)
            assert len(told.participants or ()) == MAX_SHOWN
            read = {each.user: each.read_seq for each in told.participants or ()}
            assert (read[bob.user], read[carol.user]) == (1, 1 if person is carol else 0)


async def test_when_few_enough_are_left_the_marks_at_the_end_of_former_stays_are_told(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """They were left out while the group was large; without them the statuses of old messages are unknown."""
    alice, *_ = people
    more = [await new_user(pool, f"user{number}") for number in range(MAX_SHOWN - 1)]
    group = await new_group(pool, *people, *more)
    await say(pool, group, alice.user, b"1")
    await mark(pool, [[Mark(more[0].user, group, 1, 1)]])
    await participants.remove(pool, alice.user, group, more[0].user)
    before = (await conversations.one(pool, alice.user, group)).former
    assert before == [Stay(more[0].user, None, None, 0, alice.user, 1)]
    async with scene(pool, redis_url, people) as (_, clients, [api, *_]):
        await change(api, "DELETE", f"/v1/conversations/{UUID(bytes=group)}/participants/{UUID(bytes=more[1].user)}")
        for person, client in zip(people, clients, strict=True):
            told = (await client.find(Conversation)).former or []
            assert told == (await conversations.one(pool, person.user, group)).former
            assert {stay.read_seq for stay in told} == {0, 1}


async def test_messages_of_a_blocked_user_count_as_read_on_the_blockers_devices_alone(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, _ = people
    await say(pool, direct, bob.user, b"1", b"2")
    async with scene(pool, redis_url, people) as (_, [first, second, _], [api, *_]):
        await change(api, "PUT", f"/v1/contacts/{UUID(bytes=bob.user)}", is_blocked=True)
        assert await first.find(Receipts) == Receipts(direct, None, [(alice.user, 0, 2)])
        await second.nothing_came()
        await change(api, "PUT", f"/v1/contacts/{UUID(bytes=bob.user)}", is_blocked=True)
        await first.nothing_came()


async def test_a_group_that_is_renamed_or_opened_is_told(pool: Pool, redis_url: str, people: list[Credentials]) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    await say(pool, group, alice.user, b"before")
    async with scene(pool, redis_url, people) as (_, [first, second, third], [api, *_]):
        path = f"/v1/conversations/{UUID(bytes=group)}"
        await change(api, "PATCH", path, name="Climbing")
        for client in (first, second):
            assert await client.find(Settings) == Settings(group, "Climbing", 1, 2, None, None, alice.user)
        await change(api, "PATCH", path, joiners_see_all=True)
        for client in (first, second):
            assert await client.find(Settings) == Settings(group, "Climbing", 1, 3, True, None, alice.user)
        await change(api, "PATCH", path, joiners_see_all=True)
        await second.nothing_came()
        await change(api, "POST", f"{path}/participants", user=carol.user)
        assert (await third.find(Conversation)).first_seq == 1, "a joiner sees earlier messages"


async def test_a_display_name_is_told_to_those_who_share_a_conversation(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    await new_direct(pool, alice, bob)
    async with scene(pool, redis_url, people) as (_, [first, second, third], [api, *_]):
        shown = await change(api, "PATCH", "/v1/profile", display_name="Alice B.")
        assert (shown["display_name"], shown["revision"]) == ("Alice B.", 1)
        for client in (first, second):
            assert await client.find(Profile) == Profile(alice.user, 1, "alice", "Alice B.")
        await third.nothing_came()
        frames = await second.ask(Sync(9, None))
        [conversation] = [frame for frame in frames if isinstance(frame, Conversation)]
        names = {each.user: each.display_name for each in conversation.participants or ()}
        assert names == {alice.user: "Alice B.", bob.user: None}


async def test_a_change_that_a_process_committed_without_a_push_comes_when_the_node_catches_up(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    left, joined = await new_group(pool, alice, bob, carol), await new_group(pool, alice, bob)
    async with scene(pool, redis_url, people) as (node, [first, _, third], _):
        await participants.remove(pool, alice.user, left, carol.user)
        await participants.add(pool, alice.user, joined, carol.user)
        node.gateway.node.catch_up.request(1)
        assert (await third.find(Departed)).conversation == left
        told = await third.find(Conversation)
        assert (told.conversation, len(told.participants or ())) == (joined, 3)
        assert (await first.find(Conversation)).conversation in (left, joined)


async def test_a_process_that_only_writes_is_missed_when_it_dies(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """A process that leaves in good order is not missed."""
    alice, bob, _ = people
    group = await new_group(pool, alice, bob)
    async with scene(pool, redis_url, people) as (node, [_, second, _], _):
        vanished = [line for line in node.logs if line["event"] == "node_vanished"]
        for leaves_well in (True, False):
            gone = await _come_and_go(pool.url, redis_url, node, leaves_well=leaves_well)
            if leaves_well:
                await participants.set_role(pool, alice.user, group, bob.user, "admin")
                await wait_until(lambda gone=gone: gone not in node.gateway.node.live_writers(), "it is gone")  # type: ignore[misc]
                assert [line for line in node.logs if line["event"] == "node_vanished"] == vanished
        assert (await second.find(Conversation, patience_s=LEASE_S + 3)).conversation == group


async def _come_and_go(database_url: str, redis_url: str, node: TestNode, *, leaves_well: bool) -> bytes:
    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        writer = Writer(redis, Pool(database_url, 1))
        nursery.start_soon(writer.run)
        await wait_until(lambda: writer.id in node.gateway.node.live_writers(), "the node knows the writer")
        if leaves_well:
            await writer.sign_off()
        nursery.cancel_scope.cancel()
    return writer.id


async def test_a_blocked_user_learns_nothing_and_does_not_reach_the_blocker_by_editing(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, _ = people
    await say(pool, direct, alice.user, b"before")
    async with scene(pool, redis_url, people) as (_, [first, second, _], [_, api, _]):
        [presence, _] = await first.ask(Watch(2, [bob.user]))
        assert presence == Presence(bob.user, True)
        await change(api, "PUT", f"/v1/contacts/{UUID(bytes=alice.user)}", is_blocked=True)
        gone = await first.find(Presence, patience_s=GRACE_S + PATIENCE_S)
        assert (gone.is_online, gone.last_seen is not None) == (False, True), (
            "the blocker looks like a user that goes offline"
        )
        assert await first.ask(Watch(3, [bob.user])) == [gone, Done(3)]
        [sent] = await first.ask(Send(4, direct, "text", b"hello?", None, None, b"t" * 16))
        assert isinstance(sent, Sent)
        [revised] = await first.ask(Edit(5, direct, 1, "text", b"hello!", None, None, 0))
        assert isinstance(revised, Revised)
        stone = await second.find(Tombstone)
        assert stone.seq == 1, "the recipient gets a tombstone instead of a blocked sender's edit"
        assert await first.ask(Delete(6, direct, 2, True)) == [Done(6)]
        await second.nothing_came()
        await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=False)
        frames = await second.ask(Sync(7, None))
        assert not any(b"hello" in getattr(frame, "content", b"") for frame in frames)


async def test_a_user_that_shows_no_presence_is_not_watched(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    await new_direct(pool, alice, bob)
    await contacts.add(pool, bob.user, carol.user)
    async with scene(pool, redis_url, people) as (_, [first, _, third], [_, api, _]):
        for client in (first, third):
            assert await client.ask(Watch(2, [bob.user])) == [Presence(bob.user, True), Done(2)]
        await change(api, "PATCH", "/v1/profile", shows_presence=False)
        for client in (first, third):
            assert await client.find(Presence) == Presence(bob.user, False)
            assert await client.ask(Watch(3, [bob.user])) == [Done(3)]
        await change(api, "PATCH", "/v1/profile", shows_presence=True)
        assert await first.ask(Watch(4, [bob.user])) == [Presence(bob.user, True), Done(4)]
