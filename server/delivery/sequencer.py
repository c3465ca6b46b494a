"""Each conversation's messages in `seq` order, however they reach this node.

Messages of one conversation come by several ways (committed here, from other nodes, fetched after an outage) and may
overtake each other. `Sequencer` hands them on in order and once. It is told of a message only if somebody here may get
it, so it follows a conversation only while it is active; what it does not know it does not hold back:

- the first message of a conversation that it sees is handed on; order begins there;
- a later one that leaves a gap is held until the gap is filled. A gap that lasts is fetched (`gaps_due`);
- one from before the beginning is handed on as it comes: the client sorts it in, or knows it;
- a gap that nobody who is connected now can have missed is no gap: order begins anew (`is_stale`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

PATIENCE_S: Final = 0.25
"""How long a message may be held for an earlier one. Through Redis it takes a millisecond; if it takes this long, the
node that had it is in trouble."""

MAX_CONVERSATIONS: Final = 100_000
"""That are followed; about 300 bytes each. The one that was quiet the longest is forgotten."""

MAX_HELD: Final = 1000
"""Messages held in one conversation; then its gap is due at once."""


class Gap(NamedTuple):
    """What is missing: `after < seq < before`."""

    conversation: bytes
    after: int
    before: int


class _Track(Generic[T]):
    __slots__ = ("first", "gap_since", "head", "held", "last_at")

    def __init__(self, seq: int, now: float) -> None:
        self.restart(seq, now)

    def restart(self, seq: int, now: float) -> None:
        self.first = self.head = seq
        self.last_at = now
        self.gap_since = 0.0
        self.held: dict[int, T] = {}


class Sequencer(Generic[T]):
    """Puts messages in order. All methods are synchronous, so each is atomic under Trio."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[bytes, _Track[T]] = OrderedDict()
        self._with_gaps: set[bytes] = set()
        self.has_forgotten = False
        """Some conversation, since there were too many: of one that is not followed nothing is known any more."""

    def offer(self, conversation: bytes, seq: int, item: T, now: float, is_stale: Callable[[float], bool]) -> list[T]:
        """A message has come; what can be handed on now, in order.

        :param is_stale: asked, where there is a gap, with the time of the last message that was handed on: whether
            nobody who gets the new one was connected then.
        """
        track = self._tracks.get(conversation)
        if track is None:
            self._follow(conversation, seq, now)
            return [item]
        self._tracks.move_to_end(conversation)
        if seq == track.head + 1:
            track.head = seq
            track.last_at = now
            return [item, *self._drain(conversation, track)] if track.held else [item]
        if seq <= track.head:
            return [item] if seq < track.first else []
        if not track.held and is_stale(track.last_at):
            track.restart(seq, now)
            return [item]
        if not track.held:
            track.gap_since = now
            self._with_gaps.add(conversation)
        track.held[seq] = item
        return []

    def span(self, conversation: bytes) -> tuple[int, int] | None:
        """The first and the last message that were handed on without a gap; None if it is not followed."""
        track = self._tracks.get(conversation)
        return (track.first, track.head) if track else None

    def begin_at(self, conversation: bytes, seq: int) -> None:
        """Everything from `seq` to where order began has been handed on, too."""
        track = self._tracks.get(conversation)
        if track is not None:
            track.first = min(track.first, seq)

    def follows(self, conversation: bytes) -> bool:
        return conversation in self._tracks

    def gaps_due(self, now: float) -> list[Gap]:
        """Holes that have lasted; each is named again only after as long again."""
        due = []
        for conversation in self._with_gaps:
            track = self._tracks[conversation]
            if now - track.gap_since >= PATIENCE_S or len(track.held) >= MAX_HELD:
                track.gap_since = now
                due.append(Gap(conversation, track.head, min(track.held)))
        return due

    def skip(self, gap: Gap, now: float) -> list[T]:
        """The gap cannot be filled; what was held behind it."""
        track = self._tracks.get(gap.conversation)
        if track is None or not track.held or track.head >= gap.before - 1:
            return []
        track.head = gap.before - 1
        track.last_at = now
        return self._drain(gap.conversation, track)

    def forget(self, conversation: bytes) -> None:
        """Begin anew with the next message."""
        self._tracks.pop(conversation, None)
        self._with_gaps.discard(conversation)

    @property
    def has_gaps(self) -> bool:
        return bool(self._with_gaps)

    def _follow(self, conversation: bytes, seq: int, now: float) -> None:
        self._tracks[conversation] = _Track(seq, now)
        if len(self._tracks) > MAX_CONVERSATIONS:
            self.has_forgotten = True
            forgotten, _ = self._tracks.popitem(last=False)
            self._with_gaps.discard(forgotten)

    def _drain(self, conversation: bytes, track: _Track[T]) -> list[T]:
        ready = []
        while track.head + 1 in track.held:
            track.head += 1
            ready.append(track.held.pop(track.head))
        if not track.held:
            self._with_gaps.discard(conversation)
        return ready
