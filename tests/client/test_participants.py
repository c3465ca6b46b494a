"""Participants and their marks are the same in the end, in any order of the frames and with any duplicates."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from client.mailbox import Mailbox
from client.participants import ParticipantList
from protocol.frames import (
    Conversation,
    Departed,
    Message,
    Participant,
    Participants,
    Profile,
    ReceiptCounts,
    Receipts,
    Settings,
    Stay,
    Synced,
    Tombstone,
)
from tests.client.client_world import DEVICE, ME, OTHER, TALK
from tests.rows import each_row

ANN, BOB, CEC = (name * 16 for name in (b"a", b"b", b"c"))


def person(
    user: bytes, *, joined: int = 0, since: int | None = None, delivered: int | None = 0, read: int | None = 0
) -> Participant:
    return Participant(user, None, user.decode()[:3], joined, delivered, read, since_seq=since)


def told(version: int, *participants: Participant, first_seq: int = 1, last_seq: int = 9) -> Conversation:
    return Conversation(TALK, 1, "group", f"v{version}", first_seq, last_seq, 0, 1, list(participants), None, version)


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[list[Participants | Departed | Conversation | Receipts | Profile], Conversation]:
    """The changes of a group, as single frames and sometimes as the whole conversation; and its final state."""
    people = {ANN: person(ANN)}
    profiles: dict[bytes, Profile] = {}
    events: list[Participants | Departed | Conversation | Receipts | Profile] = []
    version, names, last_seq = 1, 0, 5
    for _ in range(draw(st.integers(1, 12))):
        user = draw(st.sampled_from([ANN, BOB, CEC]))
        match draw(st.sampled_from(["join", "leave", "role", "mark", "rename", "whole"])):
            case "join" if user not in people:
                version += 1
                # Earlier messages count as read, so marks never go back.
                people[user] = person(user, joined=draw(st.integers(0, 5)), delivered=last_seq, read=last_seq)
                if (known := profiles.get(user)) is not None:
                    # A profile belongs to the user: a participant that comes back has the same profile.
                    people[user] = replace(
                        people[user],
                        revision=known.revision,
                        display_name=known.display_name,
                        avatar=known.avatar,
                    )
                events.append(Participants(TALK, [people[user]], version))
            case "leave" if user in people and len(people) > 1:
                version += 1
                del people[user]
                events.append(Departed(TALK, [user], version))
            case "role" if user in people:
                version += 1
                people[user] = replace(people[user], is_admin=None if people[user].is_admin else True)
                events.append(Participants(TALK, [people[user]], version))
            case "mark" if user in people:
                held = people[user]
                delivered = max(held.delivered_seq or 0, draw(st.integers(5, 9)))
                read = min(max(held.read_seq or 0, draw(st.integers(5, 9))), delivered)
                last_seq = max(last_seq, delivered)
                people[user] = replace(held, delivered_seq=delivered, read_seq=read)
                events.append(Receipts(TALK, None, [(user, delivered, read)]))
            case "rename" if user in people:
                names += 1
                picture = draw(st.sampled_from([None, (b"p" * 16, names, bytes(32))]))
                people[user] = replace(people[user], revision=names, display_name=f"name {names}", avatar=picture)
                profiles[user] = Profile(user, names, people[user].username, f"name {names}", picture)
                events.append(profiles[user])
            case "whole":
                events.append(told(version, *people.values()))
    return events, told(version, *people.values())


@settings(deadline=None)  # A busy machine must not fail the test.
@given(histories(), st.randoms(use_true_random=False))
def test_in_any_order_it_ends_as_it_is(
    history: tuple[list[Participants | Departed | Conversation | Receipts | Profile], Conversation], chance: object
) -> None:
    """The final state comes anywhere among the changes, as the reply to a `sync` that read meanwhile does."""
    events, last = history
    every = [*events, *events[::2]]
    chance.shuffle(every)  # type: ignore[attr-defined]
    every.insert(chance.randrange(len(every) + 1), last)  # type: ignore[attr-defined]
    mailbox = Mailbox(ME)
    mailbox.learn(told(0, person(ANN)))
    for event in every:
        mailbox.learn(event) if isinstance(event, Conversation) else mailbox.take(event)
    assert mailbox.participants(TALK) == sorted(last.participants or (), key=lambda each: each.user)


def test_a_conversation_that_was_left_comes_back_by_a_later_version_alone() -> None:
    mailbox = Mailbox(ME)
    mailbox.synced(Synced(1, b"cursor", False))
    mailbox.learn(told(3, person(ME), person(OTHER)))
    mailbox.take(Departed(TALK, [ME], 4))
    assert mailbox.conversations() == []
    mailbox.learn(told(3, person(ME), person(OTHER)))
    assert mailbox.apply([message(1)]) == []
    assert (mailbox.conversations(), mailbox.unknown()) == ([], set())
    mailbox.learn(told(5, person(ME, joined=9), person(OTHER), first_seq=10))
    assert mailbox.conversations() == [TALK]
    assert [each.seq for each in mailbox.apply([message(1), message(10)])] == [10], (
        "a message from before the user joined stays hidden"
    )
    mailbox.take(Departed(TALK, [ME], 4))
    assert mailbox.conversations() == [TALK], "that was before"


def message(seq: int, sender: bytes = OTHER) -> Message:
    return Message(TALK, seq, seq.to_bytes(16), seq, sender, "text", b"x", None, None)


def test_the_status_of_a_message_is_that_of_the_one_who_is_furthest_behind() -> None:
    people = ParticipantList(ME)
    people.take_all([person(ME), person(BOB), person(CEC, joined=5, delivered=5, read=5)], 1)
    assert people.status(6, ME) == "sent"
    people.mark(BOB, 6, 2)
    assert people.status(6, ME) == "sent"
    assert people.status(5, ME) == "delivered", "a participant that joined later does not count"
    people.mark(CEC, 6, 6)
    assert people.status(6, ME) == "delivered"
    people.has_written(BOB, 8)
    assert people.status(6, ME) == "read", "a sender has read up to their own message"
    people.mark(BOB, 1, 1)
    assert people.status(6, ME) == "read", "marks never go back"


def test_a_user_who_has_left_remains_a_recipient_with_the_marks_at_the_end_of_the_stay() -> None:
    """A participant that joins or comes back is not a recipient of messages sent before that."""
    for order in permutations(range(3)):
        mailbox = Mailbox(ME)
        mailbox.learn(told(1, person(ME), person(BOB, delivered=9, read=9), person(CEC, delivered=4, read=3)))
        stay = Stay(CEC, 5, 3, 0, BOB, 7)
        back = person(CEC, since=8, delivered=5, read=3)
        steps = [
            lambda: mailbox.take(Departed(TALK, [CEC], 2, former=[Stay(CEC, None, None, 0, BOB, 7)])),  # noqa: B023
            lambda: mailbox.learn(replace(told(3, person(ME), person(BOB), back), former=[stay])),  # noqa: B023
            lambda: mailbox.take(Departed(TALK, [CEC], 2, former=[stay])),  # noqa: B023
        ]
        for step in order:
            steps[step]()
        statuses = [mailbox.status(message(seq, ME)) for seq in (3, 5, 6, 7, 8, 9)]
        assert statuses == ["read", "delivered", "sent", "sent", "read", "sent"], order
        assert mailbox.former(TALK) == [stay]


def test_where_many_take_part_the_status_goes_by_counts() -> None:
    mailbox = Mailbox(ME)
    mailbox.learn(replace(told(1, person(ME)), participant_count=41))
    for delivered, read, status in ((39, 5, "sent"), (40, 39, "delivered"), (12, 40, "read"), (1, 1, "read")):
        mailbox.take(ReceiptCounts(TALK, [(3, delivered, read, 40)]))
        assert mailbox.status(message(3, ME)) == status


def test_where_many_take_part_nothing_is_shown_of_how_far_a_tombstone_has_come() -> None:
    """The server sends a fresh device no counts of a tombstone, and a device with earlier counts must show the same."""
    mailbox = Mailbox(ME)
    mailbox.learn(replace(told(1, person(ME)), participant_count=41))
    mailbox.take(ReceiptCounts(TALK, [(3, 40, 40, 40)]))
    gone = Tombstone(TALK, 3, b"m" * 16, 1, ME)
    assert (mailbox.status(message(3, ME)), mailbox.counts(message(3, ME))) == ("read", (40, 40))
    assert (mailbox.status(gone), mailbox.counts(gone)) == ("sent", None)


def test_settings_count_by_version_and_the_unread_count_by_the_own_mark() -> None:
    mailbox = Mailbox(ME)
    mailbox.learn(told(2, person(ME, delivered=9, read=4), person(OTHER)))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.name, head.unread_count) == ("v2", 5)
    mailbox.take(Settings(TALK, "old", 1, 1))
    mailbox.take(Settings(TALK, "new", 8, 3, True))
    mailbox.take(Receipts(TALK, None, [(ME, 9, 8)]))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.name, head.joiners_see_all, head.first_seq, head.unread_count) == ("new", True, 8, 1)


GONE = [Tombstone(TALK, seq, b"m" * 16, seq, OTHER) for seq in (3, 5, 8)]


@each_row("order", [*permutations(range(4))])
def test_tombstones_never_count_as_unread_held_or_told_in_any_order(order: tuple[int, ...]) -> None:
    """The mailbox subtracts each tombstone once: 9 messages, read up to 2, four of them deleted, two held here."""
    mailbox = Mailbox(ME)
    steps = [
        lambda: mailbox.learn(replace(told(1, person(ME, read=2)), uncounted_seqs=[3, 4, 8])),
        lambda: mailbox.apply(GONE[:2]),
        lambda: mailbox.apply([GONE[1], message(6, OTHER)]),
        lambda: mailbox.learn(replace(told(1, person(ME, read=2)), uncounted_seqs=[2, 3])),
    ]
    for step in order:
        steps[step]()
    assert unread(mailbox) == 7 - 4
    mailbox.take(Receipts(TALK, None, [(ME, 9, 4)]))
    assert unread(mailbox) == 5 - 2
    mailbox.apply(GONE)
    mailbox.take(Settings(TALK, "v1", 7, 1))
    assert unread(mailbox) == 3 - 1
    mailbox.apply([message(11, OTHER), Tombstone(TALK, 10, b"m" * 16, 1, OTHER)])
    assert unread(mailbox) == 5 - 2


def test_messages_from_before_this_user_joined_do_not_count_though_they_can_be_read() -> None:
    mailbox = Mailbox(ME)
    mailbox.learn(told(1, person(ME, since=7), person(OTHER)))
    assert unread(mailbox) == 2
    mailbox.learn(told(2, person(ME, since=9), person(OTHER)))
    assert unread(mailbox) == 0


NUMBERED = [(3, True, 1), (4, None, 1), (5, True, 2), (6, True, 3), (7, None, 3), (8, True, 4), (9, None, 4)]
"""Seq, whether it is quiet, and how many messages up to it are quiet."""


@each_row("order", [*permutations(range(4))])
def test_quiet_messages_do_not_count_as_unread_held_or_told_of_in_any_order(order: tuple[int, ...]) -> None:
    """The mailbox holds some messages around a read mark; of the others it knows the numbers alone."""
    mailbox = Mailbox(ME)
    known = [replace(message(seq), is_quiet=is_quiet, quiet_count=count) for seq, is_quiet, count in NUMBERED]
    gone = Tombstone(TALK, 8, b"m" * 16, 8, OTHER, True, None, 4)
    steps = [
        lambda: mailbox.learn(replace(told(1, person(ME, read=2)), quiet_counts=[(2, 0), (9, 4)])),
        lambda: mailbox.apply([known[6]]),
        lambda: mailbox.apply([gone]),
        lambda: mailbox.learn(replace(told(1, person(ME, read=2)), quiet_counts=[(2, 0), (9, 4)])),
    ]
    for step in order:
        steps[step]()
    assert unread(mailbox) == 3, "of 7 messages 4 are quiet, and one of these is deleted"
    mailbox.take(Receipts(TALK, DEVICE, [(ME, 9, 5)], [(5, 2)]))
    assert unread(mailbox) == 2
    mailbox.take(Settings(TALK, "v1", 7, 1, quiet_counts=[(6, 3)]))
    assert unread(mailbox) == 2
    mailbox.take(Receipts(TALK, DEVICE, [(ME, 9, 7)]))
    assert unread(mailbox) == 1, "the message after the mark tells it, too"
    quiet = replace(message(10, ME), is_quiet=True, quiet_count=5)
    mailbox.apply([quiet])
    assert unread(mailbox) == 1, "who sends a quiet message has not read the others"
    mailbox.apply([replace(message(11), quiet_count=5), replace(message(12, ME), quiet_count=5)])
    assert unread(mailbox) == 0


def test_a_quiet_message_does_not_make_a_conversation_active() -> None:
    mailbox = Mailbox(ME)
    mailbox.learn(told(1, person(ME)))
    head = mailbox.head(TALK)
    mailbox.apply([replace(message(10), created=99, is_quiet=True, quiet_count=1)])
    assert head is not None
    now = mailbox.head(TALK)
    assert now is not None
    assert (now.active_at, now.last_seq) == (head.active_at, 10)


def unread(mailbox: Mailbox) -> int:
    head = mailbox.head(TALK)
    assert head is not None
    return head.unread_count


def test_where_many_take_part_only_the_own_entry_and_their_number_are_held() -> None:
    """The mailbox drops earlier and late news of the other participants: a fresh device would not have them."""
    mailbox = Mailbox(ME)
    mailbox.learn(told(1, person(ME), person(BOB)))
    mailbox.take(Participants(TALK, [person(CEC)], 2, 33))
    mailbox.take(Participants(TALK, [person(BOB)], 1))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.participants, head.participant_count) == ([person(ME)], 33)
    mailbox.take(Departed(TALK, [BOB], 3))
    mailbox.learn(told(3, person(ME), person(CEC)))
    mailbox.take(Participants(TALK, [person(BOB)], 2, 33))
    head = mailbox.head(TALK)
    assert head is not None
    assert (head.participants, head.participant_count) == ([person(CEC), person(ME)], None)


def test_a_request_that_was_accepted_is_none_again_at_one_version() -> None:
    """A frame accepts the request, or a message that the user wrote on any device, in any order."""
    asked = replace(told(1, person(ME), person(BOB)), is_request=True, asked_by=BOB)
    accepted = told(1, person(ME), person(BOB))
    own = message(10, ME)
    for steps in ([asked, accepted, asked], [asked, own, asked], [accepted, asked], [asked, message(11), own, asked]):
        mailbox = Mailbox(ME)
        for step in steps:
            if isinstance(step, Conversation):
                mailbox.learn(step)
            else:
                mailbox.apply([step])
        head = mailbox.head(TALK)
        assert head is not None
        assert (head.is_request, head.asked_by) == (None, None)
    mailbox.learn(replace(asked, participants_version=2))
    mailbox.apply([message(3, ME), message(12)])
    head = mailbox.head(TALK)
    assert head is not None
    assert head.asked_by == BOB, "a message of the user's from before the request does not accept it"
