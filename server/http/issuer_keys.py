"""The keys of an external issuer, kept: they are fetched once for all requests that need them, and seldom.

One task fetches (`IssuerKeys.run`), so no client that hangs up ends the fetch that others wait for. Whatever ids of
keys tokens name, there is at most one fetch in `REFETCH_S`. While the issuer is away, the keys that it had go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import structlog
import trio

from server.http.key_set import IssuerKey, IssuerUnavailable, KeySet

log = structlog.get_logger(__name__)

FRESH_S: Final = 600.0
"""Older keys are fetched again by the next login, which does not wait for that. A key that the issuer has withdrawn
counts for so long, or until the fetch after that."""

STALE_S: Final = 86400.0
"""Older keys do not count: the issuer may have withdrawn them long ago."""

REFETCH_S: Final = 10.0
"""From the end of a fetch to the next one: a token with an unknown key may be the first of a new key, or made up."""


class IssuerKeys:
    """`run` has to run.

    :param fetch: raises `IssuerUnavailable`, and has a deadline.
    """

    def __init__(self, fetch: Callable[[], Awaitable[KeySet]]) -> None:
        self._fetch = fetch
        self._keys: KeySet = {}
        self._fetched = -inf
        self._tried = -inf
        self._wanted = trio.Event()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Fetch the keys whenever they are wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                self._keys = await self._fetch()
                self._fetched = trio.current_time()
            except IssuerUnavailable as error:
                log.warning("issuer_keys_not_fetched", error=str(error))
            self._tried = trio.current_time()
            ended = self._ended
            self._wanted, self._ended = trio.Event(), trio.Event()
            ended.set()

    async def key(self, kid: str) -> IssuerKey | None:
        """The key with this id; None if the issuer has none.

        :raises IssuerUnavailable: if no keys are known that count.
        """
        age_s = self._age_s()
        found = self._found(kid)
        if found is None or age_s > FRESH_S:
            self._want()
        if found is None and self._wanted.is_set():
            await self._ended.wait()
            found = self._found(kid)
        if found is None and self._age_s() > STALE_S:
            raise IssuerUnavailable("the issuer's keys could not be fetched")
        return found

    def _age_s(self) -> float:
        return trio.current_time() - self._fetched

    def _found(self, kid: str) -> IssuerKey | None:
        return self._keys.get(kid) if self._age_s() <= STALE_S else None

    def _want(self) -> None:
        """Have the keys fetched, unless that was tried a moment ago. Atomic (no checkpoint)."""
        if trio.current_time() - self._tried >= REFETCH_S:
            self._wanted.set()
