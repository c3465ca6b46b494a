"""A device whose envelope has gone gets the key again: what it was given before, and no more."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from client.e2ee import KEYS, SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.keyring import Keyring
from client.e2ee.reading import UnreadableMessage
from client.e2ee.records import OlmSessions
from client.e2ee.writing import MOST_AGE_S
from protocol.frames import Message
from protocol.limits import ENVELOPE_DAYS
from tests.client.e2ee.keyring_world import DAY_S, TALK, Device, KeyringWorld


def ignore(device: Device) -> None:
    """The device is away: it takes nothing."""
    device.keyring.keep = lambda _: None  # type: ignore[method-assign]


def come_back(device: Device) -> None:
    """The device reads what it has missed. The server has envelopes of the last days alone."""
    now_s = device.world.clock()
    del device.keyring.keep
    device.messages = [
        replace(each, envelope=None) if now_s - each.created / 1e6 > ENVELOPE_DAYS * DAY_S else each
        for each in device.messages
    ]
    device.keyring.keep(device.messages)


def heal(device: Device, seq: int, envelope: bytes) -> None:
    """The server shows a message with an envelope that was added to it."""
    device.messages = [
        replace(each, envelope=envelope, has_envelopes=True) if each.seq == seq else each for each in device.messages
    ]
    device.keyring.keep(device.messages)


def message_of(sender: Device, seq: int) -> Message:
    return next(each for each in sender.messages if each.seq == seq)


@pytest.mark.parametrize("away_days", [ENVELOPE_DAYS - 2, ENVELOPE_DAYS + 18])
def test_a_device_that_was_away_reads_all_but_what_is_older_than_the_envelopes(
    world: KeyringWorld, away_days: int
) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "0")
    ignore(bob)
    days = range(0, away_days + 1, 2)
    for day in days[1:]:
        world.clock.now_s += 2 * DAY_S
        world.send(alice, str(day))
    come_back(bob)
    missing = [day for day, text in zip(days, bob.texts, strict=True) if text != str(day)]
    assert "(before)" not in bob.texts, "it was there"
    if away_days < ENVELOPE_DAYS:
        assert missing == []
    else:
        first, last = missing[0], missing[-1]
        assert first > 2, "a key that came before it went away opens what was sent by it later"
        assert missing == [day for day in days if first <= day <= last]
        assert ENVELOPE_DAYS - MOST_AGE_S / DAY_S - 2 <= away_days - last < ENVELOPE_DAYS


def test_it_gets_the_key_again_and_reads_all_that_the_key_opens(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    ignore(bob)
    sent = [world.send(alice, text) for text in ("one", "two")]
    world.clock.now_s += (ENVELOPE_DAYS + 1) * DAY_S
    come_back(bob)
    assert bob.texts == ["(no_key)", "(no_key)"]
    alice.restart()
    assert alice.keyring.was_given(message_of(alice, sent[1].seq), bob.id) == (bob.user, True)
    envelope = alice.keyring.give_again(message_of(alice, sent[1].seq), bob.id)
    assert envelope is not None
    heal(bob, sent[1].seq, envelope)
    assert bob.texts == ["one", "two"]
    bob.restart()
    assert bob.texts == ["one", "two"]


def test_a_device_gets_no_more_than_it_was_given(world: KeyringWorld) -> None:
    """A device that came later asks for an earlier message: it has the key of the later ones, and gets that again."""
    alice, bob = world.join("alice"), world.join("bob")
    early = world.send(alice, "early")
    late = world.join("bob")
    world.send(alice, "later")
    late.take(world.shown_to(late, *world.messages[early.seq - 1]))
    envelope = alice.keyring.give_again(message_of(alice, early.seq), late.id)
    assert envelope is not None
    heal(late, early.seq, envelope)
    assert late.texts == ["(before)", "later"]
    world.leave(bob)
    world.send(alice, "without bob")
    stranger = world.join("carol")
    world.share(alice)
    assert alice.keyring.give_again(message_of(alice, early.seq), stranger.id) is None, "it never had this key"


@pytest.mark.parametrize("change", ["it is revoked", "it has another identity"])
def test_a_device_that_is_no_longer_the_one_that_got_a_key_does_not_get_it_again(
    world: KeyringWorld, change: str
) -> None:
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    sent = world.send(alice, "one")
    match change:
        case "it has another identity":
            world.replace_keys(bob)
        case _:
            world.leave(bob)
    world.share(alice)
    assert alice.keyring.was_given(message_of(alice, sent.seq), bob.id) is None
    assert alice.keyring.give_again(message_of(alice, sent.seq), bob.id) is None
    assert alice.keyring.give_again(message_of(alice, sent.seq), carol.id) is not None


def test_a_key_that_is_given_again_counts_in_its_place_alone(world: KeyringWorld) -> None:
    """The server shows the envelope with another message, from another device, or to another device."""
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    for device in (bob, carol):
        ignore(device)
    sent = world.send(alice, "one")
    envelope = alice.keyring.give_again(message_of(alice, sent.seq), bob.id)
    assert envelope is not None
    shown = replace(sent, temp_id=None, envelope=envelope, has_envelopes=True)
    for reader, wrong in (
        (bob, replace(shown, conversation=b"x" * 16)),
        (bob, replace(shown, sender=carol.user)),
        (bob, replace(shown, device=carol.id)),
        (carol, shown),
    ):
        Keyring.keep(reader.keyring, [wrong])
        assert reader.keyring.read(sent) == UnreadableMessage("no_key"), wrong
    Keyring.keep(bob.keyring, [shown])
    assert bob.keyring.read(sent) == Plaintext("one")


def test_a_session_that_is_gone_is_begun_again_before_a_key_is_given(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    ignore(bob)
    sent = world.send(alice, "one")
    with alice.vault.transaction() as tx:
        tx.drop(OlmSessions, bob.id)
    message = message_of(alice, sent.seq)
    assert alice.keyring.was_given(message, bob.id) == (bob.user, False)
    assert alice.keyring.give_again(message, bob.id) is None
    alice.keyring.take_claimed([bob.user], world.listed([bob.user], claims=True))
    envelope = alice.keyring.give_again(message, bob.id)
    assert envelope is not None
    come_back(bob)
    heal(bob, sent.seq, envelope)
    assert bob.texts == ["one"]


def test_keys_that_were_given_are_forgotten_with_the_conversation(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    sent = world.send(alice, "one")
    alice.keyring.note_progress(TALK, sent.seq)
    alice.keyring.forget_gone({})
    world.share(alice)
    assert alice.keyring.was_given(message_of(alice, sent.seq), bob.id) is None
    assert [each.content_type for each, _ in world.messages] == [KEYS, SEALED, KEYS]
