"""Devices of others: which changes a user hears of, and the numbers that two users compare."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from client.e2ee.records import KeyChange
from protocol.frames import HeldKeys, ListedDevice
from tests.client.e2ee.keyring_world import TALK, Device, KeyringWorld


def told(device: Device) -> list[KeyChange]:
    """The changes that the user has yet to hear of, who hears of them now."""
    changes = device.keyring.changes()
    device.keyring.have_told(changes)
    return changes


def learn(world: KeyringWorld, device: Device, listed: list[ListedDevice] | None = None) -> list[KeyChange]:
    """The device hears of all devices; returns the changes."""
    device.keyring.take_set(TALK, world.version, world.users, world.listed(world.users) if listed is None else listed)
    return told(device)


def test_the_first_devices_of_a_user_are_no_news_and_every_later_change_is(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    assert learn(world, alice) == []
    late = world.join("bob")
    assert learn(world, alice) == [KeyChange("new", bob.user, late.id)]
    assert learn(world, alice) == []
    world.leave(late)
    assert learn(world, alice) == [KeyChange("gone", bob.user, late.id)]
    assert learn(world, alice) == []


def test_other_keys_of_a_known_device_are_news_and_an_older_list_is_not(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    learn(world, alice)
    [mine, theirs] = world.listed(world.users)
    other = Device(world, bob.user, bob.id, bob.path.with_name("other.keys"))
    identity = world_identity(other)
    changed = replace(theirs, identity=identity, identity_revision=2)
    assert learn(world, alice, [mine, changed]) == [KeyChange("changed", bob.user, bob.id)]
    assert learn(world, alice, [mine, theirs]) == []
    number, _ = alice.keyring.safety_number(bob.user)
    assert number != bob.keyring.safety_number(alice.user)[0]
    other.vault.close()


def world_identity(device: Device) -> bytes:
    upload = device.keyring.next_upload(HeldKeys(0, None, 0, b"h", []))
    assert upload is not None
    return upload.identity


def test_both_users_see_one_number_and_it_changes_with_each_device(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    numbers = []
    for _ in range(2):
        for device in world.devices:
            learn(world, device)
        others = {alice.user: bob.user, bob.user: alice.user}
        seen = {device.keyring.safety_number(others[device.user])[0] for device in world.devices}
        assert len(seen) == 1, "all devices of both see the same"
        numbers += seen
        world.join("alice")
    assert len(set(numbers)) == 2
    assert all(len(number) == 60 and number.isdigit() for number in numbers)


def test_a_compared_number_counts_until_a_device_changes(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    learn(world, alice)
    number, is_verified = alice.keyring.safety_number(bob.user)
    assert is_verified is None
    alice.keyring.verify(bob.user, number)
    alice.restart()
    assert alice.keyring.safety_number(bob.user) == (number, True)
    world.join("bob")
    learn(world, alice)
    assert alice.keyring.safety_number(bob.user)[1] is False


@pytest.mark.parametrize("forgery", ["of another user", "of another device", "not signed", "another format"])
def test_an_identity_that_its_device_has_not_signed_for_this_place_gets_nothing(
    world: KeyringWorld, forgery: str
) -> None:
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    listed = {each.device: each for each in world.listed(world.users)}
    theirs = listed[bob.id]
    match forgery:
        case "of another user" | "of another device":
            theirs = replace(theirs, identity=listed[carol.id].identity)
        case "not signed":
            theirs = replace(theirs, identity=theirs.identity[:-1] + bytes([theirs.identity[-1] ^ 1]))
        case "another format":
            theirs = replace(theirs, identity=b"the key package of another program")
    learn(world, alice, [listed[alice.id], theirs, listed[carol.id]])
    assert [recipient.device for recipient in alice.keyring.recipients(TALK)] == [carol.id]


def test_a_claimed_key_that_its_device_has_not_signed_begins_no_session(world: KeyringWorld) -> None:
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    learn(world, alice)
    [theirs] = world.listed([bob.user], claims=True)
    [other] = world.listed([carol.user], claims=True)
    swapped = replace(theirs, one_time_keys=other.one_time_keys)
    alice.keyring.take_claimed([bob.user], [swapped])
    assert alice.keyring.lacking(TALK)[1] == sorted([bob.user, carol.user])
    alice.keyring.take_claimed([bob.user], [theirs])
    assert alice.keyring.lacking(TALK)[1] == [carol.user]


def test_an_envelope_from_other_keys_than_those_of_its_device_gives_nothing(world: KeyringWorld) -> None:
    """The server shows a key message of another device as alice's."""
    alice, bob, mallory = world.join("alice"), world.join("bob"), world.join("mallory")
    learn(world, bob)
    world.share(mallory)
    message, envelopes = world.messages[-1]
    forged = replace(message, sender=alice.user, device=alice.id, temp_id=None, envelope=envelopes[bob.id])
    bob.keyring.keep([forged])
    world.send(alice, "genuine")
    assert bob.texts == ["genuine"]
    assert told(bob) == []


def test_a_sender_that_no_list_has_named_yet_is_news(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "first")
    world.send(bob, "second")
    told(bob)
    late = world.join("alice")
    world.send(late, "from the new one")
    assert told(bob) == [KeyChange("new", alice.user, late.id)]
    assert bob.texts == ["first", "second", "from the new one"]
