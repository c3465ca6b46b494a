"""Users who were imported log in with their old passwords once; then their hashes are those of every other user."""

from __future__ import annotations

import bcrypt
import pytest
import trio

from server.http.bcrypt_hashes import fits, is_bcrypt
from server.http.passwords import HASHER, Passwords
from store import accounts
from store.postgres.pool import Pool
from tests.planted import PLANTED
from tests.server.http_world import open_api

OLD = f"{PLANTED} old"


def old_hash(password: bytes, prefix: bytes = b"2a") -> str:
    """With the fewest rounds, since the number changes nothing but the time."""
    return bcrypt.hashpw(password[:72], bcrypt.gensalt(4)).replace(b"$2b$", b"$%b$" % prefix).decode()


@pytest.mark.parametrize(
    ("password", "password_hash"),
    [
        # Of the tests of golang.org/x/crypto/bcrypt, by which Supabase's auth checks passwords.
        ("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"),
        # Of the tests of OpenBSD and crypt_blowfish.
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        (
            "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored",
            "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
        ),
    ],
)
def test_known_passwords_fit_their_hashes_and_others_do_not(password: str, password_hash: str) -> None:
    assert fits(password_hash, password)
    assert not fits(password_hash, f"x{password}")


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_every_letter_names_one_algorithm(prefix: bytes) -> None:
    made = old_hash(b"some password", prefix)
    assert is_bcrypt(made)
    assert fits(made, "some password")


@pytest.mark.parametrize("typed", ["größer", "gro\u0308ßer", "a\0b", "tab\tand\u200bmore", "\U0001f600" * 30])
def test_a_password_is_checked_as_it_was_typed(typed: str) -> None:
    """Without a normal form, and with characters that no new password may have."""
    made = old_hash(typed.encode())
    assert fits(made, typed)
    assert not fits(made, typed[:-1] + "x" if len(typed.encode()) <= 72 else "x")


def test_a_nul_does_not_end_a_password() -> None:
    assert not fits(old_hash(b"a\0b"), "a")
    assert not fits(old_hash(b"a\0b"), "a\0c")


@pytest.mark.parametrize("password_hash", ["$2a$10$short", "$2a$10$" + "9" * 53, "$2b$"])
def test_no_password_fits_what_is_no_hash(password_hash: str) -> None:
    assert not fits(password_hash, "")
    assert not fits(password_hash, "\ud800")


async def test_a_check_gives_argon2id_in_place_of_bcrypt() -> None:
    some, made = Passwords(), old_hash(OLD.encode())
    kept = await some.check(made, OLD, source=1)
    assert kept is not None
    assert kept.startswith("$argon2id$")
    assert not HASHER.check_needs_rehash(kept)
    assert await some.check(kept, OLD, source=1) == kept
    assert await some.check(made, "another", source=1) is None


async def test_a_password_that_no_user_may_choose_any_longer_keeps_its_hash() -> None:
    some, made = Passwords(), old_hash(b"with a\ttab")
    assert await some.check(made, "with a\ttab", source=1) == made


async def test_the_first_login_replaces_the_hash_and_the_second_needs_no_bcrypt(pool: Pool, redis_url: str) -> None:
    user = await accounts.add_user(pool, "alice", old_hash(OLD.encode()))
    async with open_api(pool, redis_url) as api:
        assert (await api.post("/v1/devices", {"username": "alice", "password": "wrong", "name": "d"})).status == 401
        assert is_bcrypt(await accounts.password_hash_of(pool, user))
        for _ in range(2):
            answer = await api.post("/v1/devices", {"username": "alice", "password": OLD, "name": "d"})
            assert answer.status == 201
            assert (await accounts.password_hash_of(pool, user)).startswith("$argon2id$")


async def test_two_first_logins_at_once_both_succeed(pool: Pool, redis_url: str) -> None:
    """The one that is slower finds another hash than the one that it has checked, and checks again."""
    await accounts.add_user(pool, "alice", old_hash(OLD.encode()))
    statuses = []
    async with open_api(pool, redis_url) as api, trio.open_nursery() as nursery:

        async def log_in() -> None:
            answer = await api.post("/v1/devices", {"username": "alice", "password": OLD, "name": "d"})
            statuses.append(answer.status)

        for _ in range(2):
            nursery.start_soon(log_in)
    assert statuses == [201, 201]


async def test_a_login_does_not_put_an_old_password_back(pool: Pool) -> None:
    """The password was changed between the check and the new hash."""
    user = await accounts.add_user(pool, "alice", "changed")
    assert not await accounts.replace_hash(pool, user, "the old one", "of the old one")
    assert await accounts.password_hash_of(pool, user) == "changed"
