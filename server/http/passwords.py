"""Passwords: Argon2id through argon2-cffi, in threads, a few at a time, with turns for each address. Users who were
imported have hashes of bcrypt until they log in (`server.http.bcrypt_hashes`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from server.http import bcrypt_hashes
from server.http.password_rules import BadPassword, new_password, normal_password
from server.http.turns import Turns
from server.http.wasted import Wasted
from store.distribution import Distribution

CONCURRENT: Final = 1
"""Hashes at a time for strangers, and as many for known devices. Each takes 64 MiB and a core for some 100 ms, on
purpose: the rest of the machine is for other requests."""

WAITING: Final = 512
"""Hashes that wait, of all sources but known devices, and of known devices. An attacker's request that waits costs
nothing, and one that is refused comes again."""

WAIT_S: Final = 10.0
"""For a turn: a client that waits for longer shows its user nothing."""

PLACE_S: Final = 60.0
"""For how long an address whose turn has not come keeps its place: a user tries again within that time. Otherwise a
client that waits before it comes again would always be behind attackers that do not wait or have new addresses."""

WAITING_EACH: Final = 4
"""Hashes that wait, of one source. Several users behind one address may log in at the same moment; a fifth one is asked
to try again in a second."""

HASHER: Final = PasswordHasher(parallelism=1)
"""One thread for each hash, with the passes and the memory of RFC 9106: four threads would take a multiple of their
share from the requests of a busy machine."""

HASH_OF_NO_USER: Final = (
    "$argon2id$v=19$m=65536,t=3,p=1$myoaLwSm0DgJ6GmQ+n9U4w$wRqC3gNkkTJGkvvAU18f3jU34sxhJajUTJ+fFnRKg60"
)
"""The hash of a password that no user has, with the parameters of `HASHER` (a test compares them). A constant, because
to compute it takes each process a quarter of a second of CPU at its start."""


async def _at_once() -> None: ...


def _never(_: str) -> bool:
    return False


class Passwords:
    """Hashing and checking, for one process.

    The source of a hash is the key of the client's address (`server.transport.proxies.address_key`), or the device that
    is known to ask. Hashes of one source run one after the other; sources take turns. Known devices have turns of their
    own: strangers with many addresses do not keep them waiting. Among addresses, those with the fewest hashes to no
    good end come first (`server.http.wasted`), and of these the one that has asked first, also if its earlier requests
    were refused: each address of an attacker delays others once, and only those that ask after it.

    :param is_familiar: whether users were seen at an address, given by its key.
    :ivar seconds: of each hash, without its wait for a turn.
    """

    def __init__(self, is_familiar: Callable[[str], bool] = _never) -> None:
        self._is_familiar = is_familiar
        self._wasted = Wasted()
        self._strangers = _turns("password hashes", self._rank)
        self._known = _turns("password hashes of known devices", None)
        self.seconds = Distribution()

    def _rank(self, source: Hashable) -> int:
        return self._wasted.of(source) - (isinstance(source, str) and self._is_familiar(source))

    def by_source(self) -> dict[str, Turns]:
        """The turns of strangers and of known devices, by name."""
        return {"strangers": self._strangers, "known_devices": self._known}

    @contextmanager
    def _measured(self) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds.observe(perf_counter() - began)

    def _turns(self, is_known: bool) -> Turns:
        return self._known if is_known else self._strangers

    async def hash(
        self, password: str, *known: str, source: Hashable, is_known: bool = False, field: str = "password"
    ) -> str:
        """The hash of a password that a user chooses: every password that is stored has passed here. A cancelled call
        leaves the queue, or waits until its hash is made.

        :param known: what an attacker knows of the user, such as the username.
        :param is_known: the source is a known device.
        :param field: of the body, to which an error points.
        :raises BadPassword: if it cannot be a password.
        :raises WeakPassword: if an attacker guesses it soon.
        :raises RateLimited: if `WAITING_EACH` hashes of this source wait.
        :raises Overloaded: if `WAITING` hashes wait, or the turn has not come within `WAIT_S`.
        """
        async with self._turns(is_known).turn(source):
            if not is_known:
                self._wasted.note(source)
            with self._measured():
                return await trio.to_thread.run_sync(_hash, password, known, field)

    async def check(
        self,
        password_hash: str | None,
        password: str,
        *,
        source: Hashable,
        is_known: bool = False,
        admit: Callable[[], Awaitable[None]] = _at_once,
    ) -> str | None:
        """The hash to keep if the password is right: the same one, or Argon2id in place of bcrypt. None if it is wrong.
        Cancellation and errors are as in `hash`.

        :param password_hash: None if the user does not exist; the check then takes as long, so its time tells nothing.
        :param admit: called when the turn has come: it may count the guess, and raise an error instead of the check.
        """
        async with self._turns(is_known).turn(source):
            await admit()
            with self._measured():
                kept_hash = await trio.to_thread.run_sync(_verify, password_hash, password)
            if kept_hash is None and not is_known:
                self._wasted.note(source)
            return kept_hash


def _turns(name: str, rank: Callable[[Hashable], int] | None) -> Turns:
    return Turns(
        name,
        running=CONCURRENT,
        waiting=WAITING,
        waiting_each=WAITING_EACH,
        wait_s=WAIT_S,
        rank=rank,
        kept_s=PLACE_S,
    )


def _hash(password: str, known: tuple[str, ...], field: str) -> str:
    return HASHER.hash(new_password(password, *known, field=field))


def _verify(password_hash: str | None, typed: str) -> str | None:
    if password_hash is not None and bcrypt_hashes.is_bcrypt(password_hash):
        return _in_place_of(password_hash, typed) if bcrypt_hashes.fits(password_hash, typed) else None
    try:
        password = normal_password(typed)
    except BadPassword:
        password, password_hash = "", None
    try:
        HASHER.verify(password_hash or HASH_OF_NO_USER, password)
    except (VerifyMismatchError, InvalidHashError):
        return None
    return password_hash


def _in_place_of(password_hash: str, typed: str) -> str:
    try:
        return HASHER.hash(normal_password(typed))
    except BadPassword:
        # Its user has logged in with it for years: a control character, say.
        return password_hash
