"""Puts each conversation's messages in `seq` order.

Messages of one conversation come by several ways (committed here, from other nodes, fetched after an outage) and may
overtake each other. The sequencer hands on each message once, in order. The hub offers it a message only if a
recipient is connected here, so the sequencer follows a conversation only while it is active:

- The sequencer hands on the first message that it sees of a conversation; the order begins there.
- It holds a later message behind a gap until the gap is filled. The caller fetches a gap that lasts (`gaps_due`).
- It hands on a message from before the beginning at once: the client sorts it in, or has it already. Once such messages
  adjoin the beginning, the order begins with them.
- If all recipients connected after the last message, it skips the gap, and the order begins at the new message
  (`is_stale`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE_S: Final = 0.25
"""How long the sequencer holds a message for an earlier one. A message takes a millisecond through Redis; if it takes
this long, the node that committed it is in trouble."""

MAX_CONVERSATIONS: Final = 100_000
"""Conversations that are followed; about 300 bytes each. The sequencer forgets the one that was quiet the longest."""

MAX_HELD: Final = 1000
"""Messages held in one conversation; with this many its gap is due at once."""


class SequenceGap(NamedTuple):
    """The missing messages: `after < seq < before`."""

    conversation: bytes
    after: int
    before: int


class _Track(Generic[T]):
    """All messages from `first` to `head` have been handed on; it is empty while `head` is `first` - 1.

    :ivar early: messages that were handed on from before `first`, and do not adjoin it.
    """

    __slots__ = ("early", "first", "gap_since", "head", "held", "last_at")

    def __init__(self, first: int, head: int, now: float) -> None:
        self.restart(first, head, now)

    def restart(self, first: int, head: int, now: float) -> None:
        self.first = first
        self.head = head
        self.last_at = now
        self.gap_since = 0.0
        self.held: dict[int, T] = {}
        self.early: frozenset[int] = frozenset()

    def note_early(self, seq: int) -> None:
        if len(self.early) < MAX_HELD:
            self.early |= {seq}
        self._begin_at(self.first)

    def begin_after(self, seq: int) -> None:
        self._begin_at(min(self.first, seq + 1))

    def _begin_at(self, first: int) -> None:
        while first - 1 in self.early:
            first -= 1
        self.first = first
        self.early = frozenset(seq for seq in self.early if seq < first)


class Sequencer(Generic[T]):
    """Puts messages in order. All methods are synchronous, so each is atomic under Trio."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[bytes, _Track[T]] = OrderedDict()
        self._with_gaps: set[bytes] = set()
        self.has_forgotten = False
        """Whether the sequencer has dropped a conversation because it followed too many. From then on a conversation
        that it does not follow may have been handed on before."""

    def offer(self, conversation: bytes, seq: int, item: T, now: float, is_stale: Callable[[float], bool]) -> list[T]:
        """A message has come: return the messages that can be handed on now, in order.

        :param is_stale: called if there is a gap, with the time at which the last message was handed on; returns
            whether all recipients of the new message connected after it.
        """
        track = self._tracks.get(conversation)
        if track is None:
            self._follow(conversation, _Track(seq, seq, now))
            return [item]
        self._tracks.move_to_end(conversation)
        if seq == track.head + 1:
            track.head = seq
            track.last_at = now
            return [item, *self._drain(conversation, track)] if track.held else [item]
        if seq < track.first:
            if seq in track.early:
                return []
            track.note_early(seq)
            return [item]
        if seq <= track.head:
            return []
        if not track.held and is_stale(track.last_at):
            track.restart(seq, seq, now)
            return [item]
        if not track.held:
            track.gap_since = now
            self._with_gaps.add(conversation)
        track.held[seq] = item
        return []

    def span(self, conversation: bytes) -> tuple[int, int] | None:
        """The first and the last seq that were handed on without a gap; None if the conversation is not followed."""
        track = self._tracks.get(conversation)
        return (track.first, track.head) if track else None

    def follow(self, conversation: bytes, after: int, now: float) -> tuple[int, int]:
        """Follow the conversation, unless it is followed already: its order then begins after the seq `after`. Return
        its span, which is empty then."""
        track = self._tracks.get(conversation)
        if track is None:
            track = self._follow(conversation, _Track(after + 1, after, now))
        return track.first, track.head

    def join(self, conversation: bytes, after: int, before: int) -> None:
        """The messages with `after < seq < before` have been handed on, or never will be: if the span begins at
        `before` or earlier, it begins after `after` now."""
        track = self._tracks.get(conversation)
        if track is not None and track.first <= before:
            track.begin_after(after)

    def follows(self, conversation: bytes) -> bool:
        return conversation in self._tracks

    def gaps_due(self, now: float) -> list[SequenceGap]:
        """Gaps that have lasted for `PATIENCE_S`, or hold back `MAX_HELD` messages. A gap that lasts is returned again
        after another `PATIENCE_S`."""
        due = []
        for conversation in self._with_gaps:
            track = self._tracks[conversation]
            if now - track.gap_since >= PATIENCE_S or len(track.held) >= MAX_HELD:
                track.gap_since = now
                due.append(SequenceGap(conversation, track.head, min(track.held)))
        return due

    def skip(self, gap: SequenceGap, now: float) -> list[T]:
        """The gap cannot be filled: return the messages that were held behind it."""
        track = self._tracks.get(gap.conversation)
        return self.pass_over(gap.conversation, gap.before - 1, now) if track is not None and track.held else []

    def pass_over(self, conversation: bytes, upto: int, now: float) -> list[T]:
        """The missing messages up to `upto` are not waited for: return those that were held behind them, in order."""
        track = self._tracks.get(conversation)
        if track is None or track.head >= upto:
            return []
        ready = [track.held.pop(seq) for seq in sorted(track.held) if seq <= upto]
        track.head = upto
        track.last_at = now
        return ready + self._drain(conversation, track)

    @property
    def has_gaps(self) -> bool:
        return bool(self._with_gaps)

    def _follow(self, conversation: bytes, track: _Track[T]) -> _Track[T]:
        self._tracks[conversation] = track
        if len(self._tracks) > MAX_CONVERSATIONS:
            self.has_forgotten = True
            forgotten, _ = self._tracks.popitem(last=False)
            self._with_gaps.discard(forgotten)
        return track

    def _drain(self, conversation: bytes, track: _Track[T]) -> list[T]:
        ready = []
        while track.head + 1 in track.held:
            track.head += 1
            ready.append(track.held.pop(track.head))
        if not track.held:
            self._with_gaps.discard(conversation)
        return ready
