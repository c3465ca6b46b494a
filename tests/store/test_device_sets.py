"""Versions of device sets: what raises them, and sends that are refused because their set is not the present one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.frames import Conversation
from protocol.limits import MAX_SHOWN
from store import contacts, conversations, devices, keys, participants, revisions, security_events
from store.errors import (
    MessageDeleted,
    NotAParticipant,
    NotTheSender,
    RevisionConflict,
    StaleDevices,
    UnknownMessage,
)
from store.key_claims import KeyClaims
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.suspensions import set_suspended
from store.sync import sync
from tests.people import make_contacts, new_device, new_direct, new_group, new_user
from tests.store.store_world import a_message, is_waiting_for
from tests.waiting import wait_until

IDENTITY: Final = b"identity"


async def version_of(pool: Pool, conversation: bytes) -> int:
    [(version,)] = await pool.fetch("select devices_version from conversations where id = %s", (uuid(conversation),))
    return int(version)


async def publish(pool: Pool, *people: Credentials) -> None:
    for each in people:
        await keys.put(pool, each.device, IDENTITY)


async def send_one(pool: Pool, message: NewMessage) -> Outcome:
    [outcome] = await send(pool, ParticipantsCache(), [message])
    return outcome


class SetScene(NamedTuple):
    """
    :ivar second: another device of Bob, with an identity.
    :ivar group: of Alice, who administers it, and Bob; Carol does not take part.
    """

    alice: Credentials
    bob: Credentials
    second: Credentials
    carol: Credentials
    group: bytes


async def a_scene(pool: Pool, people: list[Credentials]) -> SetScene:
    alice, bob, carol = people
    second = await new_device(pool, bob.user)
    await publish(pool, alice, bob, second, carol)
    await make_contacts(pool, alice, carol)
    return SetScene(alice, bob, second, carol, await new_group(pool, alice, bob))


class SetChange(NamedTuple):
    """
    :ivar changed: the users whose devices then have changed.
    """

    make: Callable[[Pool, SetScene], Awaitable[object]]
    changed: Callable[[SetScene], list[bytes]]


async def add_a_device(pool: Pool, scene: SetScene) -> None:
    await publish(pool, await new_device(pool, scene.bob.user))


async def add_a_silent_device(pool: Pool, scene: SetScene) -> None:
    await new_device(pool, scene.bob.user)


async def let_one_expire(pool: Pool, scene: SetScene) -> None:
    await pool.fetch("update devices set expires = now() where id = %s", (uuid(scene.second.device),))
    while await keys.end_expired_identities(pool):
        pass


async def suspend(pool: Pool, scene: SetScene) -> None:
    await set_suspended(pool, scene.bob.user, is_suspended=True, source=security_events.SYSTEM)


async def block(pool: Pool, scene: SetScene) -> None:
    """In a group that Alice makes while Bob blocks her he is withheld."""
    await contacts.set_blocked(pool, scene.bob.user, scene.alice.user, is_blocked=True)


async def remove_a_user_without_devices(pool: Pool, scene: SetScene) -> None:
    dave = await new_user(pool, "dave")
    await make_contacts(pool, scene.alice, dave)
    await participants.add(pool, scene.alice.user, scene.group, dave.user)
    await participants.remove(pool, scene.alice.user, scene.group, dave.user)


def of_bob(scene: SetScene) -> list[bytes]:
    return [scene.bob.user]


def of_carol(scene: SetScene) -> list[bytes]:
    return [scene.carol.user]


def nobody(scene: SetScene) -> list[bytes]:
    return []


CHANGES: Final = {
    "a new device": SetChange(add_a_device, of_bob),
    "a new device without an identity": SetChange(add_a_silent_device, nobody),
    "another identity": SetChange(lambda pool, s: keys.put(pool, s.second.device, b"other"), of_bob),
    "the same identity": SetChange(lambda pool, s: keys.put(pool, s.second.device, IDENTITY), nobody),
    "a revoked device": SetChange(lambda pool, s: devices.revoke_device(pool, s.bob.user, s.second.device), of_bob),
    "all devices revoked": SetChange(lambda pool, s: devices.revoke_devices(pool, s.bob.user), of_bob),
    "an expired device": SetChange(let_one_expire, of_bob),
    "a suspended user": SetChange(suspend, nobody),
    "joining": SetChange(lambda pool, s: participants.add(pool, s.alice.user, s.group, s.carol.user), of_carol),
    "leaving": SetChange(lambda pool, s: participants.remove(pool, s.bob.user, s.group, s.bob.user), of_bob),
    "being removed": SetChange(lambda pool, s: participants.remove(pool, s.alice.user, s.group, s.bob.user), of_bob),
    "users without devices": SetChange(remove_a_user_without_devices, nobody),
    "a device of another user": SetChange(lambda pool, s: keys.put(pool, s.carol.device, b"other"), nobody),
    "a block": SetChange(block, nobody),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("count", [1, 2])
async def test_a_send_for_an_earlier_device_set_is_refused_with_the_difference(
    pool: Pool, people: list[Credentials], name: str, count: int
) -> None:
    """Alone and in a batch, which Postgres serves by other statements. The same holds for a `sync`: it tells of the
    conversation."""
    scene = await a_scene(pool, people)
    change, known = CHANGES[name], await version_of(pool, scene.group)
    cursor = (await sync(pool, scene.alice.user, None)).cursor
    await change.make(pool, scene)
    present, changed = await version_of(pool, scene.group), change.changed(scene)
    assert (present > known) == bool(changed)
    batch = [a_message(scene.group, scene.alice.user, devices_version=known) for _ in range(count)]
    for outcome in await send(pool, ParticipantsCache(), batch):
        if changed:
            assert isinstance(outcome, StaleDevices)
            assert (outcome.version, outcome.users) == (present, changed)
        else:
            assert isinstance(outcome, Committed)
    batch = [a_message(scene.group, scene.alice.user, devices_version=each) for each in (present, None)[:count]]
    assert all(isinstance(outcome, Committed) for outcome in await send(pool, ParticipantsCache(), batch))
    if changed:
        told = [each for each in (await sync(pool, scene.alice.user, cursor)).pushes if isinstance(each, Conversation)]
        assert [each.devices_version for each in told] == [present]


async def test_each_conversation_of_a_user_has_its_own_versions(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, carol = people
    groups = [await new_group(pool, alice, bob), await new_group(pool, alice, bob, carol), await new_group(pool, carol)]
    direct = await new_direct(pool, alice, bob)
    before = [await version_of(pool, each) for each in (*groups, direct)]
    await publish(pool, bob)
    after = [await version_of(pool, each) for each in (*groups, direct)]
    assert before == [0, 0, 0, 0]
    assert [bool(each) for each in after] == [True, True, False, True]
    await publish(pool, carol)
    assert [new > old for new, old in zip([await version_of(pool, each) for each in groups], after, strict=False)] == [
        False,
        True,
        True,
    ]


async def test_the_difference_has_all_users_since_a_version_the_last_first(
    pool: Pool, people: list[Credentials]
) -> None:
    """If the version is later than all that the conversation had, as after a fail-over: everybody."""
    alice, bob, carol = people
    group, versions = await new_group(pool, alice, bob, carol), [0]
    for each in (bob, carol, bob, alice):
        await keys.put(pool, each.device, uuid4().bytes)
        versions.append(await version_of(pool, group))
    everybody = sorted(each.user for each in people)
    for known, users in (
        (versions[0], [alice.user, bob.user, carol.user]),
        (versions[1], [alice.user, bob.user, carol.user]),
        (versions[2], [alice.user, bob.user]),
        (versions[3], [alice.user]),
        (versions[4] + 1, everybody),
    ):
        outcome = await send_one(pool, a_message(group, bob.user, devices_version=known))
        assert isinstance(outcome, StaleDevices)
        assert (outcome.version, outcome.users) == (versions[4], users)
    await KeyClaims(pool).list_changed(bob.user, group, outcome)
    assert outcome.devices is not None
    assert {each.device for each in outcome.devices} == {each.device for each in people}


async def test_the_difference_leaves_out_no_participant_however_many_users_have_left_since(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """Their own changes are the earliest ones of more than the 1,000 that a refusal names."""
    group = await new_group(pool, alice, bob)
    await publish(pool, alice, bob)
    await pool.fetch(
        "with former as ("
        "    insert into users (id, username, password_hash)"
        "    select gen_random_uuid(), 'former' || n, '' from generate_series(1, 1000) n returning id"
        ")"
        " insert into device_changes (conversation_id, user_id, version)"
        " select c.id, f.id, c.devices_version + row_number() over () from conversations c, former f where c.id = %s",
        (uuid(group),),
    )
    await pool.fetch("update conversations set devices_version = devices_version + 1000 where id = %s", (uuid(group),))
    outcome = await send_one(pool, a_message(group, alice.user, devices_version=0))
    assert isinstance(outcome, StaleDevices)
    assert outcome.users == [bob.user, alice.user]
    latest = await send_one(pool, a_message(group, alice.user, devices_version=outcome.version - 1))
    assert isinstance(latest, StaleDevices)
    assert len(latest.users) == 1


async def test_the_devices_of_a_refusal_are_those_of_users_who_take_part(pool: Pool, people: list[Credentials]) -> None:
    """A sender that puts them in the place of those that it knows of the changed users has the present set: Bob, whom
    the sender still sees elsewhere, has left, and Carol has come."""
    scene = await a_scene(pool, people)
    await new_direct(pool, scene.alice, scene.bob)
    known = await version_of(pool, scene.group)
    await participants.remove(pool, scene.bob.user, scene.group, scene.bob.user)
    await participants.add(pool, scene.alice.user, scene.group, scene.carol.user)
    outcome = await send_one(pool, a_message(scene.group, scene.alice.user, devices_version=known))
    assert isinstance(outcome, StaleDevices)
    assert outcome.users == [scene.carol.user, scene.bob.user]
    await KeyClaims(pool).list_changed(scene.alice.user, scene.group, outcome)
    assert outcome.devices is not None
    assert [each.device for each in outcome.devices] == [scene.carol.device]


async def test_a_sync_tells_the_versions_of_all_conversations_whatever_their_number_and_size(
    pool: Pool, people: list[Credentials]
) -> None:
    """Of a user with more conversations than a page has, and of one that is too large for pushes: each once."""
    alice, bob, _ = people
    groups = [await new_group(pool, alice, bob) for _ in range(3 * MAX_SHOWN)]
    others = [await new_user(pool, f"other{number}") for number in range(MAX_SHOWN)]
    groups.append(await new_group(pool, alice, bob, *others))
    cursor, more = None, True
    while more:
        page = await sync(pool, alice.user, cursor)
        cursor, more = page.cursor, page.more
    for change in (publish(pool, bob), devices.revoke_device(pool, bob.user, bob.device)):
        await change
        told: list[tuple[bytes, int | None]] = []
        more = True
        while more:
            page = await sync(pool, alice.user, cursor)
            pushes = [each for each in page.pushes if isinstance(each, Conversation)]
            told += [(each.conversation, each.devices_version) for each in pushes]
            cursor, more = page.cursor, page.more
        assert sorted(told) == sorted([(each, await version_of(pool, each)) for each in groups])
    assert (await sync(pool, alice.user, cursor)).pushes == []


@pytest.mark.parametrize("count", [1, 2])
async def test_a_retry_a_stranger_and_a_wrong_reply_are_answered_before_the_device_set(
    pool: Pool, people: list[Credentials], count: int
) -> None:
    """A lost ack of a message that was accepted is never answered `devices_changed`. Alone and in a batch."""
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    first = a_message(group, alice.user, devices_version=0)
    assert isinstance(await send_one(pool, first), Committed)
    await publish(pool, bob)
    for message, expected in (
        (first, Committed),
        (a_message(group, carol.user, devices_version=0), NotAParticipant),
        (a_message(group, alice.user, devices_version=0, reply_to=9), UnknownMessage),
        (a_message(group, alice.user, devices_version=0, reply_to=1), StaleDevices),
    ):
        batch = [message, a_message(group, bob.user)][:count]
        outcome = (await send(pool, ParticipantsCache(), batch))[0]
        assert isinstance(outcome, expected), (message, outcome)
        assert not isinstance(outcome, Committed) or not outcome.is_new


async def test_an_edit_for_an_earlier_device_set_is_refused_after_all_other_checks(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    for _ in range(2):
        await send_one(pool, a_message(group, alice.user))

    async def edit(user: bytes, content: bytes, *, seq: int = 1, revision: int = 0, known: int | None = 0) -> int:
        change, new, _ = await revisions.edit(
            pool, user, group, seq, revision, "text", content, None, None, devices_version=known
        )
        return new if change.is_new else -new

    assert await edit(alice.user, b"1") == 1
    await revisions.delete_for_everyone(pool, alice.user, group, 2)
    await publish(pool, bob)
    assert await edit(alice.user, b"1") == -1  # a retry
    for user, seq, revision, error in (
        (carol.user, 1, 1, NotAParticipant),
        (alice.user, 9, 1, UnknownMessage),
        (bob.user, 1, 1, NotTheSender),
        (alice.user, 2, 0, MessageDeleted),
        (alice.user, 1, 7, RevisionConflict),
        (alice.user, 1, 1, StaleDevices),
    ):
        with pytest.raises(error) as raised:
            await edit(user, b"2", seq=seq, revision=revision)
    assert isinstance(raised.value, StaleDevices)
    present = await version_of(pool, group)
    assert (raised.value.version, raised.value.users) == (present, [bob.user])
    assert await edit(alice.user, b"2", revision=1, known=present) == 2
    assert await edit(alice.user, b"3", revision=2, known=None) == 3


async def test_a_block_and_devices_behind_it_show_no_difference(pool: Pool, people: list[Credentials]) -> None:
    """A user who is withheld seems to take part: that user's devices stay in the set, and change it."""
    alice, bob, _ = people
    await publish(pool, alice, bob)
    await make_contacts(pool, alice, bob)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    group = await conversations.add_group(pool, "Group", [alice.user, bob.user], admin=alice.user)
    known = await version_of(pool, group)
    await publish(pool, await new_device(pool, bob.user))
    outcome = await send_one(pool, a_message(group, alice.user, devices_version=known))
    assert isinstance(outcome, StaleDevices)
    assert outcome.users == [bob.user]
    await KeyClaims(pool).list_changed(alice.user, group, outcome)
    assert outcome.devices is not None
    assert len(outcome.devices) == 2


