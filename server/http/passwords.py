"""Passwords: Argon2id through argon2-cffi, in threads, a few at a time, with turns for each address."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from server.http.turns import Turns

CONCURRENT: Final = 2
"""Hashes at a time, each for a different source. Each takes 64 MiB and a core for tens of milliseconds, on purpose."""

WAITING: Final = 64
"""Hashes that wait, of all sources: two seconds of work."""

WAITING_EACH: Final = 4
"""Hashes that wait, of one source. Several users behind one address may log in at the same moment; a fifth one is asked
to try again in a second."""

NICENESS: Final = 10
"""Of the threads that hash, on Linux: requests that wait for no hash come first. A thread keeps it when it goes on to
other work of this process, none of which is urgent."""

HASHER: Final = PasswordHasher()
HASH_OF_NO_USER: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$f5wFOmCkU5zeuZvSBAwwPg$GT5Wfe7ftr2RnShpM0trE9LMUXbbYA54AH2PoAdbyb4"
)
"""The hash of a password that no user has, with the parameters of `HASHER` (a test compares them). A constant, because
to compute it takes each process a quarter of a second of CPU at its start."""


async def _at_once() -> None: ...


class Passwords:
    """Hashing and checking, for one process.

    The source of a hash is the key of the client's address (`server.transport.proxies.address_key`), or the user or
    device that is known to ask. Hashes of one source run one after the other; sources take turns.
    """

    def __init__(self) -> None:
        self._turns = Turns("password hashes", running=CONCURRENT, waiting=WAITING, waiting_each=WAITING_EACH)

    async def hash(self, password: str, *, source: Hashable) -> str:
        """The hash of a new password. A cancelled call leaves the queue, or waits until its hash is made.

        :raises RateLimited: if `WAITING_EACH` hashes of this source wait.
        :raises Overloaded: if `WAITING` hashes wait.
        """
        async with self._turns.turn(source):
            return await trio.to_thread.run_sync(_hash, password)

    async def check(
        self,
        password_hash: str | None,
        password: str,
        *,
        source: Hashable,
        admit: Callable[[], Awaitable[None]] = _at_once,
    ) -> bool:
        """Whether the password is right; cancellation and errors are as in `hash`.

        :param password_hash: None if the user does not exist; the check then takes as long, so its time tells nothing.
        :param admit: called when the turn has come: it may count the guess, and raise an error instead of the check.
        """
        async with self._turns.turn(source):
            await admit()
            return await trio.to_thread.run_sync(_verify, password_hash, password)


_priority = threading.local()


def _yield_to_others() -> None:
    """Lower the priority of this thread, and of those that Argon2 starts."""
    if sys.platform == "linux" and not hasattr(_priority, "is_low"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        _priority.is_low = True


def _hash(password: str) -> str:
    _yield_to_others()
    return HASHER.hash(password)


def _verify(password_hash: str | None, password: str) -> bool:
    _yield_to_others()
    try:
        return HASHER.verify(password_hash or HASH_OF_NO_USER, password) and password_hash is not None
    except (VerifyMismatchError, InvalidHashError):
        return False
