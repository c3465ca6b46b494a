"""The sequencer hands on a conversation's messages in order, in whichever order they reach the node."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import sequencer
from server.delivery.sequencer import PATIENCE_S, SequenceGap, Sequencer

TALK, OTHER = b"c" * 16, b"d" * 16


def never(_: float) -> bool:
    return False


def always(_: float) -> bool:
    return True


def head(sequencer: Sequencer[int]) -> int | None:
    span = sequencer.span(TALK)
    return span and span[1]


@dataclass
class Follower:
    """A sequencer, the messages that it handed on for one conversation, and the rules that hold at every moment.

    :ivar early: messages that it handed on from before the beginning.
    """

    sequencer: Sequencer[int] = field(default_factory=Sequencer)
    handed: list[int] = field(default_factory=list)
    early: list[int] = field(default_factory=list)
    first: int | None = None
    now: float = 100.0

    def offer(self, seq: int) -> None:
        if self.first is None:
            self.first = seq
        ready = self.sequencer.offer(TALK, seq, seq, self.now, never)
        if seq < self.first:
            assert ready == ([] if seq in self.early else [seq]), "the client sorts it in; it comes once"
            self.early += ready
        else:
            self.take(ready)

    def give_up(self) -> None:
        self.now += PATIENCE_S
        for gap in self.sequencer.gaps_due(self.now):
            self.take(self.sequencer.skip(gap, self.now))

    def take(self, ready: list[int]) -> None:
        self.handed += ready
        assert self.handed == sorted(set(self.handed)), "messages come in order and once"
        assert head(self.sequencer) == self.handed[-1]

    def begins_at(self) -> int:
        """The first of the messages that the sequencer handed on without a gap before the beginning."""
        assert self.first is not None
        return next(seq for seq in range(self.first, -1, -1) if seq - 1 not in self.early)


steps = st.lists(st.integers(1, 30) | st.just("give up"), min_size=1, max_size=60)


@given(steps)
def test_any_interleaving_is_handed_on_in_order_and_once(steps: list[int | str]) -> None:
    """Messages overtake, repeat, and fill gaps late or never; each is handed on once, upwards from the first."""
    follower = Follower()
    for step in steps:
        if isinstance(step, int):
            follower.offer(step)
        else:
            follower.give_up()
        span = follower.sequencer.span(TALK)
        assert span is None or span[0] == follower.begins_at()


@given(st.permutations(range(2, 20)), st.lists(st.integers(1, 19), max_size=20))
def test_messages_that_come_in_any_order_are_handed_on_in_order_and_once(order: list[int], again: list[int]) -> None:
    follower = Follower()
    follower.offer(1)
    for seq in order:
        follower.offer(seq)
    for seq in again:
        follower.offer(seq)
    assert follower.handed == list(range(1, 20))
    assert not follower.sequencer.has_gaps


@given(st.lists(st.integers(2, 30), min_size=1, max_size=20))
def test_every_hole_is_named_until_all_is_handed_on(seqs: list[int]) -> None:
    """After all gaps are skipped the sequencer has handed on all messages that came: it holds none for ever."""
    follower = Follower()
    follower.offer(1)
    for seq in seqs:
        follower.offer(seq)
    held = sorted(set(seqs) - set(follower.handed))
    while follower.sequencer.has_gaps:
        head = follower.handed[-1]
        follower.now += PATIENCE_S
        assert follower.sequencer.gaps_due(follower.now) == [SequenceGap(TALK, head, held[0])]
        follower.take(follower.sequencer.skip(SequenceGap(TALK, head, held[0]), follower.now))
        held = sorted(set(seqs) - set(follower.handed))
    assert not held


def test_a_hole_is_due_after_patience_and_again_only_after_as_long() -> None:
    """Otherwise each message behind a gap would fetch it again."""
    sequencer: Sequencer[int] = Sequencer()
    for seq in (1, 3, 7):
        sequencer.offer(TALK, seq, seq, 0.0, never)
    assert sequencer.gaps_due(PATIENCE_S * 0.9) == []
    assert sequencer.gaps_due(PATIENCE_S) == [SequenceGap(TALK, 1, 3)]
    assert sequencer.gaps_due(PATIENCE_S * 1.9) == []
    assert sequencer.gaps_due(PATIENCE_S * 2) == [SequenceGap(TALK, 1, 3)]


def test_a_hole_that_was_filled_meanwhile_is_not_skipped() -> None:
    """The fetch of a gap takes a while; messages that fill it meanwhile must not be handed on twice or skipped."""
    sequencer: Sequencer[int] = Sequencer()
    sequencer.offer(TALK, 1, 1, 0.0, never)
    sequencer.offer(TALK, 3, 3, 0.0, never)
    [gap] = sequencer.gaps_due(PATIENCE_S)
    assert sequencer.offer(TALK, 2, 2, 0.0, never) == [2, 3]
    assert sequencer.offer(TALK, 5, 5, 0.0, never) == []
    assert sequencer.skip(gap, 1.0) == []
    assert head(sequencer) == 3
    assert sequencer.offer(TALK, 4, 4, 0.0, never) == [4, 5]


def test_gaps_of_several_conversations_are_named_apart() -> None:
    sequencer: Sequencer[int] = Sequencer()
    for talk, seqs in ((TALK, (1, 3)), (OTHER, (5, 9))):
        for seq in seqs:
            sequencer.offer(talk, seq, seq, 0.0, never)
    assert set(sequencer.gaps_due(PATIENCE_S)) == {SequenceGap(TALK, 1, 3), SequenceGap(OTHER, 5, 9)}


def test_a_gap_from_before_all_recipients_connected_begins_a_new_order() -> None:
    """All recipients connected after the last message, so they fetch the earlier ones themselves."""
    sequencer: Sequencer[int] = Sequencer()
    asked: list[float] = []
    sequencer.offer(TALK, 1, 1, 5.0, never)
    assert sequencer.offer(TALK, 9, 9, 7.0, lambda at: asked.append(at) or True) == [9]  # type: ignore[func-returns-value]
    assert asked == [5.0]
    assert not sequencer.has_gaps
    assert head(sequencer) == 9
    assert sequencer.offer(TALK, 5, 5, 7.0, never) == [5], (
        "a message from before the beginning is handed on as it comes"
    )
    assert sequencer.offer(TALK, 9, 9, 7.0, never) == []


def test_a_new_beginning_does_not_leave_held_messages_behind() -> None:
    """A connected recipient still waits for the held message."""
    sequencer: Sequencer[int] = Sequencer()
    sequencer.offer(TALK, 1, 1, 0.0, never)
    sequencer.offer(TALK, 3, 3, 0.0, never)
    assert sequencer.offer(TALK, 5, 5, 0.0, always) == []
    assert sequencer.offer(TALK, 2, 2, 0.0, always) == [2, 3]


def test_the_sequencer_does_not_ask_for_staleness_while_messages_come_in_order() -> None:
    sequencer: Sequencer[int] = Sequencer()

    def fail(_: float) -> bool:
        raise AssertionError

    assert [sequencer.offer(TALK, seq, seq, 0.0, fail) for seq in (4, 5, 5, 3)] == [[4], [5], [], [3]]


def test_the_quietest_conversation_is_forgotten_with_its_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequencer drops the held messages of that conversation; its order begins again at the next message."""
    monkeypatch.setattr(sequencer, "MAX_CONVERSATIONS", 3)
    following: Sequencer[int] = Sequencer()
    talks = [bytes([n]) * 16 for n in range(5)]
    following.offer(talks[0], 1, 1, 0.0, never)
    following.offer(talks[0], 3, 3, 0.0, never)
    for talk in talks[1:3]:
        following.offer(talk, 1, 1, 0.0, never)
    following.offer(talks[1], 2, 2, 0.0, never)
    assert not following.has_forgotten
    following.offer(talks[3], 1, 1, 0.0, never)
    assert following.has_forgotten
    assert [following.follows(talk) for talk in talks] == [False, True, True, True, False]
    assert not following.has_gaps
    assert following.gaps_due(10.0) == []
    following.offer(talks[4], 1, 1, 0.0, never)
    assert [following.follows(talk) for talk in talks] == [False, True, False, True, True], (
        "the conversation that was quiet longest goes"
    )
    assert following.offer(talks[0], 9, 9, 0.0, never) == [9]


