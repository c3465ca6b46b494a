"""Limits on each client's connections and its requests per second, and on the connections that are being admitted.

Every decision is synchronous and O(1): no task interrupts it, and its cost does not grow with the number of clients.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import trio

_Key = TypeVar("_Key", bound=Hashable)

_LONG_AGO: Final = -math.inf
"""One object for all unused buckets; `-math.inf` in their constructor would make one for each."""


_ROUNDING_S: Final = 1e-6
"""More than the rounding error of thousands of additions to a clock's reading."""


ADDRESS_RETRY_AFTER_S: Final = 60
"""Retry-After of the answer to an address that has too many connections."""

UNWELCOMED_AT_ONCE: Final = 400
UNWELCOMED_PER_S: Final = 20
"""Connections of an address that end before a hello is accepted, beside those that it may have at the same time. Each
costs handshakes and the look-up of a token; requests without a good token have the same limit over HTTP."""


class ConnectionCounts(Generic[_Key]):
    """How many connections each key (an address, a user) has here; keys without connections take no memory.

    :param max_each: connections of one key.
    """

    __slots__ = ("_counts", "_max_each")

    def __init__(self, max_each: int) -> None:
        self._max_each = max_each
        self._counts: dict[_Key, int] = {}

    def __len__(self) -> int:
        """Keys that have a connection."""
        return len(self._counts)

    def enter(self, key: _Key) -> bool:
        """Count a connection; false if the key has its maximum: then the caller must not call `leave`."""
        count = self._counts.get(key, 0)
        if count >= self._max_each:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: _Key) -> None:
        """Count a connection less, once for each `enter` that was true. One call more is a bug, and a KeyError."""
        count = self._counts[key]
        if count == 1:
            del self._counts[key]
        else:
            self._counts[key] = count - 1


class AdmissionGate(Generic[_Key]):
    """Holds new connections back while too many are being admitted. Each is being admitted until `leave`, or for
    `patience_s`.

    :param most: connections that are admitted at once.
    :param patience_s: after this a connection that is still being admitted no longer holds up others.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._since: OrderedDict[_Key, float] = OrderedDict()
        self._opened: trio.Event | None = None

    def __len__(self) -> int:
        """Connections that are being admitted."""
        return len(self._since)

    def enter(self, connection: _Key) -> None:
        """The connection is being admitted. Never waits, even beyond `most`. Atomic (no checkpoint)."""
        self._since[connection] = trio.current_time()

    def leave(self, connection: _Key) -> None:
        """The connection is admitted, or gone; does nothing if it was not counted. Atomic (no checkpoint)."""
        self._since.pop(connection, None)
        if self._opened is not None and len(self._since) < self._most:
            self._opened.set()
            self._opened = None

    async def wait_open(self) -> None:
        """Return once another connection may be admitted."""
        while len(self._since) >= self._most:
            if self._opened is None:
                self._opened = trio.Event()
            await self._opened.wait()

    async def run(self) -> None:
        """Stop counting connections that have been in admission for longer than `patience_s`, until cancelled."""
        while True:
            await trio.sleep(self._patience_s / 4)
            before = trio.current_time() - self._patience_s
            while self._since and self._since[oldest := next(iter(self._since))] < before:
                self.leave(oldest)


class Rate:
    """The rate that the buckets of one kind allow; one object for all of them.

    :param per_s: requests per second in the long run, more than 0.
    :param burst: requests at once after a rest, at least 1.
    """

    __slots__ = ("interval_s", "slack_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self.interval_s = 1 / per_s
        self.slack_s = (burst - 1) / per_s


class TokenBucket:
    """A bucket that holds `burst` tokens at most, is full at first, and gains `per_s` tokens a second.

    Instead of its tokens and the time of their count, the bucket keeps one float: the time at which it will be full
    again (the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("_full_at", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at = _LONG_AGO

    def take(self, now: float) -> float:
        """Take a token if there is one.

        :param now: in seconds, of any clock that does not go back.
        :returns: 0.0 if a token was taken; else in how many seconds there will be one (round up).
        """
        rate = self._rate
        wait_s = self._full_at - rate.slack_s - now
        if wait_s > _ROUNDING_S:
            return wait_s
        self._full_at = max(self._full_at, now) + rate.interval_s
        return 0.0

    def give_back(self) -> None:
        """Put the last token back."""
        self._full_at -= self._rate.interval_s

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full, as a new one is."""
        return self._full_at <= now


class TokenBuckets(Generic[_Key]):
    """A bucket for each key (a user, an address), kept while it is not full.

    Each `take` looks at the least recently used buckets and forgets full ones; the others will be full in
    `burst / per_s` seconds at the latest. If there are more than `max_buckets`, `take` forgets the least recently used
    one although it is not full, which gives its key a new burst.

    :ivar forgotten_early: buckets forgotten before they were full. If it rises, `max_buckets` is too small, or a client
        uses many keys.
    """

    __slots__ = ("_buckets", "_max_buckets", "_rate", "forgotten_early")

    def __init__(self, rate: Rate, max_buckets: int) -> None:
        self._rate = rate
        self._max_buckets = max_buckets
        # Not a dict: finding its first key walks over all deleted keys before it.
        self._buckets: OrderedDict[_Key, TokenBucket] = OrderedDict()
        self.forgotten_early = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: _Key, now: float) -> float:
        """As `TokenBucket.take`, from the bucket of this key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate)
        else:
            self._buckets.move_to_end(key)
        wait_s = bucket.take(now)
        self._forget(now)
        return wait_s

    def give_back(self, key: _Key) -> None:
        """As `TokenBucket.give_back`; a key whose bucket has been forgotten has all its tokens."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back()

    def _forget(self, now: float) -> None:
        # Each take adds at most one bucket, so looking at two is enough for the table to shrink.
        for _ in range(min(2, len(self._buckets))):
            key = next(iter(self._buckets))
            if self._buckets[key].is_full(now):
                del self._buckets[key]
            elif len(self._buckets) > self._max_buckets:
                del self._buckets[key]
                self.forgotten_early += 1
            else:
                return
