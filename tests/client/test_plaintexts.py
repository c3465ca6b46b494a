"""Plaintexts outlive the order of the messages (SPEC 6.4, 20.5)."""

from __future__ import annotations

from msgspec.structs import replace

from client.mailbox import Mailbox
from client.plaintexts import Plaintexts
from protocol.frames import Conversation, Departed, Message, Settings, Synced, Tombstone
from tests.client.client_world import GROUP, ME, OTHER, TALK, message


def told(conversation: bytes, last: Message, first_seq: int = 1, version: int = 1) -> Conversation:
    return Conversation(conversation, 1, "direct", None, first_seq, last.seq, 0, 1, [], last, version)


def deleted(held: Message) -> Tombstone:
    return Tombstone(held.conversation, held.seq, held.message, held.created, held.sender)


def known(*seqs: int) -> tuple[Mailbox, list[Message]]:
    """The mailbox of a device that has decrypted all messages of a conversation."""
    mailbox = Mailbox(ME)
    held = [message(TALK, seq, content=b"%d" % seq) for seq in seqs]
    mailbox.learn(told(TALK, held[0]))
    mailbox.synced(Synced(1, b"cursor", False))
    mailbox.apply(held)
    for each in held:
        mailbox.plaintexts.keep(each, b"says " + each.content)
    return mailbox, held


def shown(mailbox: Mailbox, held: list[Message]) -> list[bytes | None]:
    return [mailbox.plaintexts.of(each) for each in held]


def test_a_message_that_comes_again_under_another_seq_finds_its_plaintext() -> None:
    mailbox, held = known(1, 2, 3)
    mailbox.drop()
    assert (mailbox.cursor, list(mailbox.messages(TALK))) == (None, [])
    moved = [replace(each, seq=each.seq + 4) for each in held]
    mailbox.learn(told(TALK, moved[2]))
    mailbox.synced(Synced(1, b"another", False))
    mailbox.apply(moved[:2])
    assert list(mailbox.messages(TALK)) == moved
    assert shown(mailbox, moved) == [b"says 1", b"says 2", b"says 3"]


def test_a_plaintext_belongs_to_the_bytes_that_were_decrypted() -> None:
    mailbox, [held] = known(1)
    mailbox.drop()
    for other in (
        replace(held, content=b"2"),
        replace(held, content=b"", nonce=b"1"),
        replace(held, ephemeral_public_key=b"1"),
        replace(held, revision=1),
        replace(held, message=OTHER),
        replace(held, conversation=GROUP),
    ):
        assert mailbox.plaintexts.of(other) is None
    assert mailbox.plaintexts.of(replace(held, seq=9)) == b"says 1"


def test_the_plaintext_of_a_later_revision_takes_the_place_of_the_one_before() -> None:
    mailbox, [held] = known(1)
    edited = replace(held, revision=1, content=b"uno")
    mailbox.plaintexts.keep(edited, b"says uno")
    assert shown(mailbox, [edited, held]) == [b"says uno", None]


def test_the_plaintext_of_a_deleted_message_goes_before_and_after_the_order_was_dropped() -> None:
    mailbox, held = known(1, 2)
    mailbox.apply([deleted(held[0])])
    assert shown(mailbox, held) == [None, b"says 2"]
    mailbox.drop()
    mailbox.learn(told(TALK, held[1]))
    mailbox.apply([deleted(held[1])])
    assert shown(mailbox, held) == [None, None]


def test_plaintexts_go_with_messages_below_the_floor_whichever_frame_raises_it() -> None:
    mailbox, held = known(1, 2, 3, 4, 5)
    mailbox.raise_floor(TALK, 2)
    assert shown(mailbox, held[:2]) == [None, b"says 2"]
    mailbox.take(Settings(TALK, None, 3, 1))
    assert shown(mailbox, held[:3]) == [None, None, b"says 3"]
    mailbox.learn(told(TALK, held[4], first_seq=4))
    assert shown(mailbox, held) == [None, None, None, b"says 4", b"says 5"]


def test_a_floor_of_another_history_drops_no_plaintext_by_the_seq_of_the_former_one() -> None:
    mailbox, held = known(1, 2)
    mailbox.drop()
    moved = [replace(each, seq=each.seq + 5) for each in held]
    mailbox.learn(told(TALK, moved[1], first_seq=6))
    assert shown(mailbox, moved) == [b"says 1", b"says 2"]
    mailbox.apply(moved[:1])
    mailbox.raise_floor(TALK, 7)
    assert shown(mailbox, moved) == [None, b"says 2"]


def test_plaintexts_of_messages_that_the_other_history_does_not_have_go_once_all_of_it_is_held() -> None:
    mailbox, held = known(1, 2, 3)
    mailbox.drop()
    mailbox.learn(told(TALK, replace(held[2], seq=2)))
    mailbox.synced(Synced(1, b"another", False))
    assert shown(mailbox, held) == [b"says 1", b"says 2", b"says 3"]
    mailbox.apply([replace(held[0], seq=1)])
    assert shown(mailbox, held) == [b"says 1", None, b"says 3"]


def test_plaintexts_go_with_a_conversation_that_the_user_has_left_or_another_history_does_not_have() -> None:
    mailbox, held = known(1)
    mailbox.take(Departed(TALK, [ME], 2))
    assert shown(mailbox, held) == [None]
    mailbox, held = known(1)
    mailbox.drop()
    mailbox.synced(Synced(1, b"page", True))
    assert shown(mailbox, held) == [b"says 1"], "the conversation may come with the next page"
    mailbox.synced(Synced(1, b"another", False))
    assert shown(mailbox, held) == [None]


def test_a_conversation_without_plaintexts_has_none() -> None:
    plaintexts = Plaintexts()
    plaintexts.lose_order()
    for conversation in (TALK, GROUP):
        plaintexts.forget_placeless(conversation)
        plaintexts.forget_below(conversation, 5)
        plaintexts.forget(conversation, OTHER)
        plaintexts.forget_conversation(conversation)
    assert plaintexts.of(message(TALK, 1)) is None