async def join_a_direct(pool: Pool, scene: SetScene) -> object:
    return await conversations.add_direct(pool, scene.bob.user, scene.carol.user)


async def join_a_new_group(pool: Pool, scene: SetScene) -> object:
    return await conversations.add_group(pool, "New", [scene.bob.user, scene.carol.user], admin=scene.bob.user)


async def join_a_group(pool: Pool, scene: SetScene) -> object:
    return await participants.add(pool, scene.alice.user, scene.group, scene.carol.user)


async def join_the_own(pool: Pool, scene: SetScene) -> object:
    return await conversations.add_self(pool, scene.carol.user)


JOININGS: Final = {
    "add_direct(": join_a_direct,
    "add_group(": join_a_new_group,
    "add_participant(": join_a_group,
    "add_self(": join_the_own,
}


@pytest.mark.parametrize("statement", JOININGS)
async def test_a_user_joins_before_or_after_a_change_of_devices_and_never_during_one(
    pool: Pool, people: list[Credentials], statement: str
) -> None:
    """Else neither transaction would see the other, and the version would not tell of the change."""
    scene = await a_scene(pool, people)
    await make_contacts(pool, scene.bob, scene.carol)
    async with connected(pool.url) as change, trio.open_nursery() as nursery:
        await change.query("begin")
        await change.query("update devices set identity = 'other' where id = %s", (uuid(scene.carol.device),))
        nursery.start_soon(JOININGS[statement], pool, scene)
        await wait_until(lambda: is_waiting_for(pool, "Lock", statement), "the user waits to join")
        await change.query("commit")


