from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from client.held import Entry, Gap
from client.mailbox import Mailbox
from protocol.frames import (
    Conversation,
    Departed,
    Error,
    Message,
    Participant,
    Participants,
    Profile,
    Receipts,
    Settings,
    Synced,
    Tombstone,
)
from protocol.limits import MAX_SHOWN
from tests.client.client_world import GROUP, ME, OTHER, TALK, message


def told(conversation: bytes, first_seq: int, last_seq: int, last: Entry | None = None) -> Conversation:
    return Conversation(conversation, 1, "direct", None, first_seq, last_seq, 0, 1, [], last, 1)


def not_fresh() -> Mailbox:
    """The mailbox of a device that caught up before the first conversation."""
    mailbox = Mailbox(ME)
    mailbox.synced(Synced(1, b"cursor", False))
    return mailbox


def known(first_seq: int = 1, last_seq: int = 0) -> Mailbox:
    """The mailbox of a device that knows one conversation."""
    mailbox = not_fresh()
    mailbox.learn(told(TALK, first_seq, last_seq))
    return mailbox


def edited(seq: int, revision: int) -> Message:
    return replace(message(TALK, seq), revision=revision, edited=revision, content=b"%d" % revision)


def tombstone(conversation: bytes, seq: int) -> Tombstone:
    held = message(conversation, seq)
    return Tombstone(held.conversation, held.seq, held.message, held.created, held.sender)


def apply(mailbox: Mailbox, *entries: int | Entry) -> list[int]:
    """Apply the entries one after the other; the seqs of the messages that became readable, or changed."""
    made = [message(TALK, each) if isinstance(each, int) else each for each in entries]
    return [readable.seq for each in made for readable in mailbox.apply([each])]


def fetch(mailbox: Mailbox, world: dict[bytes, list[Entry]], first_seq: dict[bytes, int], page: int) -> None:
    """Fetch the missing messages as a client does."""
    while not mailbox.is_complete:
        for conversation in mailbox.unknown():
            mailbox.learn(told(conversation, first_seq[conversation], len(world[conversation])))
        for gap in mailbox.gaps():
            missing = [held for held in world[gap.conversation] if gap.after_seq < held.seq < gap.before_seq]
            mailbox.apply(missing[:page])


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[dict[bytes, list[Entry]], dict[bytes, int], list[Entry | bytes]]:
    """The final entries of each conversation, its first seq for this user, and the deliveries to the device in order.

    A message reaches the device in any of its revisions, any number of times or never; so do the conversations."""
    world: dict[bytes, list[Entry]] = {}
    first_seq: dict[bytes, int] = {}
    every: list[Entry | bytes] = [TALK, GROUP]
    for key in (TALK, GROUP):
        length = draw(st.integers(0, 8))
        first_seq[key] = draw(st.integers(1, length + 1))
        world[key] = []
        for seq in range(1, length + 1):
            versions: list[Entry] = [message(key, seq)]
            revisions = range(1, draw(st.integers(1, 3)))
            versions += [replace(message(key, seq), revision=each, content=b"%d" % each) for each in revisions]
            if draw(st.booleans()):
                versions.append(tombstone(key, seq))
            world[key].append(versions[-1])
            every += versions if seq >= first_seq[key] else []
    return world, first_seq, draw(st.lists(st.sampled_from(every), max_size=40))


@settings(deadline=None)  # A busy machine must not fail the test.
@given(deliveries(), st.integers(1, 10))
def test_any_order_any_duplicates_any_loss_and_a_fetch_equal_the_whole(
    case: tuple[dict[bytes, list[Entry]], dict[bytes, int], list[Entry | bytes]], page: int
) -> None:
    world, first_seq, steps = case
    mailbox = not_fresh()
    logged: list[Entry] = []
    for step in steps:
        if isinstance(step, bytes):
            logged += mailbox.learn(told(step, first_seq[step], len(world[step])))
        else:
            logged += mailbox.apply([step])
        # The readable messages never have a gap.
        for key in world:
            seqs = [held.seq for held in mailbox.messages(key)]
            assert seqs == list(range(first_seq[key], first_seq[key] + len(seqs)))
    assert mailbox.log == logged

    for key in world:
        mailbox.learn(told(key, first_seq[key], len(world[key])))
    fetch(mailbox, world, first_seq, page)
    # The next sync brings the edits that never reached the device.
    mailbox.apply([entry for key, entries in world.items() for entry in entries[first_seq[key] - 1 :]])

    for key, entries in world.items():
        assert list(mailbox.messages(key)) == entries[first_seq[key] - 1 :]
        shown = {entry.seq: entry for entry in mailbox.log if entry.conversation == key}
        assert [shown[seq] for seq in sorted(shown)] == list(mailbox.messages(key))
    due = {key: len(entries) for key, entries in world.items() if len(entries) >= first_seq[key]}
    assert dict(mailbox.delivered.due()) == due


