"""A device notices what has changed of the devices of others, and reads lists of any length."""

from __future__ import annotations

from client.known_devices import DeviceChange, KnownDevices, all_devices
from client.requests import Requests
from protocol.frames import DeviceList, Devices, ListedDevice, Reply, Request
from protocol.limits import MAX_LISTED_USERS

ALICE, BOB = b"a" * 16, b"b" * 16
PHONE = ListedDevice(BOB, b"1" * 16, b"the phone", 1)
LAPTOP = ListedDevice(BOB, b"2" * 16, b"the laptop", 1)


def test_the_first_list_of_a_user_changes_nothing_and_the_same_list_neither() -> None:
    known = KnownDevices()
    for _ in range(2):
        assert known.take([BOB], [LAPTOP, PHONE]) == []
        assert known.of(BOB) == [PHONE, LAPTOP]
    assert known.of(ALICE) == []


def test_new_devices_gone_devices_and_changed_identities_are_told_once() -> None:
    changed = ListedDevice(BOB, PHONE.device, b"another phone", 2)
    for lists, told in (
        ([[PHONE], [PHONE, LAPTOP]], [DeviceChange("new", LAPTOP)]),
        ([[PHONE, LAPTOP], [LAPTOP]], [DeviceChange("gone", PHONE)]),
        ([[PHONE], [changed]], [DeviceChange("changed", changed)]),
        ([[], [PHONE]], [DeviceChange("new", PHONE)]),
        ([[PHONE], []], [DeviceChange("gone", PHONE)]),
    ):
        known = KnownDevices()
        assert known.take([BOB], lists[0]) == []
        assert known.take([BOB, ALICE], lists[1]) == told
        assert known.take([BOB, ALICE], lists[1]) == []


def test_other_bytes_under_the_same_revision_are_a_change_and_an_earlier_revision_is_none() -> None:
    """After a restore the server may count the same revision twice; and lists may overtake each other."""
    second = ListedDevice(BOB, PHONE.device, b"the second", 2)
    other = ListedDevice(BOB, PHONE.device, b"another second", 2)
    known = KnownDevices()
    known.take([BOB], [second])
    assert known.take([BOB], [PHONE]) == []
    assert known.of(BOB) == [second]
    assert known.take([BOB], [other]) == [DeviceChange("changed", other)]


class PagedRequests(Requests):
    """Answers `devices` with one device a page."""

    def __init__(self, devices: list[ListedDevice]) -> None:
        self._devices = sorted(devices, key=lambda each: each.device)
        self.asked: list[int] = []

    async def request(self, frame: Request, *, timeout_s: float = 0) -> Reply:
        assert isinstance(frame, Devices)
        self.asked.append(len(frame.users))
        found = [
            each
            for each in self._devices
            if each.user in frame.users and (frame.device is None or each.device > frame.device)
        ]
        return DeviceList(0, len(found) > 1, found[:1])


async def test_all_devices_come_page_by_page_for_as_many_users_at_a_time_as_may_be_asked_about() -> None:
    users = [bytes([n]) * 16 for n in range(MAX_LISTED_USERS + 2)]
    devices = [ListedDevice(users[n % 3 and -n], bytes([n]) * 16, b"x", 1) for n in range(9)]
    requests = PagedRequests(devices)
    found = await all_devices(requests, users)
    assert sorted(found, key=lambda each: each.device) == devices
    assert {*requests.asked} == {MAX_LISTED_USERS, 2}