def test_a_hole_with_too_much_behind_it_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "MAX_HELD", 3)
    following: Sequencer[int] = Sequencer()
    for seq in (1, 3, 4):
        following.offer(TALK, seq, seq, 0.0, never)
    assert following.gaps_due(0.0) == []
    following.offer(TALK, 5, 5, 0.0, never)
    assert following.gaps_due(0.0) == [SequenceGap(TALK, 1, 3)]


def test_messages_that_a_caller_has_handed_on_from_before_the_beginning_belong_to_the_span() -> None:
    sequencer: Sequencer[int] = Sequencer()
    assert [sequencer.offer(TALK, seq, seq, 0.0, never) for seq in (9, 4, 6)] == [[9], [4], [6]]
    sequencer.join(TALK, 6, 8)
    assert sequencer.span(TALK) == (9, 9), "8 has not been handed on"
    sequencer.join(TALK, 6, 9)
    assert sequencer.span(TALK) == (6, 9), "6 was handed on before it belonged to the span"
    sequencer.join(TALK, 7, 9)
    assert sequencer.span(TALK) == (6, 9), "a span that reaches further back stays as it is"
    assert [sequencer.offer(TALK, seq, seq, 0.0, never) for seq in (8, 4, 5)] == [[], [], [5]]
    assert sequencer.span(TALK) == (4, 9)
    sequencer.join(OTHER, 1, 5)
    assert sequencer.span(OTHER) is None


def test_a_conversation_is_followed_from_where_the_caller_begins() -> None:
    """A message that comes live is held until the caller has handed on those before it."""
    sequencer: Sequencer[int] = Sequencer()
    assert sequencer.follow(TALK, 3, 0.0) == sequencer.span(TALK) == (4, 3)
    assert sequencer.offer(TALK, 6, 6, 0.0, never) == []
    assert sequencer.offer(TALK, 4, 4, 0.0, never) == [4]
    assert sequencer.follow(TALK, 9, 0.0) == (4, 4), "it was followed already"
    assert sequencer.offer(TALK, 5, 5, 0.0, never) == [5, 6]


def test_messages_that_are_passed_over_are_not_waited_for_and_held_ones_are_handed_on() -> None:
    sequencer: Sequencer[int] = Sequencer()
    assert [sequencer.offer(TALK, seq, seq, 0.0, never) for seq in (1, 3, 6, 8)] == [[1], [], [], []]
    assert sequencer.pass_over(TALK, 5, 0.0) == [3, 6]
    assert sequencer.span(TALK) == (1, 6)
    assert sequencer.pass_over(TALK, 5, 0.0) == []
    assert sequencer.offer(TALK, 4, 4, 0.0, never) == []
    assert sequencer.offer(TALK, 7, 7, 0.0, never) == [7, 8]
    assert not sequencer.has_gaps
    assert sequencer.pass_over(OTHER, 5, 0.0) == []