def test_a_message_that_comes_too_early_waits_and_the_gap_names_the_missing_ones() -> None:
    mailbox = known()
    assert apply(mailbox, 1, 5, 4) == [1]
    assert mailbox.gaps() == [Gap(TALK, 1, 4)]
    assert apply(mailbox, 2) == [2]
    assert mailbox.gaps() == [Gap(TALK, 2, 4)]
    assert apply(mailbox, 3) == [3, 4, 5]
    assert mailbox.gaps() == []


def test_a_conversation_that_is_ahead_makes_a_gap() -> None:
    mailbox = known(3, 7)
    assert mailbox.gaps() == [Gap(TALK, 2, 8)]
    assert mailbox.up_to(TALK) == 2


def test_an_empty_conversation_has_no_gap() -> None:
    mailbox = known()
    assert mailbox.is_complete
    assert mailbox.delivered.due() == []


def test_an_unknown_conversation_has_to_be_told_of_before_it_has_gaps() -> None:
    mailbox = not_fresh()
    assert apply(mailbox, 7) == []
    assert (mailbox.unknown(), mailbox.gaps(), mailbox.is_complete) == ({TALK}, [], False)
    assert mailbox.learn(told(TALK, 7, 7)) == [message(TALK, 7)]
    assert mailbox.is_complete


def test_messages_of_a_conversation_that_a_sync_does_not_tell_of_are_dropped() -> None:
    """They were on their way while the user was removed, for instance. A later frame tells of it again."""
    mailbox = not_fresh()
    assert apply(mailbox, 7) == []
    mailbox.synced(Synced(1, b"cursor", True))
    assert mailbox.unknown() == {TALK}, "a later page may tell of it"
    mailbox.synced(Synced(1, b"cursor", False))
    assert (mailbox.unknown(), mailbox.is_complete) == (set(), True)
    assert mailbox.learn(told(TALK, 2, 9, message(TALK, 9))) == [message(TALK, 9)]


def test_a_device_that_held_nothing_begins_with_the_last_message_and_loads_older_ones_downwards() -> None:
    mailbox = Mailbox(ME)
    assert [entry.seq for entry in mailbox.learn(told(TALK, 2, 9, message(TALK, 9)))] == [9]
    assert mailbox.is_complete
    assert mailbox.older_before(TALK) == 9
    assert apply(mailbox, edited(4, 1)) == [], "an edit of a message that is not loaded waits"
    assert [entry.seq for entry in mailbox.apply([message(TALK, seq) for seq in (8, 7, 6)])] == [6, 7, 8]
    assert mailbox.older_before(TALK) == 6
    assert [entry.seq for entry in mailbox.apply([message(TALK, seq) for seq in (5, 4, 3, 2)])] == [2, 3, 4, 5]
    assert mailbox.messages(TALK)[2] == edited(4, 1)
    assert mailbox.older_before(TALK) is None
    assert mailbox.is_complete


def test_the_greater_revision_wins_and_a_tombstone_is_final() -> None:
    mailbox = known()
    assert apply(mailbox, 1, edited(1, 2), edited(1, 1), message(TALK, 1)) == [1, 1]
    assert list(mailbox.messages(TALK)) == [edited(1, 2)]
    assert apply(mailbox, tombstone(TALK, 1), edited(1, 3), tombstone(TALK, 1)) == [1]
    assert list(mailbox.messages(TALK)) == [tombstone(TALK, 1)]
    assert mailbox.log == [message(TALK, 1), edited(1, 2), tombstone(TALK, 1)]


def test_a_floor_that_rises_jumps_over_what_may_not_be_read_and_drops_what_is_gone() -> None:
    mailbox = known()
    apply(mailbox, 1, 2)
    apply(mailbox, 9)
    assert mailbox.learn(told(TALK, 8, 9)) == []
    assert apply(mailbox, 8) == [8, 9]
    assert [held.seq for held in mailbox.messages(TALK)] == [8, 9]
    assert mailbox.older_before(TALK) is None
    assert apply(mailbox, 3, 10) == [10]


def test_settings_with_a_floor_drop_what_has_disappeared_and_end_the_wait_for_what_is_missing() -> None:
    """Messages above the gap become readable at once: another message may not come for a long time."""
    mailbox = known()
    apply(mailbox, 1, 2)
    apply(mailbox, 5)
    assert not mailbox.is_complete
    mailbox.take(Settings(TALK, None, 5, 1))
    assert mailbox.is_complete
    assert [held.seq for held in mailbox.messages(TALK)] == [5]
    assert [logged.seq for logged in mailbox.log] == [1, 2, 5]
    mailbox.take(Settings(TALK, None, 8, 1))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.first_seq, head.last_seq, head.unread_count) == (8, 7, 0), (
        "messages below the floor that the mailbox never got are not unread"
    )
    assert apply(mailbox, 6, 8) == [8]


