"""Counts of requests and of guesses, which may be lost with Redis: nothing else depends on them.

Each function answers within `REDIS_S`, with None if Redis does not. Each command has one key, on the bus of its
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import trio

from store.errors import Unavailable
from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError
from store.redis.script import Script
from store.redis.servers import Argument

REDIS_S: Final = 0.1
"""The time for Redis to count; it takes a fraction of a millisecond."""

_COUNTS: Final = keys_in("")
_TAKE_TOKEN: Final = Script("store.redis.lua", "take_token")
_ADMIT_GUESS: Final = Script("store.redis.lua", "admit_guess")


class Guess(NamedTuple):
    """What Redis knows of a guess.

    :ivar number: how many guesses were admitted, with this one; 0: it was not admitted.
    :ivar wait_s: until the next one is.
    """

    number: int
    wait_s: float


class Rests(NamedTuple):
    """When an account rests after a guess.

    :ivar free: guesses until the first rest.
    :ivar first_s: the first rest; each further one is twice as long.
    :ivar most_s: the longest rest.
    :ivar kept_s: after so many seconds without a guess the account is forgotten.
    """

    free: int
    first_s: float
    most_s: float
    kept_s: float

    def after(self, guesses: int) -> float:
        """Seconds of rest after this many guesses."""
        return min(self.first_s * 2.0 ** (guesses - self.free), self.most_s) if guesses >= self.free else 0.0


async def take_token(redis: Redis, bucket: str, *, interval_s: float, slack_s: float) -> float | None:
    """Take a token out of a bucket that all processes share.

    :param interval_s: until a token is added.
    :param slack_s: until a whole burst but one is added.
    :returns: 0.0 if a token was taken, else in how many seconds there will be one.
    """
    wait_us = await _answer(redis, _TAKE_TOKEN, bucket, [round(interval_s * 1e6), round(slack_s * 1e6)])
    return None if wait_us is None else wait_us / 1e6


async def admit_guess(redis: Redis, account: str, rests: Rests) -> Guess | None:
    """Count a guess of a password, if it is admitted."""
    times = [round(each * 1000) for each in (rests.first_s, rests.most_s, rests.kept_s)]
    answer = await _answer(redis, _ADMIT_GUESS, account, [rests.free, *times])
    return None if answer is None else Guess(answer[0], answer[1] / 1000)


async def forget_guesses(redis: Redis, account: str) -> None:
    """The password was right: no guess counts any longer. Without Redis they are forgotten later."""
    with trio.move_on_after(REDIS_S), suppress(Unavailable, RedisError):
        key, bus = _placed(redis, account)
        await redis.call("DEL", key, bus=bus)


async def seconds_until_full(redis: Redis, bucket: str) -> float:
    """In how many seconds a bucket that `take_token` counts will be full again; 0.0: it is full.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    (seconds, micros), full_at = await _both(redis, bucket, "GET")
    return max(0.0, int(full_at or 0) / 1e6 - int(seconds) - int(micros) / 1e6)


async def guesses_made(redis: Redis, account: str) -> tuple[int, float]:
    """How many guesses of an account count now, and in how many seconds the next one is admitted.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    (seconds, micros), (guesses, next_ms) = await _both(redis, account, "HMGET", "guesses", "next")
    return int(guesses or 0), max(0.0, int(next_ms or 0) / 1e3 - int(seconds) - int(micros) / 1e6)


async def _both(redis: Redis, name: str, command: str, *arguments: Argument) -> tuple[Any, Any]:
    """The time by the clock of the server that has the key, and the reply to a command."""
    key, bus = _placed(redis, name)
    time, reply = await redis.pipeline([("TIME",), (command, key, *arguments)], bus=bus)
    for each in (time, reply):
        if isinstance(each, RedisError):
            raise each
    return time, reply


async def _answer(redis: Redis, script: Script, name: str, arguments: Sequence[Argument]) -> Any:
    key, bus = _placed(redis, name)
    with trio.move_on_after(REDIS_S):
        try:
            return await script.run(redis, [key], arguments, bus=bus)
        except (Unavailable, RedisError):
            return None
    return None


def _placed(redis: Redis, name: str) -> tuple[bytes, int]:
    """The key of a bucket or an account, and its bus."""
    encoded = name.encode()
    bus = redis.bus_of(encoded)
    return _COUNTS[bus] + encoded, bus
