"""Limits on requests: by the client's address before a request is authenticated, by its user after that.

`server.http.request_classes` has the numbers. Hot reads, and requests without a token or a body, are counted by this
process alone. The exact classes are counted in Redis, for all processes together, and here as well: when Redis is away
or slow, the count of this process goes on, and no request is refused for Redis' sake.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Hashable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

import trio

from server.http.request_classes import LIMITS, Allowance, RequestClass
from server.transport.admission import Rate, TokenBuckets
from server.transport.proxies import address_key
from store.errors import Overloaded
from store.redis.client import Redis
from store.redis.rates import take_token
from store.tokens import token_hash

_Key = TypeVar("_Key", bound=Hashable)

PAUSE_S: Final = 3.0
"""Long enough that 300 connections which do not wait make some 130 requests a second, a tenth of a core; short for a
user who has made too many."""

ALONE_S: Final = 1.0
"""How long a process counts alone after Redis did not answer: of all requests meanwhile none waits for it."""

MAX_BUCKETS: Final = 50_000
"""Addresses or users of one class that are remembered, in 10 MB at most. A bucket is forgotten once it is full."""

MAX_TOKENS: Final = 50_000
"""Good tokens that are remembered, as hashes with their users, in some 11 MB."""

key_of: Final = lru_cache(10_000)(address_key)
"""The key of an address, kept: a hot read takes less time than it takes to parse an address thrice."""


class RateLimited(Exception):
    """A client makes too many requests.

    :ivar wait_s: until the same request may succeed.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many requests; the next one may succeed in {wait_s:.1f} s")
        self.wait_s = wait_s


class Stranger(NamedTuple):
    """A request whose token has yet to be checked.

    :ivar address: the key of its address.
    :ivar token: the hash of its token.
    :ivar user: whose token it was when it was shown last; None if it was not good, or is forgotten.
    """

    address: str
    token: bytes
    user: bytes | None


