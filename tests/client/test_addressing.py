"""A device reads the device set of a conversation, and sends for exactly that set, through a real gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from client.addressing import Addressing, ListedSet, TooManyChanges
from client.connection import ClientConnection
from client.errors import RequestRefused
from client.http import Credentials
from client.mailbox import Mailbox
from client.session import Session, open_session
from protocol.frames import (
    Conversation,
    Devices,
    DevicesChanged,
    Envelope,
    Message,
    Participant,
    Participants,
    Reply,
    Request,
    Send,
)
from store import keys, participants
from store.postgres.pool import Pool
from tests.client.client_world import GROUP, ME, OTHER
from tests.client.e2ee.keyring_world import cheap_passphrases
from tests.memory import in_memory
from tests.people import new_device, new_direct, new_group
from tests.server.node_world import open_node
from tests.store.key_world import KIND, a_last_resort, some_keys, upload
from tests.system.encryption_world import phone


@dataclass
class AddressingScene:
    """Alice's session; she has a tablet, too, and Bob a phone."""

    pool: Pool
    session: Session
    alice: Credentials
    bob: Credentials
    tablet: Credentials

    @property
    def addressing(self) -> Addressing:
        return Addressing(self.session)

    async def add_device(self, user: Credentials) -> Credentials:
        device = await new_device(self.pool, user.user)
        await upload(self.pool, device.device, some_keys(range(1, 4)), [a_last_resort(1)])
        return device


@asynccontextmanager
async def addressing_scene(pool: Pool, redis_url: str, *people: Credentials) -> AsyncGenerator[AddressingScene]:
    alice, bob, *_ = people
    tablet = await new_device(pool, alice.user)
    for device in (alice, bob, tablet):
        await upload(pool, device.device, some_keys(range(1, 4)), [a_last_resort(1)])
    async with open_node(pool.url, redis_url) as node, open_session([node.url], alice) as session:
        with trio.fail_after(30):
            await session.wait_caught_up()
        yield AddressingScene(pool, session, alice, bob, tablet)


async def sealed(known: ListedSet, own: bytes) -> tuple[bytes, list[Envelope] | None]:
    return b"", [(each.device, b"for " + each.device) for each in known.devices if each.device != own]


async def numbers_of(pool: Pool, device: Credentials) -> int:
    """The number of the first key that is left."""
    return (await keys.status(pool, device.device)).pools[0][2]


