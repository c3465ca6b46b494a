"""Which devices are of a conversation's device set: kept in memory, and valid for one version of the set.

Each change of the set raises its version, in the same transaction. So a device that was of the set of a version is of
it for ever, and a send for this version needs no look-up of its devices: Postgres compares the version alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

MAX_DEVICES: Final = 200_000
"""The most devices of all sets together; each has some 100 bytes, so a full list has about 20 MB."""


class ListedDevices:
    """The devices that sends have named and Postgres has found in the set, by conversation; the least recently used out
    first."""

    def __init__(self, max_devices: int = MAX_DEVICES) -> None:
        self._max_devices = max_devices
        self._sets: OrderedDict[bytes, tuple[int, set[bytes]]] = OrderedDict()
        self._devices = 0

    def has_all(self, conversation: bytes, version: int, devices: Collection[bytes]) -> bool:
        """Whether all of these devices are known to be of the set of this version."""
        entry = self._sets.get(conversation)
        if entry is None or entry[0] != version or not entry[1].issuperset(devices):
            return False
        self._sets.move_to_end(conversation)
        return True

    def add(self, conversation: bytes, version: int, devices: Collection[bytes]) -> None:
        """Note that Postgres has found these devices in the set of this version."""
        known_version, known = self._sets.pop(conversation, (version, set()))
        self._devices -= len(known)
        if known_version < version:
            known_version, known = version, set()
        if known_version == version:
            known.update(devices)
        self._sets[conversation] = known_version, known
        self._devices += len(known)
        while self._devices > self._max_devices and len(self._sets) > 1:
            _, (_, dropped) = self._sets.popitem(last=False)
            self._devices -= len(dropped)

    def forget(self) -> None:
        """Drop all: a database that is restored from a backup may issue the same versions again."""
        self._sets.clear()
        self._devices = 0
