"""The devices of other users at the server double, pages of them, and device sets. Sans-IO."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import count
from typing import Final

from msgspec.structs import replace

from protocol import limits
from protocol.frames import ListedDevice


class DoubleDevices:
    """All devices of others.

    :ivar listed: in any order.
    :ivar per_page: the most of a page.
    """

    def __init__(self) -> None:
        self.listed: list[ListedDevice] = []
        self.per_page = limits.MAX_LISTED_DEVICES
        self._numbers: Final = count(1)

    def page(
        self, users: Collection[bytes], kinds: list[str] | None, *, after: bytes = b""
    ) -> tuple[list[ListedDevice], bool]:
        """A page of the devices of users, and whether there are more; with `kinds` each has a key that is claimed."""
        found = [each for each in self.listed if each.user in users and each.device > after]
        found.sort(key=lambda each: each.device)
        page = found[: self.per_page]
        if kinds:
            page = [self._with_keys(each, kinds) for each in page]
        return page, len(found) > len(page)

    def _with_keys(self, device: ListedDevice, kinds: list[str]) -> ListedDevice:
        return replace(device, one_time_keys=[(kind, next(self._numbers), b"a key") for kind in kinds])


class DoubleDeviceSet:
    """The device set of one conversation (SPEC 19.10), and what the client was told of it.

    :ivar version: as `devices_version` of the protocol.
    """

    def __init__(self) -> None:
        self.version = 0
        self._changed_at: dict[bytes, int] = {}
        self._told_at: dict[bytes, int] = {}

    def change(self, users: Iterable[bytes]) -> int:
        """Devices of these users have changed; returns the version before."""
        self.version += 1
        self._changed_at.update(dict.fromkeys(users, self.version))
        return self.version - 1

    def changed_since(self, version: int, participants: list[bytes]) -> list[bytes]:
        """The participants whose devices have changed since a version; of a version that is to come: all."""
        is_later = version > self.version
        return [user for user in participants if is_later or self._changed_at.get(user, 0) > version]

    def tell(self, users: Iterable[bytes]) -> None:
        """The client is told all devices of these users."""
        self._told_at.update(dict.fromkeys(users, self.version))

    def untold(self, participants: list[bytes]) -> list[bytes]:
        """The participants whose devices have changed since the client was told of them last."""
        return [user for user in participants if self._changed_at.get(user, 0) > self._told_at.get(user, -1)]