LOG: Final = (
    "create table set_log (conversation uuid, version bigint, last_seq bigint, devices uuid[])",
    "create function log_set() returns trigger language plpgsql as $$ begin"
    " insert into set_log select new.id, new.devices_version, new.last_seq,"
    " array(select d.id from devices d join shown_participants p on p.user_id = d.user_id"
    " where p.conversation_id = new.id and d.identity is not null); return null; end $$",
    "create trigger log_set after update on conversations for each row"
    " when (old.devices_version <> new.devices_version) execute function log_set()",
)
"""Notes each device set when it begins, as the transaction that makes it sees it."""

ENOUGH: Final = 20
"""Accepted messages."""


class Accepted(NamedTuple):
    group: bytes
    seq: int
    version: int
    addressed: set[bytes]


class SetTraffic:
    """Devices come and go, users join and leave, while others send, until there are enough accepted messages.

    Each change waits for one more accepted message, or the senders would never get through; it then meets those of the
    other senders.
    """

    def __init__(self, pool: Pool, groups: list[bytes]) -> None:
        self.pool = pool
        self.groups = groups
        self.accepted: list[Accepted] = []
        self.refused = 0
        self.is_over = False
        self._news = trio.Event()

    async def keep_sending(self, sender: Credentials, group: bytes) -> None:
        """Take the version, then list the devices, then send, as a client does."""
        while not self.is_over:
            version = await version_of(self.pool, group)
            users = await self.pool.fetch(
                "select user_id from shown_participants where conversation_id = %s", (uuid(group),)
            )
            listed = await keys.devices_of(self.pool, sender.user, [user for (user,) in users])
            outcome = await send_one(self.pool, a_message(group, sender.user, devices_version=version))
            if isinstance(outcome, Committed):
                self.accepted.append(Accepted(group, outcome.seq, version, {each.device for each in listed.devices}))
                self._news.set()
                self._news = trio.Event()
            else:
                assert isinstance(outcome, StaleDevices), outcome
                self.refused += 1

    async def change_devices(self, user: Credentials) -> None:
        while len(self.accepted) < ENOUGH:
            device = await new_device(self.pool, user.user)
            await self._news.wait()
            await keys.put(self.pool, device.device, uuid4().bytes)
            await self._news.wait()
            await devices.revoke_device(self.pool, user.user, device.device)

    async def come_and_go(self, admin: Credentials, user: Credentials) -> None:
        while len(self.accepted) < ENOUGH:
            await self._news.wait()
            for group in self.groups:
                await participants.add(self.pool, admin.user, group, user.user)
            await self._news.wait()
            for group in reversed(self.groups):
                await participants.remove(self.pool, user.user, group, user.user)


