"""A cache that compares the version of a value on each use. A commit moves the version, so no stale value is returned.

Values have no time to live and are not invalidated. The caller names the current version, which it has just read from
Postgres; a value of a different version is a miss, and the caller replaces it. A full cache drops the values that were
not used for the longest time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A snapshot of a cache's counters since its start.

    :ivar bytes: the size of all values.
    :ivar stale: the misses that found a value of a different version.
    """

    name: str
    values: int
    bytes: int
    hits: int
    misses: int
    stale: int


class VersionedCache(Generic[Value]):
    """Values by key, least recently used out first.

    :param name: in metrics.
    :param max_bytes: the most of all values together.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[Hashable, Value, int]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._stale = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a value of any version, so that it is worth reading the current version."""
        return key in self._entries

    def get(self, key: Hashable, version: Hashable) -> Value | None:
        """The value, if it is of this version."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == version:
            self._hits += 1
            self._entries.move_to_end(key)
            return entry[1]
        self._misses += 1
        self._stale += entry is not None
        return None

    def put(self, key: Hashable, version: Hashable, value: Value, size: int) -> None:
        """Keep a value that was read together with this version, or after it.

        :param size: of the value, in bytes; a value that is larger than the cache is not kept.
        """
        old = self._entries.pop(key, None)
        if old is not None:
            self._bytes -= old[2]
        if size > self._max_bytes:
            return
        self._entries[key] = (version, value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, _, dropped) = self._entries.popitem(last=False)
            self._bytes -= dropped

    def missed(self) -> None:
        """Count a miss of a caller that did not call `get`, because it found no value of any version."""
        self._misses += 1

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(self._name, len(self._entries), self._bytes, self._hits, self._misses, self._stale)