def test_a_lifetime_is_kept_by_its_version() -> None:
    mailbox = known()
    for version, lifetime_s in ((3, 60), (2, None)):
        mailbox.take(Settings(TALK, None, 1, version, None, lifetime_s))
        head = mailbox.head(TALK)
        assert head is not None
        assert head.lifetime_s == 60


def test_a_floor_never_falls() -> None:
    mailbox = known(5, 5)
    mailbox.learn(told(TALK, 1, 5))
    assert mailbox.gaps() == [Gap(TALK, 4, 6)]
    assert apply(mailbox, 5) == [5]


def test_a_floor_falls_for_who_left_unheard_and_came_back_to_see_all() -> None:
    mailbox = known(5, 5)
    apply(mailbox, 5)
    assert mailbox.older_before(TALK) is None
    assert mailbox.learn(replace(told(TALK, 1, 6), participants_version=3)) == []
    assert apply(mailbox, 6) == [6]
    assert mailbox.is_complete
    assert mailbox.older_before(TALK) == 5
    assert mailbox.apply([message(TALK, seq) for seq in (4, 3, 2, 1)]) == [message(TALK, seq) for seq in (1, 2, 3, 4)]


def test_giving_up_what_is_missing_keeps_what_is_held() -> None:
    mailbox = known()
    apply(mailbox, 1, 4)
    mailbox.forget_missing(TALK)
    assert mailbox.is_complete
    assert apply(mailbox, 2) == [2]
    mailbox.apply([message(GROUP, 5)])
    mailbox.forget_missing(GROUP)
    assert mailbox.is_complete


def test_dropping_all_begins_anew() -> None:
    mailbox = known()
    apply(mailbox, 1, 2)
    mailbox.read.lift(TALK, 2)
    mailbox.drop()
    assert mailbox.cursor is None
    assert (mailbox.delivered.due(), mailbox.read.due(), list(mailbox.messages(TALK))) == ([], [], [])
    mailbox.learn(told(TALK, 1, 9, message(TALK, 9)))
    assert [entry.seq for entry in mailbox.messages(TALK)] == [9]


def test_marks_are_due_once_until_more_is_held() -> None:
    mailbox = known()
    apply(mailbox, 1, 2, 4)
    assert mailbox.delivered.due() == [(TALK, 2)]
    apply(mailbox, 3)
    mailbox.delivered.confirm([(TALK, 2)])
    assert mailbox.delivered.due() == [(TALK, 4)]
    mailbox.delivered.confirm([(TALK, 4)])
    assert mailbox.delivered.due() == []
    apply(mailbox, 1, 4)
    assert mailbox.delivered.due() == []


def test_a_mark_that_the_server_may_have_met_between_two_stays_is_due_again() -> None:
    mailbox = known()
    apply(mailbox, 1, 2)
    due = mailbox.delivered.due()
    versions = mailbox.versions(due)
    mailbox.learn(replace(told(TALK, 1, 2), participants_version=8))
    mailbox.have_marked(mailbox.delivered, due, versions)
    assert mailbox.delivered.due() == due
    mailbox.have_marked(mailbox.delivered, due, mailbox.versions(due))
    assert mailbox.delivered.due() == []


def test_marks_of_a_stay_end_with_it() -> None:
    mailbox = known()
    apply(mailbox, 1, 2)
    due = mailbox.delivered.due()
    versions = mailbox.versions(due)
    mailbox.take(Departed(TALK, [mailbox.user], 7))
    assert mailbox.delivered.due() == []
    mailbox.have_marked(mailbox.delivered, due, versions)
    mailbox.learn(replace(told(TALK, 1, 2), participants_version=8))
    mailbox.delivered.lift(TALK, 2)
    assert mailbox.delivered.due() == [(TALK, 2)]


def test_no_more_marks_are_due_at_once_than_asked_for() -> None:
    mailbox = not_fresh()
    for number in range(5):
        key = bytes([number]) * 16
        mailbox.learn(told(key, 1, 1))
        mailbox.apply([message(key, 1)])
    first = mailbox.delivered.due(3)
    mailbox.delivered.confirm(first)
    assert len(first) == 3
    assert len(mailbox.delivered.due(3)) == 2


def test_a_conversation_was_active_when_its_last_message_was_sent() -> None:
    mailbox = known()
    apply(mailbox, 1, 9)
    head = mailbox.head(TALK)
    assert head is not None
    assert head.active_at == 1, "a message behind a gap is not shown"
    apply(mailbox, *range(2, 9))
    head = mailbox.head(TALK)
    assert head is not None
    assert head.active_at == 9


