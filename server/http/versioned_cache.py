"""A cache that compares the version of a value on each use. A commit moves the version, so no stale value is returned.

Values have no time to live and are not invalidated. The caller names the current version, which it has just read from
Postgres. A value of a different version is stale: the caller mends it with the changes, or reads a new one, and
replaces it. A full cache drops the values that were not used for the longest time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

Value = TypeVar("Value")
Key: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A snapshot of a cache's counters since its start.

    :ivar bytes: the size of all values.
    :ivar hits: the uses that found a value of the current version.
    :ivar mended: the uses that made the current value of a stale one.
    :ivar misses: all other uses.
    :ivar stale: the misses that found a stale value.
    """

    name: str
    values: int
    bytes: int
    hits: int
    mended: int
    misses: int
    stale: int


class _Entry(NamedTuple, Generic[Value]):
    epoch: Hashable
    version: Hashable
    value: Value
    size: int


class VersionedCache(Generic[Value]):
    """Values by key, least recently used out first. The first part of a key is its subject. Versions are comparable
    within an epoch: no value of a different epoch is returned.

    :param name: in metrics.
    :param max_bytes: the most of all values together.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self._name = name
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._subjects: Counter[Hashable] = Counter()
        self._bytes = 0
        self._hits = 0
        self._mended = 0
        self._misses = 0
        self._stale = 0

    def has(self, subject: Hashable) -> bool:
        """Whether there is a value with this subject, so that it is worth reading the current version."""
        return subject in self._subjects

    def get(self, key: Key, epoch: Hashable, version: Hashable) -> Value | None:
        """The value, if it is of this version; that counts as a hit."""
        entry = self._entries.get(key)
        if entry is None or (entry.epoch, entry.version) != (epoch, version):
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return entry.value

    def held(self, key: Key, epoch: Hashable) -> Value | None:
        """The value of any version."""
        entry = self._entries.get(key)
        return None if entry is None or entry.epoch != epoch else entry.value

    def put(
        self, key: Key, epoch: Hashable, version: Hashable, value: Value, size: int, *, is_mended: bool = False
    ) -> None:
        """Keep a value that was read together with this version.

        :param size: of the value, in bytes; a value that is larger than the cache is not kept.
        :param is_mended: it was made of the value that was here.
        """
        is_stale = self._drop(key)
        self._mended += is_mended
        self._misses += not is_mended
        self._stale += is_stale and not is_mended
        if size > self._max_bytes:
            return
        self._entries[key] = _Entry(epoch, version, value, size)
        self._subjects[key[0]] += 1
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def missed(self) -> None:
        """Count a miss of a caller that does not keep its value."""
        self._misses += 1

    def _drop(self, key: Key) -> bool:
        """Whether there was such a value."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size
        self._subjects[key[0]] -= 1
        if not self._subjects[key[0]]:
            del self._subjects[key[0]]
        return True

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            self._name, len(self._entries), self._bytes, self._hits, self._mended, self._misses, self._stale
        )
