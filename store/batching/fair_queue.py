"""A bounded, fair queue: a source that queues much, or large items, waits behind itself, not before all others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from store.errors import Overloaded

Item = TypeVar("Item")

MAX_ROWS: Final = 512
"""Items of one commit; beyond about 256 the cost per row stays the same and only latency grows."""

MAX_BYTES: Final = 512 * 1024
"""Payload of one commit: 8 of the largest messages, or 512 of 1 KB. Half of a connection's outbox, since all of it may
be for one reader."""

MAX_QUEUED: Final = 20_000
"""Items that wait. At 10,000 committed rows a second: 2 s, the longest that a sender should wait for an ack."""

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""Their payload: a thousand of the largest messages."""


QUANTUM: Final = 4096
"""Bytes that a source saves in each turn (deficit round robin): sources of small items have one each per turn, and a
source of items of 64 KiB has one in 16 turns."""

MAX_SOURCE_BYTES: Final = 128 * 1024
"""Payload of one source in a commit: the others, whose items come during the commit, wait for it."""


class _Source(Generic[Item]):
    """The items of one source, the bytes that it has saved for the first, and the bytes that its latest commit took."""

    __slots__ = ("commit", "items", "saved", "taken")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.saved = 0
        self.commit = 0
        self.taken = 0


class FairQueue(Generic[Item]):
    """Items in turn from each source, large ones less often; those of one source in the order of their arrival.

    All methods are synchronous, so each is atomic under Trio.

    :param name: for messages to operators.
    :param size_of: bytes of an item, for the bounds.
    :param source_of: the source of an item, such as a user.
    """

    def __init__(self, name: str, size_of: Callable[[Item], int], source_of: Callable[[Item], Hashable]) -> None:
        self._name = name
        self._size_of = size_of
        self._source_of = source_of
        self._turns: deque[_Source[Item]] = deque()
        self._of_source: dict[Hashable, _Source[Item]] = {}
        self._rows = 0
        self._bytes = 0
        self._commits = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, item: Item) -> None:
        """
        :raises Overloaded: if `MAX_QUEUED` items or `MAX_QUEUED_BYTES` wait already; the item was not taken.
        """
        if self._rows >= MAX_QUEUED or self._bytes >= MAX_QUEUED_BYTES:
            raise Overloaded(self._name, self._rows)
        source = self._source_of(item)
        waiting = self._of_source.get(source)
        if waiting is None:
            self._of_source[source] = waiting = _Source()
            self._turns.append(waiting)
        waiting.items.append(item)
        self._rows += 1
        self._bytes += self._size_of(item)

    def take(self, diverted: Callable[[Item], bool]) -> list[Item]:
        """Items for one commit: at most `MAX_ROWS`, and no more after `MAX_BYTES` are reached; of one source, no more
        after `MAX_SOURCE_BYTES`.

        :param diverted: asked for each item; true if another queue has taken it.
        """
        batch: list[Item] = []
        served: list[_Source[Item]] = []
        size, turns, size_of = 0, self._turns, self._size_of
        self._commits += 1
        while turns and len(batch) < MAX_ROWS and size < MAX_BYTES:
            waiting = turns.popleft()
            bytes_ = size_of(waiting.items[0])
            waiting.saved += QUANTUM
            if bytes_ > waiting.saved and turns:
                turns.append(waiting)
                continue
            item = waiting.items.popleft()
            waiting.saved = 0
            if waiting.commit != self._commits:
                waiting.commit, waiting.taken = self._commits, 0
            self._rows -= 1
            self._bytes -= bytes_
            if not diverted(item):
                size += bytes_
                waiting.taken += bytes_
                batch.append(item)
            if not waiting.items:
                del self._of_source[self._source_of(item)]
            elif waiting.taken < MAX_SOURCE_BYTES:
                turns.append(waiting)
            else:
                served.append(waiting)
        turns.extend(served)
        return batch
