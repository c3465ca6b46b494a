"""Devices that write and read through a server in memory: who can read what, whatever is repeated, lost or forged."""

from __future__ import annotations

import secrets

import pytest
import vodozemac
from msgspec.structs import replace

from client.e2ee import KEYS, SEALED
from client.e2ee.contents import EncryptedFile, Plaintext, Quote
from client.e2ee.reading import STALE_S, UnreadableMessage, reader_name
from client.e2ee.records import KeyChange, OlmSessions, Outgoing, Plain, Reader
from client.e2ee.wire import KeyContent, SealedContent, decode
from client.e2ee.writing import MOST_AGE_S, MOST_CONTENTS
from protocol.frames import Message, Tombstone
from tests.client.e2ee.keyring_world import TALK, KeyringWorld


def test_each_device_of_both_users_reads_what_each_other_writes(world: KeyringWorld) -> None:
    devices = [world.join(user) for user in ("alice", "alice", "bob", "bob")]
    for number, device in enumerate(devices):
        world.send(device, f"message {number}")
    for device in devices:
        assert device.texts == [f"message {number}" for number in range(4)]


def test_bytes_at_the_server_tell_nothing_of_the_text(world: KeyringWorld) -> None:
    alice, _ = world.join("alice"), world.join("bob")
    world.send(alice, "planted plaintext")
    data = b"".join(message.content + b"".join(envelopes.values()) for message, envelopes in world.messages)
    assert b"plaintext" not in data
    assert {len(message.content) for message, _ in world.messages if message.content_type == SEALED} == {
        len(world.send(alice, "x").content)
    }, "short texts are of one length"


def test_a_device_reads_all_from_its_joining_to_its_leaving_and_nothing_else(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "before")
    late = world.join("bob")
    world.send(alice, "with it")
    world.send(bob, "too")
    world.leave(late)
    world.send(alice, "after")
    assert bob.texts == ["before", "with it", "too", "after"]
    assert late.texts == ["with it", "too"]
    for message, envelopes in world.messages:
        late.take(world.shown_to(late, message, envelopes))
    expected = [UnreadableMessage("before"), Plaintext("with it"), Plaintext("too"), UnreadableMessage("before")]
    assert list(late.shown.values()) == expected, "the ciphertexts alone do not help it"


