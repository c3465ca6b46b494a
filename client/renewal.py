"""The renewal of a device's token, in turn by all programs that share its login (`protocol/SPEC.md`, 13.1.3).

The stored login is the one source: each program reads it again, under a lock, before it renews.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from client.errors import HttpRefused, LoginReplaced, RequestRefused
from client.http import STALE, Credentials

RENEW_S: Final = 86400.0
"""A program renews a token once it is a day old, or when half of its life is over if that is earlier."""


class LoginStore(Protocol):
    """The place where the programs of one device keep its login: a file (`client.login.LoginFile`), or memory."""

    def load(self) -> Credentials | None:
        """The login as it is stored now; None if there is none. Needs no lock."""

    def save(self, credentials: Credentials) -> None:
        """Store a login in place of the earlier one; it outlives a crash once this returns. Needs the lock."""

    def locked(self) -> AbstractAsyncContextManager[object]:
        """No other program saves inside the block.

        :raises LoginBusy: if another program has held the lock for too long.
        """


class MemoryLogin:
    """The login of a device that one program uses, and that ends with the program."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = trio.Lock()

    def load(self) -> Credentials | None:
        return self._credentials

    def save(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locked(self) -> AbstractAsyncContextManager[object]:
        return self._lock


def present(store: LoginStore, held: Credentials) -> Credentials:
    """The stored login of the same device; the held one if the store has none."""
    stored = store.load()
    return stored if stored is not None and stored.device == held.device else held


async def renew(
    store: LoginStore, held: Credentials, ask: Callable[[Credentials], Awaitable[Credentials]]
) -> Credentials:
    """Renew the token unless another program has done so; return the credentials that count from now on, stored.

    If this is cancelled, the stored token is still good.

    :param held: the credentials with the token that this program has shown so far.
    :param ask: asks the server for a new token.
    :raises LoginReplaced: if the store no longer has a login of this device: the new token would have no place.
    :raises LoginBusy: as `LoginStore.locked` says.
    """
    async with store.locked():
        stored = store.load()
        if stored is None or stored.device != held.device:
            raise LoginReplaced
        if stored.token != held.token:
            return stored
        try:
            made = await ask(held)
        except (HttpRefused, RequestRefused) as refused:
            # A program that cannot share the lock, on another machine with the same folder, may have renewed meanwhile.
            again = present(store, held)
            if refused.code not in STALE or again.token == held.token:
                raise
            return again
        store.save(made)
        return made
