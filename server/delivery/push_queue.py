"""Pushes that wait, in turn by the user who caused them, and in order within each conversation.

Each cause has a line. A turn goes from line to line, and each turn lets a line save a quantum of cost; a line whose
savings cover its first push hands that push on (deficit round robin, Shreedhar and Varghese 1995, with one push a
turn). So a line of many or large pushes waits behind itself, not before all others.

While a conversation has a push in a line, its later pushes join that line, whoever causes them: clients get the pushes
of one conversation in order.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from store.redis.entries import AddressedPush

_NONE: Final = bytes(16)
"""The conversation of pushes that belong to none, such as profiles: each cause keeps their order by itself."""


class WaitingPush(NamedTuple):
    """A push, its cost, and when it was queued, in seconds by Trio's clock."""

    push: AddressedPush
    cost: int
    queued_at: float


class _Line:
    __slots__ = ("cause", "cost", "pushes", "saved")

    def __init__(self, cause: bytes) -> None:
        self.cause = cause
        self.pushes: deque[WaitingPush] = deque()
        self.saved = 0
        self.cost = 0


class _Place:
    """The line that a conversation's pushes wait in, and how many do."""

    __slots__ = ("count", "line")

    def __init__(self, line: _Line) -> None:
        self.line = line
        self.count = 0


class PushQueue:
    """All methods are synchronous, so each is atomic under Trio.

    :param quantum: the cost that a line saves in each turn: about that of a usual push.
    :ivar cost: of all pushes that wait.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._turns: deque[_Line] = deque()
        self._lines: dict[bytes, _Line] = {}
        self._places: dict[bytes, _Place] = {}
        self._count = 0
        self.cost = 0

    def __len__(self) -> int:
        return self._count

    def must_follow(self, push: AddressedPush) -> bool:
        """Whether earlier pushes of the same conversation, or the same cause, wait."""
        return push.cause in self._lines or _order_of(push) in self._places

    def put(self, push: AddressedPush, cost: int, now: float) -> None:
        order = _order_of(push)
        place = self._places.get(order)
        if place is None:
            line = self._lines.get(push.cause)
            if line is None:
                self._lines[push.cause] = line = _Line(push.cause)
                self._turns.append(line)
            self._places[order] = place = _Place(line)
        place.count += 1
        place.line.pushes.append(WaitingPush(push, cost, now))
        place.line.cost += cost
        self._count += 1
        self.cost += cost

    def take(self, most: int, cost: int) -> list[WaitingPush]:
        """The pushes whose turn it is: at most so many, and none after this cost is reached."""
        taken: list[WaitingPush] = []
        while self._turns and most > 0 and cost > 0:
            line = self._turns[0]
            line.saved += self._quantum
            self._turns.rotate(-1)
            first = line.pushes[0]
            # A line that is alone need not save.
            if first.cost <= line.saved or len(self._turns) == 1:
                line.saved = 0
                most -= 1
                cost -= first.cost
                taken.append(self._pop(line))
                if not line.pushes:
                    del self._lines[line.cause]
                    self._turns.pop()
        return taken

    def drop_longest(self) -> list[WaitingPush]:
        """Take out the line with the greatest cost."""
        line = max(self._lines.values(), key=lambda line: line.cost)
        dropped = [self._pop(line) for _ in range(len(line.pushes))]
        del self._lines[line.cause]
        self._turns.remove(line)
        return dropped

    def oldest_at(self) -> float | None:
        """When the push was queued that has waited for longest; None if none waits."""
        return min((line.pushes[0].queued_at for line in self._turns), default=None)

    def _pop(self, line: _Line) -> WaitingPush:
        waiting = line.pushes.popleft()
        line.cost -= waiting.cost
        order = _order_of(waiting.push)
        place = self._places[order]
        place.count -= 1
        if not place.count:
            del self._places[order]
        self._count -= 1
        self.cost -= waiting.cost
        return waiting


def _order_of(push: AddressedPush) -> bytes:
    return push.conversation if push.conversation != _NONE else push.cause
