"""The devices of other users that this device knows, and how a new list differs from them (SPEC 19.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from client.requests import Requests
from protocol.frames import ListedDevice
from protocol.limits import MAX_LISTED_USERS

DeviceEvent = Literal["new", "gone", "changed"]

NO_DEVICES: Final[dict[bytes, ListedDevice]] = {}


class DeviceChange(Struct, frozen=True):
    """What has become of a device of a user whose devices were known: the user should hear of it.

    :ivar event: "changed": the device has another identity.
    :ivar device: as it is now; of one that is gone, as it was.
    """

    event: DeviceEvent
    device: ListedDevice


class KnownDevices:
    """The devices of users, as they were listed last. Sans-IO."""

    def __init__(self) -> None:
        self._users: dict[bytes, dict[bytes, ListedDevice]] = {}

    def of(self, user: bytes) -> list[ListedDevice]:
        """The known devices of a user, in the order of their ids."""
        known = self._users.get(user, NO_DEVICES)
        return [known[device] for device in sorted(known)]

    def take(self, users: Iterable[bytes], listed: Iterable[ListedDevice]) -> list[DeviceChange]:
        """Take all devices of these users; returns what has changed of users who were known before.

        A device that is listed under an earlier revision than the known one stays as it is known: that list is older.
        """
        told: dict[bytes, dict[bytes, ListedDevice]] = {user: {} for user in users}
        for device in listed:
            told[device.user][device.device] = device
        changes: list[DeviceChange] = []
        for user, devices in told.items():
            known = self._users.get(user)
            if known is not None:
                changes += _differences(known, devices)
            self._users[user] = devices
        return changes


def _differences(known: dict[bytes, ListedDevice], devices: dict[bytes, ListedDevice]) -> list[DeviceChange]:
    changes = [DeviceChange("gone", known[each]) for each in sorted(known.keys() - devices.keys())]
    for id_, device in sorted(devices.items()):
        before = known.get(id_)
        if before is None:
            changes.append(DeviceChange("new", device))
        elif device.identity_revision < before.identity_revision:
            devices[id_] = before
        elif device.identity != before.identity:
            changes.append(DeviceChange("changed", device))
    return changes


async def all_devices(requests: Requests, users: Sequence[bytes]) -> list[ListedDevice]:
    """All devices of these users that this one may see. Raises what `request` raises."""
    found: list[ListedDevice] = []
    for start in range(0, len(users), MAX_LISTED_USERS):
        some, after = list(users[start : start + MAX_LISTED_USERS]), None
        while True:
            page = await requests.devices(some, device=after)
            found += page.devices
            if not page.more:
                break
            after = page.devices[-1].device
    return found
