"""What a chat tells of devices and safety numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.commands import NotPossible
from client.e2ee.correspondent import Correspondent
from client.e2ee.records import KeyChange, Recipient
from client.safety import Safety
from tests.client.e2ee.keyring_world import TALK, Device, KeyringWorld, cheap_passphrases, keyring_world


class SafetyChat:
    """The safety numbers of one device's chat.

    :ivar shown: its lines.
    """

    def __init__(self, world: KeyringWorld, device: Device, names: dict[bytes, str]) -> None:
        self.shown: list[str] = []
        self.safety = Safety(device.user, names, self.shown.append)

        async def refresh(_: bytes) -> None:
            device.keyring.take_set(TALK, world.version, world.users, world.listed(world.users))

        of = SimpleNamespace(keyring=device.keyring, sets=SimpleNamespace(refresh=refresh))
        self.safety.watch(cast(Correspondent, of))

    async def verify(self, argument: str = "") -> list[str]:
        self.shown.clear()
        await self.safety.verify(TALK, argument)
        return self.shown


@contextmanager
def two_chats(folder: Path, *names: str) -> Iterator[tuple[KeyringWorld, list[SafetyChat], dict[str, bytes]]]:
    with keyring_world(folder) as world:
        devices = [world.join(name) for name in names]
        users = {device.user: name for device, name in zip(devices, names, strict=True)}
        yield world, [SafetyChat(world, each, users) for each in devices], {name: user for user, name in users.items()}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch.setattr)


def number_in(lines: list[str]) -> str:
    return lines[0].partition(": ")[2]


async def test_both_users_see_one_number_and_compare_it(tmp_path: Path) -> None:
    with two_chats(tmp_path, "alice", "bob") as (world, [here, there], _):
        number = number_in(await here.verify())
        assert number_in(await there.verify("alice")) == number
        assert len(number.split()) == 12
        assert await here.verify(f"bob {number}") == ["-- that is the safety number with bob: nobody reads along"]
        assert "you have compared it" in (await here.verify())[0]
        world.join("bob")
        assert "it is another one than you have compared" in (await here.verify())[0]
        with pytest.raises(NotPossible, match="not the safety number with bob"):
            await here.verify(number)


@pytest.mark.parametrize("argument", ["12345", "bob 12345", "x" * 60, "bob carol"])
async def test_a_text_that_is_no_safety_number_is_refused_with_the_form_of_one(tmp_path: Path, argument: str) -> None:
    with two_chats(tmp_path, "alice", "bob") as (_, [here, _], _), pytest.raises(NotPossible, match="60 digits"):
        await here.verify(argument)


async def test_in_a_group_the_user_says_with_whom(tmp_path: Path) -> None:
    with two_chats(tmp_path, "alice", "bob", "carol") as (_, [here, _, _], _):
        with pytest.raises(NotPossible, match="one of bob, carol"):
            await here.verify()
        assert number_in(await here.verify("bob")) != number_in(await here.verify("carol"))


def test_changes_of_others_and_of_the_user_are_told(tmp_path: Path) -> None:
    with two_chats(tmp_path, "alice", "bob") as (_, [here, _], users):
        here.safety.show_change(KeyChange("new", users["bob"], b"d"))
        here.safety.show_change(KeyChange("changed", users["alice"], b"d"))
        for _ in range(2):
            here.safety.show_left_out([Recipient(users["bob"], b"d", b"")])
    assert here.shown == [
        "-- bob has a new device: the safety number has changed; see /verify bob",
        "-- you have a device with other keys: all your safety numbers have changed",
        "-- bob has a device that cannot read what is written now",
    ]


async def test_a_user_without_keys_is_told_once(tmp_path: Path) -> None:
    with two_chats(tmp_path, "alice", "bob") as (world, [here, _], _):
        world.devices.pop()
        await here.verify("bob")
        here.shown.clear()
        for _ in range(2):
            here.safety.show_without_keys(TALK)
        assert here.shown == ["-- bob has no device with keys: bob will not be able to read what you write now"]


async def test_without_encryption_there_is_no_number() -> None:
    shown: list[Any] = []
    with pytest.raises(NotPossible, match="does not encrypt"):
        await Safety(b"m", {}, shown.append).verify(TALK, "")