def test_names_are_kept_up_only_where_they_are_told() -> None:
    """In a large conversation the server would never repeat a change of name that the device missed."""
    for others, shown in ((MAX_SHOWN - 2, "Bob B."), (MAX_SHOWN, None)):
        people = [Participant(user, None, "x", 0, 0, 0) for user in (ME, OTHER)]
        people += [Participant(bytes([number]) * 16, None, "x", 0, 0, 0) for number in range(others)]
        mailbox = not_fresh()
        count = len(people) if len(people) > MAX_SHOWN else None
        mailbox.learn(replace(told(TALK, 1, 0), participants=people, participant_count=count))
        for user, name in ((ME, "Ann A."), (OTHER, "Bob B.")):
            mailbox.take(Profile(user, 1, "x", name))
        names = {each.user: each.display_name for each in mailbox.participants(TALK)}
        assert (names[ME], names.get(OTHER)) == ("Ann A.", shown)


def marks_of(mailbox: Mailbox) -> dict[bytes, tuple[int | None, int | None]]:
    return {each.user: (each.delivered_seq, each.read_seq) for each in mailbox.participants(TALK)}


def test_a_push_before_its_conversation_counts_if_it_is_newer() -> None:
    """The race: `sync` reads, then a change is pushed, then the server sends the state that `sync` read."""
    people = [Participant(user, None, "x", 0, 2, 2) for user in (ME, OTHER)]
    mailbox = not_fresh()
    apply(mailbox, message(TALK, 3, ME))
    mailbox.take(Receipts(TALK, None, [(OTHER, 3, 2)]))
    mailbox.take(Settings(TALK, "new", 1, 2))
    assert mailbox.conversations() == []
    mailbox.learn(replace(told(TALK, 1, 2), participants=people))
    assert marks_of(mailbox) == {ME: (3, 3), OTHER: (3, 2)}
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.name, head.unread_count) == ("new", 0)


def test_a_user_who_came_back_misses_no_push_from_before_the_conversation() -> None:
    """The race: as above, for a conversation that the user left. Messages from before the departure stay dropped."""
    mailbox = known()
    apply(mailbox, 1)
    mailbox.take(Departed(TALK, [ME], 2))
    assert apply(mailbox, 2, 5, 4) == []
    assert mailbox.conversations() == []
    mailbox.learn(replace(told(TALK, 4, 4), participants_version=3))
    assert [entry.seq for entry in mailbox.messages(TALK)] == [4, 5]
    assert mailbox.is_complete


def test_a_participant_who_wrote_before_being_told_of_has_read_up_to_that() -> None:
    mailbox = known()
    apply(mailbox, 1)
    mailbox.take(Participants(TALK, [Participant(OTHER, None, "x", 0, 0, 0)], 2))
    assert marks_of(mailbox) == {OTHER: (1, 1)}


def test_the_keeper_has_each_message_before_it_is_held_and_a_mark_is_due() -> None:
    """A keeper that fails, as on a full disk, leaves nothing that the server would hear of."""
    kept: list[tuple[list[int], int]] = []
    is_full = False

    def keep(entries: Sequence[Entry]) -> None:
        if is_full:
            raise OSError("no space left on device")
        kept.append(([entry.seq for entry in entries], mailbox.up_to(TALK)))

    mailbox = Mailbox(ME, keep)
    mailbox.synced(Synced(1, b"cursor", False))
    mailbox.learn(told(TALK, 1, 1, message(TALK, 1)))
    mailbox.apply([message(TALK, 2), tombstone(TALK, 3)])
    mailbox.feed(message(TALK, 4))
    assert kept == [([1], 0), ([2, 3], 1), ([4], 3)]
    due = mailbox.delivered.due()
    is_full = True
    with pytest.raises(OSError, match="no space"):
        mailbox.feed(message(TALK, 5))
    assert mailbox.up_to(TALK) == 4
    assert mailbox.delivered.due() == due


def test_a_refusal_tells_the_version_of_the_device_set_and_that_a_control_message_is_missing() -> None:
    mailbox = Mailbox(ME)
    mailbox.learn_from(TALK, Error(1, "control_conflict", "", control_seq=3))
    assert mailbox.is_complete, "the conversation is not known"
    mailbox.synced(Synced(1, b"cursor", False))
    mailbox.learn(told(TALK, 1, 1, message(TALK, 1)))
    mailbox.learn_from(TALK, Error(1, "control_conflict", "", control_seq=3))
    mailbox.learn_from(TALK, Error(2, "devices_changed", "", devices_version=7))
    mailbox.learn_from(TALK, Error(3, "devices_changed", "", devices_version=6))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.control_seq, head.devices_version, mailbox.gaps()) == (3, 7, [Gap(TALK, 1, 4)])
