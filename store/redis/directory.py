"""Which nodes are alive, and which of them holds which user: all in Redis, and rebuilt by the nodes if Redis loses it.

- `alo:nodes`: sorted set, node -> when its lease ends (ms, by Redis' clock). A node beats every `HEARTBEAT_S`; the next
  beat of any node after a lease has ended removes the dead node and its stream.
- `alo:writers`: the same for processes that commit changes for clients and hold no clients: nodes notice if they die.
- `alo:directory`: hash, user -> the ids of the nodes that hold a device of this user, joined (8 bytes each).
- `alo:watchers`: the same for the nodes that watch a user's presence.
- `alo:left:NODE`: a node or writer that left in good order, so that the others need not look for pushes it may have
lost.

An entry may name a node that is gone; a push to that node finds no stream and has no effect. An entry must never lack a
node that holds the user: a node enters a user before the user's device reads missed messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from store.redis.bus import Position, format_position, parse_position, stream_of
from store.redis.client import Redis, RedisError

NODE_BYTES: Final = 8

HEARTBEAT_S: Final = 0.5
LEASE_S: Final = 5.0
"""Ten heartbeats: a node may miss them, for a slow disk or a long garbage collection, before it counts as dead."""

AT_ONCE: Final = 1000
"""One command enters or removes this many users: a script takes Redis a millisecond or two for them."""

_NODES: Final = "alo:nodes"
_WRITERS: Final = "alo:writers"
_DIRECTORY: Final = "alo:directory"
_WATCHERS: Final = "alo:watchers"

_BEAT: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now)
for _, node in ipairs(gone) do
  redis.call('ZREM', KEYS[1], node)
  if node ~= ARGV[1] then redis.call('DEL', 'alo:bus:' .. node) end
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. now)
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
local nodes, writers = redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[3], 0, -1)
return {nodes, writers, first[1] and first[1][1] or '', redis.call('XLEN', KEYS[2])}
"""

_BEAT_WRITER: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf')
"""

_LIVE_NODES: Final = """
local t = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), '+inf')
"""

_ENTER: Final = """
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local kept = ARGV[1]
  for at = 1, #held, 8 do
    local node = string.sub(held, at, at + 7)
    if node ~= ARGV[1] and redis.call('ZSCORE', KEYS[2], node) then kept = kept .. node end
  end
  redis.call('HSET', KEYS[1], ARGV[i], kept)
end
return #ARGV - 1
"""

_LEAVE: Final = """
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local kept = ''
  for at = 1, #held, 8 do
    local node = string.sub(held, at, at + 7)
    if node ~= ARGV[1] then kept = kept .. node end
  end
  if kept == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], kept) end
end
return #ARGV - 1
"""


class Beat(NamedTuple):
    """The answer to a heartbeat.

    :ivar nodes: all nodes that are alive, including this one.
    :ivar writers: the processes that are alive and write without being nodes.
    :ivar first: position of the oldest entry in this node's stream; None if the stream is gone.
    :ivar entries: in this node's stream, one of which it has read.
    """

    nodes: frozenset[bytes]
    writers: frozenset[bytes]
    first: Position | None
    entries: int


async def beat(redis: Redis, node: bytes, position: Position) -> Beat:
    """Renew this node's lease, remove dead nodes, and trim the entries that this node has read from its stream.

    :param position: of the last entry that this node has read; it is kept, as proof that nothing before it was lost.
    :raises Unavailable: if Redis cannot be reached.
    """
    stream = stream_of(node)
    lease_ms = int(LEASE_S * 1000)
    arguments = (node, lease_ms, format_position(position))
    nodes, writers, first, entries = await redis.call("EVAL", _BEAT, 3, _NODES, stream, _WRITERS, *arguments)
    return Beat(frozenset(nodes), frozenset(writers), parse_position(first) if first else None, entries)


async def beat_writer(redis: Redis, writer: bytes) -> list[bytes]:
    """Renew the lease of a process that writes and is not a node; return the nodes that are alive.

    :raises Unavailable: if Redis cannot be reached.
    """
    nodes = await redis.call("EVAL", _BEAT_WRITER, 2, _WRITERS, _NODES, writer, int(LEASE_S * 1000))
    return list(nodes)


async def live_nodes(redis: Redis) -> list[bytes]:
    """The nodes that are alive, for a process that is neither a node nor a writer.

    :raises Unavailable: if Redis cannot be reached.
    """
    return list(await redis.call("EVAL", _LIVE_NODES, 1, _NODES))


async def enter(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """From now on this node holds devices of these users. Also removes dead nodes from their entries."""
    await _enter(redis, _DIRECTORY, node, users)


async def leave(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """This node holds no devices of these users any longer.

    :param users: at most `AT_ONCE`: one command, which is written before this function waits. A caller that enters a
        user later enters the user after this.
    """
    await _leave(redis, _DIRECTORY, node, users)


async def locate(redis: Redis, users: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The nodes that hold each of these users, in one command."""
    return await _locate(redis, _DIRECTORY, users)


async def is_held(redis: Redis, user: bytes) -> bool:
    """Whether a node that is alive holds a device of this user."""
    [nodes] = await locate(redis, [user])
    return any([await redis.call("ZSCORE", _NODES, node) is not None for node in nodes])


async def enter_watchers(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """From now on, notify this node when one of these users comes or goes."""
    await _enter(redis, _WATCHERS, node, users)


async def leave_watchers(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """This node has no watchers of these users any longer; as `leave`."""
    await _leave(redis, _WATCHERS, node, users)


async def locate_watchers(redis: Redis, users: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The nodes that watch each of these users, in one command."""
    return await _locate(redis, _WATCHERS, users)


async def _enter(redis: Redis, table: str, node: bytes, users: Sequence[bytes]) -> None:
    for start in range(0, len(users), AT_ONCE):
        await redis.call("EVAL", _ENTER, 2, table, _NODES, node, *users[start : start + AT_ONCE])


async def _leave(redis: Redis, table: str, node: bytes, users: Sequence[bytes]) -> None:
    assert len(users) <= AT_ONCE
    if users:
        await redis.call("EVAL", _LEAVE, 1, table, node, *users)


async def _locate(redis: Redis, table: str, users: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    if not users:
        return []
    entries = await redis.call("HMGET", table, *users)
    return [
        tuple(held[at : at + NODE_BYTES] for at in range(0, len(held), NODE_BYTES)) if held else () for held in entries
    ]


async def sign_off(redis: Redis, node: bytes) -> None:
    """This node leaves in good order: it has told the others of all that it committed."""
    replies = await redis.pipeline(
        [
            ("SET", b"alo:left:" + node, 1, "EX", 60),
            ("ZREM", _NODES, node),
            ("DEL", stream_of(node)),
        ]
    )
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply


async def sign_off_writer(redis: Redis, writer: bytes) -> None:
    """This process leaves in good order: it has told the nodes of all that it committed."""
    for reply in await redis.pipeline([("SET", b"alo:left:" + writer, 1, "EX", 60), ("ZREM", _WRITERS, writer)]):
        if isinstance(reply, RedisError):
            raise reply


async def left_in_good_order(redis: Redis, node: bytes) -> bool:
    return bool(await redis.call("EXISTS", b"alo:left:" + node))
