"""Passwords: the check of a user who does not exist takes as long as that of a user who does."""

from __future__ import annotations

from server.http import passwords
from server.http.passwords import Passwords


async def test_the_right_password_of_an_existing_user_fits_and_no_other() -> None:
    some = Passwords()
    made = await some.hash("correct horse", source="an address")
    assert await some.check(made, "correct horse", source="an address")
    assert not await some.check(made, "wrong", source="an address")
    for password in ("correct horse", "nobody has this password", ""):
        assert not await some.check(None, password, source="an address")


def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    """The parameters must be those of a new hash. If the library has changed them, replace the constant."""
    assert not passwords.HASHER.check_needs_rehash(passwords.HASH_OF_NO_USER)
