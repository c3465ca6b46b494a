"""Messages between nodes: one Redis stream for each node, which that node alone creates and reads.

A writer never creates a stream (NOMKSTREAM): an entry for a node that is gone vanishes and takes no memory. A stream
goes with the lease of its node, and is bounded. A node that fell so far behind that Redis cut off entries notices by
the first entry of its stream, which it keeps until it has read a later one (`store.redis.directory.beat`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from store.errors import Unavailable
from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError

Position: TypeAlias = tuple[int, int]
"""The id of a stream entry: milliseconds by Redis' clock, and a counter."""

LEASE_S: Final = 5.0
"""Ten heartbeats: a node may miss them, for a slow disk or a long garbage collection, before it counts as dead."""

MAX_ENTRIES: Final = 10_000
"""Entries that one node's stream keeps, about. A node writes one entry per batch of pushes: at 500 a second, 20 s."""

BLOCK_MS: Final = 1000
"""A blocked read that would never return (its stream was flushed, Redis' clock jumped) ends after this time."""

MAX_READ: Final = 16
"""Entries of one read: 8 MB at most, since a batch of pushes has 512 KB (`server.delivery.fanout`)."""


_STREAMS: Final = keys_in("bus:")


def stream_of(redis: Redis, node: bytes) -> bytes:
    return _STREAMS[redis.bus_of(node)] + node


def parse_position(entry_id: bytes) -> Position:
    ms, _, counter = entry_id.partition(b"-")
    return int(ms), int(counter)


def format_position(position: Position) -> str:
    ms, counter = position
    return f"{ms}-{counter}"


class Inbox:
    """The stream of this node, for its reader.

    :ivar position: of the last entry that was read.
    """

    def __init__(self, redis: Redis, node: bytes) -> None:
        self._redis = redis
        self._bus = redis.bus_of(node)
        self._stream = stream_of(redis, node)
        self.position: Position = (0, 0)

    async def open(self) -> None:
        """Create a new stream with one entry that marks its beginning; reading continues from there.

        :raises Unavailable: if Redis cannot be reached.
        """
        _, entry_id, _ = await self._redis.pipeline(
            [
                ("DEL", self._stream),
                ("XADD", self._stream, "*", "epoch", os.urandom(8)),
                # From now on heartbeats put off its end.
                ("PEXPIRE", self._stream, round(LEASE_S * 1000)),
            ],
            bus=self._bus,
        )
        if isinstance(entry_id, RedisError):
            raise entry_id
        self.position = parse_position(entry_id)

    async def follow(self, handle: Callable[[list[bytes]], Awaitable[object]]) -> None:
        """Pass on entries in order, several at a time. Ends only by an error or a cancellation.

        :raises Unavailable: when the connection to Redis is lost. Follow again once it is back.
        """
        async with self._redis.blocking(self._bus) as call:
            read = ("XREAD", "COUNT", MAX_READ, "BLOCK", BLOCK_MS, "STREAMS", self._stream)
            while True:
                reply = await call(*read, format_position(self.position), wait_s=BLOCK_MS / 1000)
                if reply:
                    await handle(self._take(reply[0][1]))

    def _take(self, entries: list[Any]) -> list[bytes]:
        taken = []
        for entry_id, fields in entries:
            self.position = parse_position(entry_id)
            if fields[0] == b"d":
                taken.append(fields[1])
        return taken


async def publish(redis: Redis, entries: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Write to other nodes' streams.

    :param entries: pairs (node, entry).
    :returns: the nodes that have not got their entry, since Redis refused it (memory full), or the server of their
        stream cannot be reached: they must be told to catch up.
    :raises Unavailable: if no server of these streams can be reached. Some entries may have been written; all nodes
        must be told to catch up.
    """
    commands = [
        (
            redis.bus_of(node),
            ("XADD", stream_of(redis, node), "NOMKSTREAM", "MAXLEN", "~", MAX_ENTRIES, "*", b"d", entry),
        )
        for node, entry in entries
    ]
    replies = await redis.spread(commands)
    return [
        node for (node, _), reply in zip(entries, replies, strict=True) if isinstance(reply, (RedisError, Unavailable))
    ]
