"""Passwords: the check of a user who does not exist takes as long as that of a user who does."""

from __future__ import annotations

from server.http import passwords
from server.http.passwords import Passwords


async def test_a_hash_that_was_made_of_the_password_fits_and_of_nobody_none_does() -> None:
    some = Passwords()
    made = await some.hash("correct horse")
    assert await some.check(made, "correct horse")
    assert not await some.check(made, "wrong")
    for password in ("correct horse", "nobody has this password", ""):
        assert not await some.check(None, password)


def test_nobody_takes_as_long_as_somebody() -> None:
    """The parameters must be those of a new hash. If the library has changed them, replace the constant."""
    assert not passwords._hasher.check_needs_rehash(passwords._NOBODY)