async def test_each_accepted_message_was_encrypted_for_the_device_set_at_its_place(
    pool: Pool, people: list[Credentials]
) -> None:
    """P14, in two groups at once."""
    alice, bob, carol = people
    await publish(pool, alice, bob, carol)
    groups = [await new_group(pool, alice, bob), await new_group(pool, alice, bob)]
    await make_contacts(pool, alice, carol)
    for statement in LOG:
        await pool.fetch(statement)
    await publish(pool, await new_device(pool, alice.user))  # the first set of each group is in the log
    traffic = SetTraffic(pool, groups)
    async with trio.open_nursery() as senders:
        for group in groups:
            senders.start_soon(traffic.keep_sending, alice, group)
            senders.start_soon(traffic.keep_sending, bob, group)
        async with trio.open_nursery() as changes:
            changes.start_soon(traffic.change_devices, bob)
            changes.start_soon(traffic.change_devices, carol)
            changes.start_soon(traffic.come_and_go, alice, carol)
        traffic.is_over = True
    rows = await pool.fetch("select conversation, version, last_seq, devices from set_log")
    begun = {(group, version): (last_seq, set(expected)) for group, version, last_seq, expected in rows}
    ends = {}
    for group in groups:
        versions = sorted(version for each, version in begun if each == group)
        assert len(versions) > 5
        ends |= {(group, old): begun[group, new][0] for old, new in pairwise(versions)}
    assert traffic.refused > 0
    for each in traffic.accepted:
        place = each.group, each.version
        last_seq, expected = begun[place]
        assert last_seq < each.seq <= ends.get(place, each.seq), "the message lies within the time of its set"
        assert each.addressed == expected


async def test_a_change_tells_the_version_since_which_no_other_users_devices_have_changed(
    pool: Pool, people: list[Credentials]
) -> None:
    """A client that missed a change of Bob does not take one of Alice for the whole difference."""
    alice, bob, _ = people
    group, versions = await new_group(pool, *people), [0]
    for each, since in ((bob, 0), (alice, 1), (alice, 1), (bob, 3)):
        await keys.put(pool, each.device, uuid4().bytes)
        versions.append(await version_of(pool, group))
        [told] = await keys.small_changes(pool, [each.user])
        assert (told.conversation, told.version, told.since) == (group, versions[-1], versions[since])
        outcome = await send_one(pool, a_message(group, each.user, devices_version=told.since))
        assert isinstance(outcome, StaleDevices)
        assert outcome.users == [each.user]
    # A late look no longer finds the first change of Bob: with the version that it tells, no message is accepted.
    [late] = await keys.small_changes(pool, [alice.user])
    assert (late.version, late.since) == (versions[3], 0)
    assert isinstance(await send_one(pool, a_message(group, bob.user, devices_version=late.version)), StaleDevices)
