"""Passwords: the check of a user who does not exist takes as long as that of a user who does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from argon2.exceptions import VerifyMismatchError

from server.http import passwords
from server.http.limits import RateLimited
from server.http.password_rules import BadPassword, WeakPassword
from server.http.passwords import Passwords
from tests.server.quick_hashes import DEPLOYED


async def test_the_right_password_of_an_existing_user_fits_and_no_other() -> None:
    some = Passwords()
    made = await some.hash("correct horse", "alice", source="an address")
    assert await some.check(made, "correct horse", source="an address")
    assert not await some.check(made, "wrong", source="an address")
    for password in ("correct horse", "nobody has this password", ""):
        assert not await some.check(None, password, source="an address")


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    """The parameters must be those of a new hash. If the library has changed them, replace the constant."""
    hasher, hash_of_no_user = DEPLOYED
    assert not hasher.check_needs_rehash(hash_of_no_user)
    assert (hasher.time_cost, hasher.memory_cost, hasher.parallelism) == (3, 65536, 1), "RFC 9106, for little memory"


async def test_a_password_typed_in_other_code_points_fits() -> None:
    """A keyboard that decomposes its letters, and a space that does not break a line."""
    some = Passwords()
    made = await some.hash("größer als \u00e9in Haus", "alice", source=1)
    for typed in ("gro\u0308ßer als e\u0301in Haus", "größer\u00a0als\u3000éin Haus"):
        assert await some.check(made, typed, source=1)
    assert not await some.check(made, "groesser als ein Haus", source=1)


async def test_no_text_that_cannot_be_a_password_fits() -> None:
    some = Passwords()
    for typed in ("\ud800", "a\0", "x" * 100_000, ""):
        assert not await some.check(passwords.HASH_OF_NO_USER, typed, source=1)


async def test_no_weak_or_bad_password_is_hashed() -> None:
    some = Passwords()
    with pytest.raises(WeakPassword):
        await some.hash("maximilian.m1", "maximilian.m", source=1)
    with pytest.raises(BadPassword):
        await some.hash("short", "alice", source=1)


async def in_order(some: Passwords, *sources: str, password: str = "wrong") -> list[str]:
    """The sources of checks that wait together, in the order of their turns."""
    begun, go = list[str](), trio.Event()

    async def check(source: str) -> None:
        async def admit() -> None:
            begun.append(source)
            if source == "first":
                await go.wait()

        await some.check("a hash", password, source=source, admit=admit)

    async with trio.open_nursery() as nursery:
        for source in ("first", *sources):
            nursery.start_soon(check, source)
            await trio.testing.wait_all_tasks_blocked()
        go.set()
    return begun[1:]


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Passwords:
    """Users were seen at one address, `home`; the password is `right`."""

    def verify(_: str, password: str) -> None:
        if password != "right":
            raise VerifyMismatchError

    hasher = SimpleNamespace(verify=verify, hash=lambda _: "a hash")
    monkeypatch.setattr(passwords, "HASHER", hasher)
    return Passwords({"home"}.__contains__)


async def test_addresses_with_wrong_passwords_come_after_all_others(addresses: Passwords) -> None:
    """So each address of an attacker delays a new device once, and not again and again."""
    assert await in_order(addresses, "a", "b") == ["a", "b"]
    assert await in_order(addresses, "b", "a", "new") == ["new", "b", "a"]
    assert await in_order(addresses, "a", "new", "b", "newer") == ["newer", "new", "a", "b"]


async def test_right_passwords_put_no_address_behind_others(addresses: Passwords) -> None:
    await in_order(addresses, "office", password="right")
    assert await in_order(addresses, "office", "new") == ["office", "new"]


async def test_registrations_put_their_address_behind_others(addresses: Passwords) -> None:
    await addresses.hash("correct horse", source="a")
    assert await in_order(addresses, "a", "new") == ["new", "a"]


async def test_an_address_where_users_were_seen_comes_first(addresses: Passwords) -> None:
    """A new device is often at home beside one that is logged in."""
    assert await in_order(addresses, "a", "home", "b") == ["home", "a", "b"]
    assert await in_order(addresses, "new", "home") == ["new", "home"]


@asynccontextmanager
async def turn_taken(addresses: Passwords) -> AsyncGenerator[trio.Nursery]:
    """The address "a" has the turn of strangers until the block ends; the nursery is for checks that wait."""
    taken, go = trio.Event(), trio.Event()

    async def hold() -> None:
        taken.set()
        await go.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(addresses.check, "a hash", "wrong", source="a", admit=hold))
        await taken.wait()
        yield nursery
        go.set()


async def test_known_devices_wait_for_no_stranger(addresses: Passwords) -> None:
    """Each has turns of its own, also while all turns of strangers are taken."""
    async with turn_taken(addresses) as nursery:
        nursery.start_soon(partial(addresses.check, "a hash", "right", source="b"))
        await trio.testing.wait_all_tasks_blocked()
        waiting = {name: turns.statistics().waiting for name, turns in addresses.by_source().items()}
        assert waiting == {"strangers": 1, "known_devices": 0}
        with trio.fail_after(5):
            assert await addresses.check("a hash", "right", source=b"device", is_known=True)


async def test_few_hashes_of_an_address_wait(addresses: Passwords) -> None:
    """The next one is refused at once; another address has places of its own."""
    async with turn_taken(addresses) as nursery:
        for _ in range(passwords.WAITING_EACH):
            nursery.start_soon(partial(addresses.check, "a hash", "wrong", source="a"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimited):
            await addresses.check("a hash", "wrong", source="a")
        nursery.start_soon(partial(addresses.check, "a hash", "wrong", source="b"))
        await trio.testing.wait_all_tasks_blocked()
        assert addresses.by_source()["strangers"].statistics().waiting == passwords.WAITING_EACH + 1
