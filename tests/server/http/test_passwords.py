"""Passwords: the check of a user who does not exist takes as long as that of a user who does."""

from __future__ import annotations

import pytest

from server.http import passwords
from server.http.password_rules import BadPassword, WeakPassword
from server.http.passwords import Passwords


async def test_the_right_password_of_an_existing_user_fits_and_no_other() -> None:
    some = Passwords()
    made = await some.hash("correct horse", "alice", source="an address")
    assert await some.check(made, "correct horse", source="an address")
    assert not await some.check(made, "wrong", source="an address")
    for password in ("correct horse", "nobody has this password", ""):
        assert not await some.check(None, password, source="an address")


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    """The parameters must be those of a new hash. If the library has changed them, replace the constant."""
    assert not passwords.HASHER.check_needs_rehash(passwords.HASH_OF_NO_USER)


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
