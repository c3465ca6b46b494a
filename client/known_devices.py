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


class KnownIdentity(Struct, frozen=True):
    """The identity of a device that is known.

    :ivar is_gone: a list of the user's devices has left it out since.
    """

    identity: bytes
    revision: int
    is_gone: bool = False


def is_older(known: KnownIdentity | None, listed: ListedDevice) -> bool:
    """Whether a list is older than what is known of a device: then the device stays as it is known."""
    return known is not None and listed.identity_revision < known.revision


def event_of(known: KnownIdentity | None, listed: ListedDevice) -> DeviceEvent | None:
    """What a list that is not older says of a device, of a user whose devices were known: other bytes under the same
    revision are a change, too (SPEC 19.4)."""
    if known is None or known.is_gone:
        return "new"
    return "changed" if known.identity != listed.identity else None


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
        held = None if before is None else KnownIdentity(before.identity, before.identity_revision)
        if before is not None and is_older(held, device):
            devices[id_] = before
        elif (event := event_of(held, device)) is not None:
            changes.append(DeviceChange(event, device))
    return changes


async def all_devices(
    requests: Requests, users: Sequence[bytes], *, after: bytes | None = None, kinds: list[str] | None = None
) -> list[ListedDevice]:
    """All devices of these users that this one may see. Raises what `request` raises.

    :param after: only devices with greater ids.
    :param kinds: a key of each of these kinds is claimed of each device.
    """
    found: list[ListedDevice] = []
    for start in range(0, len(users), MAX_LISTED_USERS):
        some, last = list(users[start : start + MAX_LISTED_USERS]), after
        while True:
            page = await requests.devices(some, device=last, kinds=kinds)
            found += page.devices
            if not page.more:
                break
            last = page.devices[-1].device
    return found
