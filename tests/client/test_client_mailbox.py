from __future__ import annotations

from client_world import GROUP, TALK, message
from hypothesis import given, settings
from hypothesis import strategies as st

from client.mailbox import MAX_ASIDE, Hole, Mailbox
from protocol.frames import Message


def talk(*seqs: int) -> list[Message]:
    return [message(TALK, seq) for seq in seqs]


def apply(mailbox: Mailbox, *seqs: int) -> list[int]:
    """What became readable by these."""
    return [readable.seq for seq in seqs for readable in mailbox.apply(message(TALK, seq))]


def fetch(mailbox: Mailbox, world: dict[bytes, list[Message]], first_seq: dict[bytes, int], page: int) -> None:
    """What a client does about what is missing."""
    while not mailbox.is_complete:
        for conversation in mailbox.unknown():
            mailbox.learn(conversation, first_seq[conversation], len(world[conversation]))
        for hole in mailbox.holes():
            for held in [held for held in world[hole.conversation] if held.seq > hole.after_seq][:page]:
                mailbox.apply(held)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[dict[bytes, int], dict[bytes, int], list[Message | bytes]]:
    """How long each conversation is, where one's own part of it begins, and what reaches the device in what order:
    messages, any number of times or never, and looks at the list of conversations."""
    lengths = {TALK: draw(st.integers(0, 8)), GROUP: draw(st.integers(0, 8))}
    first_seq = {key: draw(st.integers(1, length + 1)) for key, length in lengths.items()}
    every = [message(key, seq) for key, length in lengths.items() for seq in range(first_seq[key], length + 1)]
    steps = st.sampled_from([*every, TALK, GROUP])
    return lengths, first_seq, draw(st.lists(steps, max_size=40))


@settings(deadline=None)  # a busy machine is no fault
@given(deliveries(), st.integers(1, 10))
def test_any_order_any_duplicates_any_loss_and_a_fetch_equal_the_whole(
    case: tuple[dict[bytes, int], dict[bytes, int], list[Message | bytes]], page: int
) -> None:
    lengths, first_seq, steps = case
    world = {key: [message(key, seq) for seq in range(1, length + 1)] for key, length in lengths.items()}
    mailbox = Mailbox()
    readable: list[Message] = []
    for step in steps:
        if isinstance(step, bytes):
            readable += mailbox.learn(step, first_seq[step], lengths[step])
        else:
            readable += mailbox.apply(step)
        # What may be read never has a hole, at no time.
        for key in lengths:
            seqs = [held.seq for held in mailbox.messages(key)]
            assert seqs == list(range(first_seq[key], first_seq[key] + len(seqs)))
    assert mailbox.log == readable

    for key in lengths:
        mailbox.learn(key, first_seq[key], lengths[key])
    fetch(mailbox, world, first_seq, page)

    for key in lengths:
        assert list(mailbox.messages(key)) == world[key][first_seq[key] - 1 :]
        assert [held for held in mailbox.log if held.conversation == key] == mailbox.messages(key)
    assert dict(mailbox.marks_due()) == {key: lengths[key] for key in lengths if lengths[key] >= first_seq[key]}


@settings(deadline=None)  # a busy machine is no fault
@given(st.permutations(range(1, 9)))
def test_the_first_message_of_all_needs_no_look_up(order: list[int]) -> None:
    mailbox = Mailbox()
    assert sorted(apply(mailbox, *order)) == list(range(1, 9))
    assert mailbox.is_complete


def test_what_comes_too_early_waits_and_the_hole_says_what_to_fetch() -> None:
    mailbox = Mailbox()
    assert apply(mailbox, 1, 5, 4) == [1]
    assert mailbox.holes() == [Hole(TALK, 1, 3)]
    assert apply(mailbox, 2) == [2]
    assert mailbox.holes() == [Hole(TALK, 2, 3)]
    assert apply(mailbox, 3) == [3, 4, 5]
    assert mailbox.holes() == []


def test_a_list_that_is_ahead_makes_a_hole() -> None:
    mailbox = Mailbox()
    mailbox.learn(TALK, 3, 7)
    assert mailbox.holes() == [Hole(TALK, 2, 7)]
    assert mailbox.up_to(TALK) == 2


def test_an_empty_conversation_has_no_hole() -> None:
    mailbox = Mailbox()
    mailbox.learn(TALK, 1, 0)
    assert mailbox.is_complete
    assert mailbox.marks_due() == []


def test_an_unknown_conversation_has_to_be_looked_up_before_it_has_holes() -> None:
    mailbox = Mailbox()
    assert apply(mailbox, 7) == []
    assert (mailbox.unknown(), mailbox.holes(), mailbox.is_complete) == ([TALK], [], False)
    assert mailbox.learn(TALK, 7, 7) == talk(7)
    assert mailbox.is_complete


def test_a_floor_that_rises_jumps_over_what_may_not_be_read_and_keeps_what_is_held() -> None:
    mailbox = Mailbox()
    apply(mailbox, 1, 2)
    apply(mailbox, 9)
    assert mailbox.learn(TALK, 8, 9) == []
    assert apply(mailbox, 8) == [8, 9]
    assert [held.seq for held in mailbox.messages(TALK)] == [1, 2, 8, 9]


def test_a_floor_never_falls() -> None:
    mailbox = Mailbox()
    mailbox.learn(TALK, 5, 5)
    mailbox.learn(TALK, 1, 5)
    assert mailbox.holes() == [Hole(TALK, 4, 5)]
    assert apply(mailbox, 3, 5) == [5]


def test_more_than_fits_aside_is_let_go_and_still_known_to_be_missing() -> None:
    mailbox = Mailbox()
    apply(mailbox, *range(MAX_ASIDE + 10, 1, -1))
    assert apply(mailbox, 1) == [1]
    assert not mailbox.is_complete
    fetch(mailbox, {TALK: talk(*range(1, MAX_ASIDE + 11))}, {TALK: 1}, 100)
    assert mailbox.up_to(TALK) == MAX_ASIDE + 10


def test_giving_up_what_is_missing_keeps_what_is_held() -> None:
    mailbox = Mailbox()
    apply(mailbox, 1, 4)
    mailbox.forget_missing(TALK)
    assert mailbox.is_complete
    assert apply(mailbox, 2) == [2]
    mailbox.apply(message(GROUP, 5))
    mailbox.forget_missing(GROUP)
    assert mailbox.is_complete


def test_marks_are_due_once_until_more_is_held() -> None:
    mailbox = Mailbox()
    apply(mailbox, 1, 2, 4)
    assert mailbox.marks_due() == [(TALK, 2)]
    apply(mailbox, 3)
    mailbox.marked([(TALK, 2)])
    assert mailbox.marks_due() == [(TALK, 4)]
    mailbox.marked([(TALK, 4)])
    assert mailbox.marks_due() == []
    apply(mailbox, 1, 4)
    assert mailbox.marks_due() == []


def test_no_more_marks_are_due_at_once_than_asked_for() -> None:
    mailbox = Mailbox()
    for number in range(5):
        mailbox.apply(message(bytes([number]) * 16, 1))
    first = mailbox.marks_due(3)
    mailbox.marked(first)
    assert len(first) == 3
    assert len(mailbox.marks_due(3)) == 2
