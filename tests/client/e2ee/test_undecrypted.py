"""What a device reports that it cannot decrypt, and how often it answers others."""

from __future__ import annotations

from msgspec.structs import replace

from client.e2ee.records import OlmSessions, Undecrypted
from client.e2ee.undecrypted import AGAIN_S
from protocol.frames import Tombstone
from protocol.limits import ENVELOPE_DAYS, MAX_REPORTS
from protocol.undecryptable import REASONS
from tests.client.e2ee.keyring_world import DAY_S, Device, KeyringWorld
from tests.client.e2ee.test_given_keys import come_back, heal, ignore, message_of


def reported(device: Device) -> list[tuple[int, str]]:
    """Report what is due: (seq, reason)."""
    found = device.keyring.due_reports()
    for each in found:
        device.keyring.have_reported(each)
    assert {each.reason for each in found} <= REASONS.keys()
    return [(each.seq, each.reason) for each in found]


def away(world: KeyringWorld, *texts: str) -> tuple[Device, Device, list[int]]:
    """Bob was away for longer than the server keeps envelopes: (Alice, Bob, the seqs of what he cannot read)."""
    alice, bob = world.join("alice"), world.join("bob")
    ignore(bob)
    sent = [world.send(alice, text).seq for text in texts]
    world.clock.now_s += (ENVELOPE_DAYS + 1) * DAY_S
    come_back(bob)
    return alice, bob, sent


def test_the_first_of_the_messages_that_one_key_opens_is_reported_once(world: KeyringWorld) -> None:
    alice, bob, sent = away(world, "one", "two")
    assert reported(bob) == [(sent[0], "no_content_key")]
    assert reported(bob) == []
    bob.restart()
    bob.keyring.keep(bob.messages)
    assert reported(bob) == [], "the vault knows that it was reported"
    envelope = alice.keyring.give_again(message_of(alice, sent[0]), bob.id)
    assert envelope is not None
    heal(bob, sent[0], envelope)
    assert bob.texts == ["one", "two"]
    assert reported(bob) == []


def test_a_message_is_reported_again_after_an_envelope_that_did_not_help(world: KeyringWorld) -> None:
    alice, bob, sent = away(world, "one", "two")
    assert len(reported(bob)) == 1
    for turn in range(2):
        heal(bob, sent[0], b"damaged %d" % turn)
        assert reported(bob) == [(sent[0], "no_content_key")]
        bob.keyring.keep([replace(message_of(bob, sent[0]), envelope=None)])
        assert reported(bob) == [], "the message comes as it was before"
    world.clock.now_s += AGAIN_S
    bob.restart()
    assert reported(bob) == [(sent[0], "no_content_key")], "the server has forgotten the report"
    alice.restart()


def test_a_damaged_message_is_reported_by_itself(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    ignore(bob)
    sent = [world.send(alice, text).seq for text in ("one", "two")]
    bob.messages = [
        replace(each, content=each.content[:-1] + bytes([each.content[-1] ^ 1])) if each.seq == sent[1] else each
        for each in bob.messages
    ]
    del bob.keyring.keep
    bob.keyring.keep(bob.messages)
    assert bob.texts == ["one", "(broken)"]
    assert reported(bob) == [(sent[1], "damaged")]
    assert reported(bob) == []


def test_a_message_whose_key_comes_later_or_that_is_not_for_this_device_is_not_reported(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    ignore(bob)
    world.send(alice, "one")
    del bob.keyring.keep
    for each in reversed(bob.messages):
        bob.keyring.keep([each])
    assert bob.texts == ["one"]
    assert reported(bob) == []
    late = world.join("bob")
    for message, envelopes in world.messages:
        late.take(replace(message, envelope=envelopes.get(late.id)))
    assert late.texts == ["(before)"]
    assert reported(late) == []
    assert reported(alice) == [], "nor its own"


def test_a_message_that_goes_is_not_reported(world: KeyringWorld) -> None:
    _, bob, sent = away(world, "one", "two")
    assert len(bob.keyring.due_reports()) == 1
    gone = message_of(bob, sent[0])
    bob.keyring.keep([Tombstone(gone.conversation, gone.seq, gone.message, gone.created, gone.sender)])
    assert [each.seq for each in bob.keyring.due_reports()] == [sent[1]]
    bob.keyring.forget_gone({})
    with bob.vault.transaction() as tx:
        assert tx.all(Undecrypted) == []


def test_a_device_is_answered_five_times_and_from_the_second_time_on_by_another_session(world: KeyringWorld) -> None:
    alice, bob, sent = away(world, "one")
    message = message_of(alice, sent[0])
    stale = []
    for _ in range(MAX_REPORTS):
        assert alice.keyring.count_answer(message, bob.id)
        with alice.vault.transaction() as tx:
            sessions = tx.get(OlmSessions, bob.id)
            assert sessions is not None
            stale.append(sessions.is_stale)
        alice.restart()
    assert stale == [False, True, True, True, True]
    assert not alice.keyring.count_answer(message, bob.id)
    assert alice.keyring.count_answer(message, b"another device..")
