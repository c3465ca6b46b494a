"""Passwords: Argon2id through argon2-cffi, in threads, a few at a time."""

from __future__ import annotations

from typing import Final

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

CONCURRENT: Final = 2
"""Hashes at a time. Each takes 64 MiB and a core for tens of milliseconds, on purpose."""

HASHER: Final = PasswordHasher()
HASH_OF_NO_USER: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$f5wFOmCkU5zeuZvSBAwwPg$GT5Wfe7ftr2RnShpM0trE9LMUXbbYA54AH2PoAdbyb4"
)
"""The hash of a password that no user has, with the parameters of `HASHER` (a test compares them). A constant, because
to compute it takes each process a quarter of a second of CPU at its start."""


class Passwords:
    """Hashing and checking, for one process."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(CONCURRENT)

    async def hash(self, password: str) -> str:
        return await trio.to_thread.run_sync(HASHER.hash, password, limiter=self._limiter)

    async def check(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is right.

        :param password_hash: None if the user does not exist; the check then takes as long, so its time tells nothing.
        """
        return await trio.to_thread.run_sync(_verify, password_hash, password, limiter=self._limiter)


def _verify(password_hash: str | None, password: str) -> bool:
    try:
        return HASHER.verify(password_hash or HASH_OF_NO_USER, password) and password_hash is not None
    except (VerifyMismatchError, InvalidHashError):
        return False