async def test_the_set_for_a_first_message_is_that_of_a_refusal_and_takes_keys_of_others_alone(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    talks = [await new_direct(pool, alice, bob), await new_group(pool, alice, bob, carol)]
    async with addressing_scene(pool, redis_url, *people) as scene:
        for talk in talks:
            found = await scene.addressing.present(talk)
            told = await scene.addressing.by_refusal(talk)
            assert found.version == told.version > 0
            assert sorted(found.users) == sorted(told.users)
            assert {each.device for each in found.devices} == {each.device for each in told.devices}
            assert scene.session.mailbox.messages(talk) == []
        claimed = await scene.addressing.present(talks[0], kinds=[KIND])
        assert {each.device: bool(each.one_time_keys) for each in claimed.devices} == {
            alice.device: False,
            scene.tablet.device: False,
            bob.device: True,
        }
        assert [await numbers_of(pool, each) for each in (alice, scene.tablet, bob)] == [1, 1, 2]
        without = await scene.addressing.present(talks[0], kinds=[KIND], begins_with=lambda user: user != bob.user)
        assert not any(each.one_time_keys for each in without.devices)


async def test_a_message_is_sealed_anew_for_the_devices_that_a_refusal_tells_and_for_no_others(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    talk = await new_group(pool, alice, bob, carol)
    async with addressing_scene(pool, redis_url, *people) as scene:
        await scene.add_device(carol)
        known = await scene.addressing.present(talk)
        late = await scene.add_device(bob)
        await participants.remove(pool, alice.user, talk, carol.user)
        seals: list[ListedSet] = []

        async def seal(listed: ListedSet) -> tuple[bytes, list[Envelope] | None]:
            seals.append(listed)
            return await sealed(listed, alice.device)

        sent, accepted = await scene.addressing.send(talk, known, seal, kinds=[KIND])
        assert seals == [known, accepted]
        assert {each.device for each in accepted.devices} == {
            alice.device,
            scene.tablet.device,
            bob.device,
            late.device,
        }
        [new] = [each for each in accepted.devices if each.device == late.device]
        assert new.one_time_keys, "the refusal has claimed a key of the new device"
        _, again = await scene.addressing.send(talk, accepted, seal)
        assert seals[2:] == [accepted]
        assert again == accepted
        held = [each for each in scene.session.mailbox.messages(talk) if isinstance(each, Message)]
        assert [each.seq for each in held] == [sent.seq, sent.seq + 1]


async def test_a_message_that_names_a_device_of_a_user_who_has_left_is_sealed_anew_for_the_whole_set(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """A difference of several pages lists such devices, too: the pages after the first are of users, not of a set."""
    alice, bob, carol = people
    talk = await new_group(pool, alice, bob, carol)
    async with addressing_scene(pool, redis_url, *people) as scene:
        await scene.add_device(carol)
        before = await scene.addressing.present(talk)
        await participants.remove(pool, alice.user, talk, carol.user)
        known = replace(before, version=(await scene.addressing.by_refusal(talk)).version)
        _, accepted = await scene.addressing.send(talk, known, lambda listed: sealed(listed, alice.device))
        assert {each.device for each in accepted.devices} == {alice.device, scene.tablet.device, bob.device}


async def test_other_refusals_reach_the_caller_and_devices_that_always_change_end_the_attempts(
    pool: Pool, redis_url: str, people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)
    async with addressing_scene(pool, redis_url, *people) as scene:
        known = await scene.addressing.present(talk)
        with pytest.raises(RequestRefused, match="not_a_participant"):
            await scene.addressing.send(b"n" * 16, known, lambda listed: sealed(listed, alice.device))
        monkeypatch.setattr(ListedSet, "after", lambda *_: known)
        await scene.add_device(bob)
        with pytest.raises(TooManyChanges):
            await scene.addressing.send(talk, known, lambda listed: sealed(listed, alice.device))
        assert scene.session.mailbox.messages(talk) == []


async def test_a_first_encrypted_message_takes_three_round_trips_and_no_refusal(
    pool: Pool, redis_url: str, people: list[Credentials], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists the devices and claims their keys side by side, sends the key, and then the content."""
    cheap_passphrases(monkeypatch.setattr)
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)
    asked: list[type[Request]] = []
    request = ClientConnection.request

    async def noted(connection: ClientConnection, frame: Request, *, timeout_s: float = 15.0) -> Reply:
        if connection is alices:
            asked.append(type(frame))
        return await request(connection, frame, timeout_s=timeout_s)

    with in_memory(tmp_path) as folder:
        async with open_node(pool.url, redis_url) as node:
            async with phone([node.url], alice, folder, "alice's"):
                pass  # She publishes her keys, which changes the set.
            async with (
                phone([node.url], bob, folder, "bob's") as reader,
                phone([node.url], alice, folder, "alice's") as writer,
            ):
                alices = await writer.session.wait_online()
                monkeypatch.setattr(ClientConnection, "request", noted)
                await reader.wait_read(talk, await writer.say(talk, "hello"))
                assert [each for each in asked if each in (Devices, Send)] == [Devices, Devices, Send, Send]
                asked.clear()
                await reader.wait_read(talk, await writer.say(talk, "again"))
                assert [each for each in asked if each in (Devices, Send)] == [Send]


def test_a_version_counts_with_the_participants_of_its_own_frame_alone() -> None:
    """Pushes about participants and about devices overtake each other."""
    users = [ME, OTHER]
    frame = Conversation(GROUP, 1, "group", "g", 1, 0, 0, 1, [], None, 1)
    frame = replace(frame, participants=[Participant(user, None, "x", 0, 0, 0) for user in users])
    mailbox = Mailbox(ME)
    assert mailbox.set_users(GROUP) is None
    mailbox.learn(replace(frame, participants_version=1, devices_version=4))
    assert mailbox.set_users(GROUP) == (4, users)
    mailbox.take(Participants(GROUP, [Participant(b"n" * 16, None, "x", 0, 0, 0)], 2))
    assert mailbox.set_users(GROUP) == (4, users), "the new one has no device, or the version would be another one"
    mailbox.take(DevicesChanged(GROUP, 5, [b"n" * 16]))
    assert mailbox.set_users(GROUP) is None
    mailbox.learn(replace(frame, participants_version=2, devices_version=5, participants=None))
    assert mailbox.set_users(GROUP) is None
    mailbox.learn(replace(frame, participants_version=2, devices_version=6, participant_count=40))
    assert mailbox.set_users(GROUP) is None, "many take part: the frame holds the user alone"
    mailbox.learn(replace(frame, participants_version=3, devices_version=7))
    assert mailbox.set_users(GROUP) == (7, users)
    mailbox.learn(replace(frame, participants_version=1, devices_version=4, participants=[]))
    assert mailbox.set_users(GROUP) == (7, users), "an older frame"