def test_a_key_message_goes_to_devices_that_lack_the_key_alone(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    world.send(alice, "two")
    late = world.join("bob")
    world.send(alice, "three")
    named = [set(envelopes) for message, envelopes in world.messages if message.content_type == KEYS]
    assert named == [{bob.id}, {late.id}]


def ratchets(world: KeyringWorld) -> list[str]:
    """The ratchets of all contents, in order."""
    contents = [message.content for message, _ in world.messages if message.content_type == SEALED]
    return list(dict.fromkeys(decode(content, SealedContent).ratchet for content in contents))


@pytest.mark.parametrize("cause", ["nothing", "count", "age", "a device that came and left", "a device that left"])
def test_another_ratchet_begins_when_it_is_due(
    world: KeyringWorld, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.setattr("client.e2ee.writing.MOST_CONTENTS", 3 if cause == "count" else MOST_CONTENTS)
    alice, _, carol = world.join("alice"), world.join("bob"), world.join("carol")
    for number in range(3):
        world.send(alice, str(number))
    match cause:
        case "age":
            world.clock.now_s += MOST_AGE_S + 1
        case "a device that came and left":
            world.leave(world.join("bob"))
        case "a device that left":
            world.leave(carol)
    assert len(ratchets(world)) == 1
    world.send(alice, "last")
    assert len(ratchets(world)) == (1 if cause in ("nothing", "a device that came and left") else 2)


def test_plaintexts_are_kept_under_their_message_and_outlive_a_restart(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "kept")
    for device in (alice, bob):
        device.restart()
        assert device.texts == ["kept"]


def test_taking_messages_again_changes_nothing(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    world.send(bob, "two")
    for _ in range(2):
        for device in (alice, bob):
            device.keyring.keep([*device.messages, *reversed(device.messages)])
            assert device.texts == ["one", "two"]
    assert not bob.keyring.changes()


def test_contents_that_come_before_their_key_are_read_after_it(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    take, bob.keyring.keep = bob.keyring.keep, lambda _: None  # type: ignore[method-assign]
    world.send(alice, "early")
    assert bob.texts == ["(no_key)"]
    take(reversed(bob.messages))
    assert bob.texts == ["early"]


def test_an_edit_is_read_and_the_key_reaches_devices_that_came_meanwhile(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    sent = world.send(alice, "helo")
    late = world.join("bob")
    world.edit(alice, sent, "hello")
    assert bob.texts == ["hello"]
    assert late.texts == ["hello"], "an edit is content from after its joining"
    assert alice.texts == ["hello"]


def test_files_and_quotes_are_inside(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    body = Plaintext("see", [EncryptedFile(b"a" * 16, "plan.txt", 12, b"k" * 32)], Quote(bob.user, "where?"))
    world.share(alice)
    alice.keyring.queue(Outgoing(b"t" * 16, 1, TALK, body))
    sealed = alice.keyring.seal(b"t" * 16)
    assert sealed.content is not None
    message = replace(world.store(alice, sealed.content, b"t" * 16, SEALED), attachments=[b"a" * 16])
    assert bob.keyring.read(message) == body


@pytest.mark.parametrize(
    "field", ["conversation", "sender", "device", "temp_id", "message", "revision", "ratchet of another"]
)
def test_a_content_counts_in_its_place_alone(world: KeyringWorld, field: str) -> None:
    """The server cannot show a ciphertext as another message, of another device or in another conversation."""
    alice, bob, second = world.join("alice"), world.join("bob"), world.join("bob")
    sent = world.send(bob, "in its place")
    assert alice.texts == ["in its place"]
    match field:
        case "revision":
            forged = replace(sent, revision=1)
        case "ratchet of another":
            forged = replace(world.send(alice, "mine"), message=b"m" * 16, content=sent.content)
        case "temp_id":
            # Only devices of the sender are told it.
            alice, forged = second, replace(sent, message=b"m" * 16, temp_id=b"x" * 16)
        case "message":
            forged = replace(sent, message=b"m" * 16)
        case _:
            forged = replace(sent, message=b"m" * 16, **{field: second.id if field == "device" else b"x" * 16})
    for device in (alice, second):
        found = device.keyring.read(forged)
        assert isinstance(found, UnreadableMessage), found


def test_nothing_is_read_of_damaged_bytes(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    sent = world.send(alice, "whole")
    bob.restart()
    for place in range(len(sent.content)):
        damaged = bytearray(sent.content)
        damaged[place] ^= 1
        found = bob.keyring.read(replace(sent, message=b"m" * 16, content=bytes(damaged)))
        assert isinstance(found, UnreadableMessage), place
    assert bob.texts == ["whole"]


def test_damaged_envelopes_give_no_key_and_later_ones_do(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.share(alice)
    message, envelopes = world.messages[-1]
    fresh = world.join("bob")
    for place in range(0, len(envelopes[bob.id]), 7):
        damaged = bytearray(envelopes[bob.id])
        damaged[place] ^= 1
        fresh.keyring.keep([replace(message, envelope=bytes(damaged), temp_id=None)])
    fresh.keyring.keep([replace(message, envelope=envelopes[bob.id], temp_id=None)])
    world.send(alice, "for all")
    assert bob.texts == fresh.texts == ["for all"]


def test_a_session_that_the_other_end_has_lost_is_begun_again(world: KeyringWorld) -> None:
    """Bob's vault is an old copy: it lacks the session that alice writes in."""
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    world.send(bob, "two")
    with alice.vault.transaction() as tx:
        tx.drop(OlmSessions, bob.id)
    late = world.join("bob")
    world.leave(late)
    world.clock.now_s += MOST_AGE_S + 1
    world.send(bob, "three")
    assert alice.texts == ["one", "two", "(no_key)"]
    world.clock.now_s += MOST_AGE_S + 1
    world.send(alice, "four")
    world.clock.now_s += MOST_AGE_S + 1
    world.send(bob, "five")
    assert alice.texts[-1] == "five", "bob answers in the session that alice has begun"


def test_the_last_resort_key_serves_a_device_without_other_keys(world: KeyringWorld) -> None:
    alice, bob, carol = world.join("alice"), world.join("bob"), world.join("carol")
    world.drain(bob)
    world.send(alice, "one")
    world.send(carol, "two")
    assert bob.texts == ["one", "two"]


def test_a_copy_of_the_vault_encrypts_nothing_twice_if_the_program_is_killed_at_any_step(world: KeyringWorld) -> None:
    """Whatever left the device has moved the stored ratchets before: a restart never repeats a key."""
    alice, bob = world.join("alice"), world.join("bob")
    contents: list[bytes] = []
    world.share(alice)
    for number in range(5):
        temp_id = secrets.token_bytes(16)
        alice.keyring.queue(Outgoing(temp_id, number, TALK, Plaintext(f"text {number}")))
        alice.restart()
        first = alice.keyring.seal(temp_id)
        alice.restart()
        again = alice.keyring.seal(temp_id)
        assert first == again, "a retry has the same bytes"
        assert first.content is not None
        contents.append(first.content)
        if number % 2:
            alice.keyring.unseal(temp_id)
            alice.restart()
            other = alice.keyring.seal(temp_id)
            assert other.content not in contents
            assert other.content is not None
            contents.append(other.content)
    indexes = set()
    for content in contents:
        world.store(alice, content, secrets.token_bytes(16), SEALED)
        indexes.add(index_of(content))
    assert len(indexes) == len(contents), "each content has a key of its own"
    assert bob.messages


def index_of(content: bytes) -> tuple[str, int]:
    """The ratchet and the index of its key."""
    sealed = decode(content, SealedContent)
    return sealed.ratchet, vodozemac.MegolmMessage.from_bytes(sealed.ciphertext).message_index()


def test_an_old_message_without_encryption_is_no_encrypted_one(world: KeyringWorld) -> None:
    alice = world.join("alice")
    plain = Message(TALK, 1, b"m" * 16, 1, alice.user, "text/plain", b"open", None, None)
    assert alice.keyring.read(plain) is None


def test_plaintexts_go_with_their_messages(world: KeyringWorld) -> None:
    """After a tombstone, below the first seq, and after leaving (`protocol/SPEC.md`, 20.5)."""
    alice, bob = world.join("alice"), world.join("bob")
    sent = [world.send(alice, text) for text in ("deleted", "below", "kept")]
    key = [(each.conversation, each.seq, each.message, each.created, each.sender) for each in sent]
    bob.keyring.note_progress(TALK, sent[-1].seq)

    def kept() -> set[str]:
        with bob.vault.transaction() as tx:
            return {plain.body.text for plain in tx.all(Plain, of=TALK)}

    assert kept() == {"deleted", "below", "kept"}
    bob.keyring.keep([Tombstone(*key[0])])
    assert kept() == {"below", "kept"}
    bob.keyring.forget_gone({TALK: sent[2].seq})
    assert kept() == {"kept"}
    bob.keyring.forget_gone({b"another".ljust(16): 1})
    assert kept() == set()


def test_other_bytes_under_a_known_id_and_revision_are_decrypted_anew(world: KeyringWorld) -> None:
    """As after a fail-over that has lost an edit."""
    alice, bob = world.join("alice"), world.join("bob")
    sent = world.send(alice, "first")
    lost = world.edit(alice, sent, "lost")
    assert bob.keyring.read(lost) == Plaintext("lost")
    other = world.edit(alice, sent, "another")
    assert other.revision == lost.revision
    assert bob.keyring.read(other) == Plaintext("another")


def test_an_edit_counts_for_its_message_alone(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    one, other = world.send(alice, "one"), world.send(alice, "other")
    edited = world.edit(alice, one, "edited")
    forged = replace(other, content=edited.content, revision=1, temp_id=None)
    assert bob.keyring.read(forged) == UnreadableMessage("broken")
    assert bob.texts == ["edited", "other"]


@pytest.mark.parametrize("field", ["reply_to", "is_quiet", "attachments"])
def test_fields_beside_the_content_are_bound_to_it(world: KeyringWorld, field: str) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    take, bob.keyring.keep = bob.keyring.keep, lambda _: None  # type: ignore[method-assign]
    sent = world.send(alice, "whole")
    take(bob.messages[:1])
    forged = replace(sent, **{field: {"reply_to": 3, "is_quiet": True, "attachments": [b"a" * 16]}[field]})
    assert bob.keyring.read(forged) == UnreadableMessage("broken")
    assert bob.keyring.read(sent) == Plaintext("whole")


def test_a_change_of_devices_is_told_also_after_a_restart_and_once(world: KeyringWorld) -> None:
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    late = world.join("bob")
    world.send(alice, "two")
    alice.restart()
    changes = alice.keyring.changes()
    assert changes == [KeyChange("new", bob.user, late.id)]
    alice.keyring.have_told(changes)
    assert alice.keyring.changes() == []


def test_sessions_are_begun_anew_once_an_hour_at_most(world: KeyringWorld) -> None:
    """However many messages of a device cannot be decrypted."""
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    world.send(bob, "two")
    message, envelopes = next(each for each in world.messages if each[1].get(bob.id))
    broken = replace(message, content=message.content[:-4] + b"none", envelope=envelopes[bob.id], temp_id=None)

    def wants_session() -> bool:
        bob.keyring.keep([broken])
        with bob.vault.transaction() as tx:
            held = tx.get(OlmSessions, alice.id)
            assert held is not None
            was_stale = held.is_stale
            tx.put(replace(held, is_stale=False), alice.id)
        return was_stale

    assert [wants_session() for _ in range(3)] == [True, False, False]
    world.clock.now_s += STALE_S
    assert wants_session()


def test_an_envelope_is_decrypted_once(world: KeyringWorld) -> None:
    """Its key is gone from the vault: a thief who comes later cannot decrypt it, either."""
    alice, bob = world.join("alice"), world.join("bob")
    for text in ("one", "two", "three"):
        world.send(alice, text)
        world.clock.now_s += MOST_AGE_S + 1
    assert bob.texts == ["one", "two", "three"]
    for message in [each for each in bob.messages if each.content_type == KEYS]:
        name = reader_name(alice.id, decode(message.content, KeyContent).ratchet)
        with bob.vault.transaction() as tx:
            tx.drop(Reader, name)
        bob.keyring.keep([message])
        with bob.vault.transaction() as tx:
            assert tx.get(Reader, name) is None


def test_a_key_for_many_devices_goes_in_several_messages(world: KeyringWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.e2ee.writing.ENVELOPES", 2)
    alice, *others = [world.join("alice"), *(world.join(name) for name in ("bob", "carol", "dave"))]
    world.send(alice, "for all")
    assert [len(envelopes) for _, envelopes in world.messages] == [2, 1, 0]
    assert [device.texts for device in others] == [["for all"]] * 3


def test_keys_that_came_before_a_time_do_not_count_where_messages_disappear(world: KeyringWorld) -> None:
    """The key message would disappear before the content."""
    alice, bob = world.join("alice"), world.join("bob")
    world.send(alice, "one")
    assert alice.keyring.lacking(TALK) == ([], [])
    world.clock.now_s += 1
    recipients, _ = alice.keyring.lacking(TALK, world.clock())
    assert [each.device for each in recipients] == [bob.id]
