"""Guesses of passwords: after a few an account rests, for a time that doubles, whatever address they come from.

An account is a user's name, also one that no user has: the answers tell nothing of who exists. A guess counts before
its password is checked, so it makes no difference how many come at once. While an account rests, right and wrong
passwords get the same answer. A device of the user is counted apart (`device_key`), so no stranger can keep an owner
away from the owner's own phone.

The guesses are counted in Redis. Each process remembers what it knows of them, and goes on alone while Redis is away.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final

import trio

from store.redis.client import Redis
from store.redis.rates import Guess, Rests, admit_guess, forget_guesses

RESTS: Final = Rests(free=5, first_s=1.0, most_s=900.0, kept_s=86400.0)
"""15 guesses take half an hour; after that there are 96 a day. An account is forgotten after a day without a guess, so
waiting for that gains nothing: it would leave 15 a day."""

MAX_ACCOUNTS: Final = 20_000
"""Accounts that a process remembers, in 5 MB at most."""


class TooManyGuesses(Exception):
    """The account rests.

    :ivar wait_s: until the next guess is admitted.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the account rests for {wait_s:.1f} s")
        self.wait_s = wait_s


class Guesses:
    """The guesses of one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Account -> the guesses that were admitted, and the time of the next one."""

    async def admit(self, account: str) -> None:
        """Count a guess of this account's password, before the password is checked.

        :param account: of `name_key` or `device_key`.
        :raises TooManyGuesses: if the account rests. The guess does not count then.
        """
        guess = await admit_guess(self._redis, account, RESTS)
        if guess is None:
            guess = self._admit_here(account)
        elif guess.number:
            self._note(account, guess)
        if not guess.number:
            raise TooManyGuesses(guess.wait_s)

    async def forget(self, account: str) -> None:
        """The guess was right."""
        self._known.pop(account, None)
        await forget_guesses(self._redis, account)

    def _admit_here(self, account: str) -> Guess:
        guesses, next_at = self._known.get(account, (0, 0.0))
        wait_s = next_at - trio.current_time()
        if wait_s > 0:
            return Guess(0, wait_s)
        guess = Guess(guesses + 1, RESTS.after(guesses + 1))
        self._note(account, guess)
        return guess

    def _note(self, account: str, guess: Guess) -> None:
        self._known[account] = (guess.number, trio.current_time() + guess.wait_s)
        self._known.move_to_end(account)
        if len(self._known) > MAX_ACCOUNTS:
            self._known.popitem(last=False)


def name_key(username: str) -> str:
    """The account of a user's name, however long a text it is."""
    return f"guesses:name:{sha256(username.encode()).hexdigest()}"


def device_key(device: bytes) -> str:
    """The account of a device of the user."""
    return f"guesses:device:{device.hex()}"
