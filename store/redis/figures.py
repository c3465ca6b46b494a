"""Figures that the processes share with operators who look: a hash in Redis, which is empty while no operator looks.

Both keys are on the first bus.

- `ops:watched`: exists while an operator looks at the operations page, and for `WATCHED_S` after that.
- `ops:figures`: hash, the id of a process -> its latest figures. Redis removes it `KEPT_S` after the last write.

So a process pays one look at a key each `SHARE_S`, and the figures of all machines come together without an open port.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError
from store.redis.servers import Command

SHARE_S: Final = 2.0
"""How often a process shares its figures while an operator looks."""

WATCHED_S: Final = 15
"""How long the processes go on after an operator's last look: browsers slow down pages in the background."""

KEPT_S: Final = 6
"""Figures that are older are not shown: three writes were missed, so the process is gone, stuck or without Redis."""

_WATCHED: Final = keys_in("ops:watched")[0]
FIGURES: Final = keys_in("ops:figures")[0]


class SharedFigures(Struct, frozen=True, array_like=True):
    """The figures of one process.

    :ivar id: as its log lines have it: of a node, a writer or a worker.
    :ivar process: "web", "socket" or "worker".
    :ivar host, pid: where it runs.
    :ivar at_ms: when, by Redis' clock.
    :ivar window_s: the time before, which `counts` and `buckets` are of; 0.0: the operator has just begun to look.
    :ivar fault: why the process is not ready; empty if it is.
    :ivar gauges: metric and labels, joined with spaces -> the value now.
    :ivar counts: the same -> how much a counter has grown in that time.
    :ivar buckets: the same -> how many values of a distribution came into each bucket of `SECONDS`, and their sum.
    """

    id: str
    process: str
    host: str
    pid: int
    at_ms: int
    window_s: float
    fault: str
    gauges: dict[str, float]
    counts: dict[str, float]
    buckets: dict[str, tuple[list[int], float]]


async def watched_at(redis: Redis) -> int | None:
    """The time by Redis' clock in milliseconds, if an operator looks.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    now, watched = await _all(redis, [("TIME",), ("EXISTS", _WATCHED)])
    return _milliseconds(now) if watched else None


async def share(redis: Redis, figures: SharedFigures) -> None:
    """
    :raises Unavailable, RedisError: if Redis does not take them.
    """
    body = msgspec.msgpack.encode(figures)
    await _all(redis, [("HSET", FIGURES, figures.id, body), ("PEXPIRE", FIGURES, KEPT_S * 1000)])


async def look(redis: Redis) -> list[SharedFigures]:
    """The figures of all processes that have shared some in the last `KEPT_S`, and the notice that an operator looks.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    _, now, found = await _all(redis, [("SET", _WATCHED, 1, "EX", WATCHED_S), ("TIME",), ("HGETALL", FIGURES)])
    oldest = _milliseconds(now) - KEPT_S * 1000
    shared, ended = [], []
    for id, body in zip(found[::2], found[1::2], strict=True):
        figures = msgspec.msgpack.decode(body, type=SharedFigures)
        if figures.at_ms >= oldest:
            shared.append(figures)
        else:
            ended.append(id)
    if ended:
        await redis.call("HDEL", FIGURES, *ended)
    return sorted(shared, key=lambda each: (each.process, each.host, each.id))


def _milliseconds(now: list[bytes]) -> int:
    return int(now[0]) * 1000 + int(now[1]) // 1000


async def _all(redis: Redis, commands: list[Command]) -> list[Any]:
    replies = await redis.pipeline(commands)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies
