"""Hashes of passwords that take no time, for tests within this process; no setting of a deployment does this.

A hash is slow on purpose: hundreds of them took a tenth of the time of all tests.
"""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher

from server.http import passwords

DEPLOYED: Final = passwords.HASHER, passwords.HASH_OF_NO_USER
"""What a deployment has: the parameters, and the hash of a password that no user has."""

QUICK: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def use_quick_hashes() -> None:
    """For the rest of the process."""
    passwords.HASHER = QUICK
    passwords.HASH_OF_NO_USER = QUICK.hash("the password of no user")