class _SharedCounts:
    """The counts in Redis.

    :ivar alone_until: by Trio's clock; Redis is not asked before.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.alone_until = 0.0

    async def take(self, bucket: str, rate: Rate) -> float:
        """Take a token: 0.0 if there was one, or Redis does not know; else in how many seconds there will be one."""
        if trio.current_time() < self.alone_until:
            return 0.0
        wait_s = await take_token(self._redis, bucket, interval_s=rate.interval_s, slack_s=rate.slack_s)
        if wait_s is None:
            self.alone_until = trio.current_time() + ALONE_S
        return wait_s or 0.0


def bucket_of_user(request_class: RequestClass, user: bytes) -> str:
    """The name in Redis of the bucket of a user, if the class is counted there (`ClassLimits.is_exact`)."""
    return f"{_of_users(request_class)}:{user.hex()}"


def _of_users(request_class: RequestClass) -> str:
    return f"rate:{request_class.value}:user"


class _Counts(Generic[_Key]):
    """The requests of one class, by address or by user.

    :param name: in Redis; None: this process counts alone.
    """

    def __init__(self, shared: _SharedCounts, allowance: Allowance, factor: float, name: str | None) -> None:
        self._shared = shared
        self._rate = Rate(allowance.per_s * factor, max(1, round(allowance.burst * factor)))
        self._buckets: TokenBuckets[_Key] = TokenBuckets(self._rate, MAX_BUCKETS)
        self._name = name

    def count_here(self, key: _Key) -> None:
        """
        :raises RateLimited: if the bucket of this process is empty.
        """
        wait_s = self._buckets.take(key, trio.current_time())
        if wait_s:
            raise RateLimited(wait_s)

    def give_back(self, key: _Key) -> None:
        self._buckets.give_back(key)

    async def count(self, key: _Key) -> None:
        """
        :raises RateLimited: if this process, or all together, have had too many requests of this key.
        """
        self.count_here(key)
        if self._name is None:
            return
        text = key.hex() if isinstance(key, bytes) else key
        wait_s = await self._shared.take(f"{self._name}:{text}", self._rate)
        if wait_s:
            # The request is not admitted, so it does not count.
            self._buckets.give_back(key)
            raise RateLimited(wait_s)


class Limits:
    """The limits of one process.

    :param factor: that all limits are multiplied by.
    :param pause_s: the most seconds until an answer that a limit is reached, however soon the next request may succeed:
        a client that does not wait makes few requests on each connection.
    """

    def __init__(self, redis: Redis, *, factor: float = 1.0, pause_s: float = PAUSE_S) -> None:
        self._addresses: dict[RequestClass, _Counts[str]] = {}
        self._users: dict[RequestClass, _Counts[bytes]] = {}
        self._pause_s = pause_s
        shared = _SharedCounts(redis)
        for each, limits in LIMITS.items():
            if limits.address is not None:
                name = f"rate:{each.value}:address" if limits.is_exact else None
                self._addresses[each] = _Counts(shared, limits.address, factor, name)
            if limits.user is not None:
                name = _of_users(each) if limits.is_exact else None
                self._users[each] = _Counts(shared, limits.user, factor, name)
        self._strangers = self._addresses[RequestClass.UNAUTHENTICATED]
        self._good_tokens: OrderedDict[bytes, bytes] = OrderedDict()
        """The hashes of tokens that were good when they were shown last, and their users; the oldest first."""
        self._familiar: OrderedDict[str, None] = OrderedDict()
        """Addresses that showed a good token; the oldest first."""

    def count_stranger(self, address: str) -> None:
        """Count a request that no token can admit. Atomic (no checkpoint).

        :raises RateLimited: if this address has had too many requests without a good token.
        """
        self._strangers.count_here(key_of(address))

    def enter(self, address: str, token: str) -> Stranger:
        """Count a request before its token is checked, unless the token was good the last time: what others behind the
        same address do must not keep it out. Then call `admit`, `refuse` or `excuse`. Atomic (no checkpoint).

        :raises RateLimited: if this address has had too many requests without a good token.
        """
        shown = token_hash(token)
        stranger = Stranger(key_of(address), shown, self._good_tokens.get(shown))
        if stranger.user is None:
            self._strangers.count_here(stranger.address)
        return stranger

    def admit(self, stranger: Stranger, user: bytes) -> None:
        """The token is good, and this user's: its request does not count as one of a stranger. Atomic."""
        if stranger.token not in self._good_tokens:
            self._strangers.give_back(stranger.address)
            _remember(self._good_tokens, stranger.token, user, MAX_TOKENS)
        if stranger.address not in self._familiar:
            _remember(self._familiar, stranger.address, None, MAX_BUCKETS)

    def user_of(self, token: str) -> bytes | None:
        """The user of a token that was good when it was shown last; None if it was not, or is forgotten. Atomic."""
        return self._good_tokens.get(token_hash(token))

    def is_familiar(self, address: str) -> bool:
        """Whether this address has shown a good token. Atomic.

        :param address: its key.
        """
        return address in self._familiar

    def refuse(self, stranger: Stranger) -> None:
        """The token is good no longer, or never was. Atomic (no checkpoint)."""
        self._good_tokens.pop(stranger.token, None)

    def excuse(self, stranger: Stranger) -> None:
        """The token could not be checked, for which the client is not to blame. Atomic (no checkpoint)."""
        if stranger.token not in self._good_tokens:
            self._strangers.give_back(stranger.address)

    async def count_address(self, request_class: RequestClass, address: str) -> None:
        """
        :raises RateLimited: if this address has had too many requests of this class.
        """
        await self._addresses[request_class].count(key_of(address))

    async def count_user(self, request_class: RequestClass, user: bytes) -> None:
        """
        :raises RateLimited: if this user has had too many requests of this class.
        """
        await self._users[request_class].count(user)

    def pause_s(self, error: Exception) -> float:
        """Seconds to wait before the answer, if the error is that a limit is reached or a queue full; else 0."""
        if isinstance(error, RateLimited | Overloaded):
            # Not all for the same time: connections that are refused together would come again together.
            return self._pause_s * random.uniform(0.5, 1)  # noqa: S311
        return 0.0


_Value = TypeVar("_Value")


def _remember(known: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Add an entry, and forget the oldest one if they are too many."""
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)
