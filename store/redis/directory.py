"""Which nodes are alive, and which of them holds which user: all in Redis, and rebuilt by the nodes if Redis loses it.

Each bus (`store.redis.buses`) has these keys, and the entries of the users that belong to it:

- `nodes`: sorted set, node -> when its lease ends (ms, by the server's clock). A node beats on every bus each
  `HEARTBEAT_S`: so it notices which of them has lost it, and lives for the others as long as one bus says so. The next
  beat of any node after a lease has ended removes the dead node.
- `writers`: the same for processes that commit changes for clients and hold no clients: nodes notice if they die.
- `directory`: hash, user -> the ids of the nodes that hold a device of this user, joined (8 bytes each).
- `watchers`: the same for the nodes that watch a user's presence.
- `left:NODE`: a node or writer that left in good order, so that the others need not look for pushes it may have lost.

An entry may name a node that is gone; a push to that node finds no stream and has no effect. An entry must never lack a
node that holds the user: a node enters a user before the user's device reads missed messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from store.errors import Unavailable
from store.redis.bus import LEASE_S as LEASE_S
from store.redis.bus import Position, format_position, parse_position, stream_of
from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError, answers
from store.redis.script import Script, ScriptCall

NODE_BYTES: Final = 8

HEARTBEAT_S: Final = 0.5

ALONE_S: Final = 1.0
"""For this time after the beginning of a heartbeat, a process takes the nodes that it found for all nodes: a node that
finds no other looks up no users elsewhere. A node that comes (back) therefore catches up only when this time has passed
since it became visible: all changes that were not written for it were committed before. Two heartbeats, so that one
late heartbeat changes nothing."""

AT_ONCE: Final = 1000
"""One command enters or removes this many users: a script takes Redis a millisecond or two for them."""

NODES: Final = keys_in("nodes")
WRITERS: Final = keys_in("writers")
DIRECTORY: Final = keys_in("directory")
WATCHERS: Final = keys_in("watchers")
_LEFT: Final = keys_in("left:")

_LUA: Final = "store.redis.lua"
_BEAT: Final = Script(_LUA, "beat")
_LIVE: Final = Script(_LUA, "live")
_ENTER: Final = Script(_LUA, "enter")
_LEAVE: Final = Script(_LUA, "leave")


class Beat(NamedTuple):
    """The answer to a heartbeat.

    :ivar nodes: all nodes that are alive, including this one.
    :ivar writers: the processes that are alive and write without being nodes.
    :ivar first: position of the oldest entry in this node's stream; None if the stream is gone.
    :ivar entries: in this node's stream, one of which it has read.
    :ivar new_on: the buses that did not know this node, and know it now: its users are not there.
    :ivar silent: the buses that did not answer.
    """

    nodes: frozenset[bytes]
    writers: frozenset[bytes]
    first: Position | None
    entries: int
    new_on: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()


async def beat(redis: Redis, node: bytes, position: Position) -> Beat:
    """Renew this node's leases, remove dead nodes, and trim the entries that this node has read from its stream.

    :param position: of the last entry that this node has read; it is kept, as proof that nothing before it was lost.
    :raises Unavailable: if no bus answers.
    :raises RedisError: if each answers with an error, such as that the server's memory is full.
    """
    home, first, entries = redis.bus_of(node), b"", 0
    replies = await _beat_each(redis, 1, node, format_position(position), {home: stream_of(redis, node)})
    nodes, writers, new_on = set[bytes](), set[bytes](), list[int]()
    for bus, (some_nodes, some_writers, is_known, *stream) in replies.items():
        nodes.update(some_nodes)
        writers.update(some_writers)
        if not is_known:
            new_on.append(bus)
        if bus == home:
            first, entries = stream
    silent = frozenset(range(redis.buses)).difference(replies)
    at = parse_position(first) if first else None
    return Beat(frozenset(nodes), frozenset(writers), at, entries, frozenset(new_on), silent)


async def beat_writer(redis: Redis, writer: bytes) -> list[bytes]:
    """Renew the leases of a process that writes and is not a node; return the nodes that are alive.

    :raises Unavailable, RedisError: as `beat`.
    """
    replies = await _beat_each(redis, 2, writer, "0-0", {})
    return list({node for nodes, *_ in replies.values() for node in nodes})


async def _beat_each(
    redis: Redis, kind: int, process: bytes, position: str, streams: Mapping[int, bytes]
) -> dict[int, list[Any]]:
    """The answers by their buses, without those that failed."""
    arguments = (kind, process, round(LEASE_S * 1000), position)
    calls = [
        ScriptCall(bus, [NODES[bus], WRITERS[bus], *([streams[bus]] if bus in streams else [])], arguments)
        for bus in range(redis.buses)
    ]
    return answers(await _BEAT.run_each(redis, calls))


async def live_nodes(redis: Redis) -> list[bytes]:
    """The nodes that are alive, for a process that is neither a node nor a writer.

    :raises Unavailable: if Redis cannot be reached.
    """
    replies = await _LIVE.run_each(redis, [ScriptCall(bus, [NODES[bus]], ()) for bus in range(redis.buses)])
    return list({node for nodes in answers(replies).values() for node in nodes})


async def enter(redis: Redis, node: bytes, users: Sequence[bytes]) -> dict[int, Exception]:
    """From now on this node holds devices of these users. Also removes dead nodes from their entries.

    :returns: why users have not been entered, by their buses; empty if all were.
    :raises Unavailable, RedisError: if none of the users was entered.
    """
    return await _enter(redis, DIRECTORY, node, users)


async def leave(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """This node holds no devices of these users any longer.

    :param users: at most `AT_ONCE`: commands that are written before this function waits. A caller that enters a user
        later enters the user after this.
    """
    await _leave(redis, DIRECTORY, node, users)


async def locate(redis: Redis, users: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The nodes that hold each of these users, by one command for each bus.

    :raises Unavailable, RedisError: if that cannot be read for one of the users.
    """
    return _all_of(await locate_some(redis, users))


async def locate_some(redis: Redis, users: Sequence[bytes]) -> list[tuple[bytes, ...] | Exception]:
    """As `locate`; the error itself for each user whose bus does not answer.

    :raises Unavailable, RedisError: if no bus answers.
    """
    return await _locate(redis, DIRECTORY, users)


async def is_held(redis: Redis, user: bytes) -> bool:
    """Whether a node that is alive holds a device of this user."""
    bus = redis.bus_of(user)
    [nodes] = await locate(redis, [user])
    return any([await redis.call("ZSCORE", NODES[bus], node, bus=bus) is not None for node in nodes])


async def enter_watchers(redis: Redis, node: bytes, users: Sequence[bytes]) -> dict[int, Exception]:
    """From now on, notify this node when one of these users comes or goes; as `enter`."""
    return await _enter(redis, WATCHERS, node, users)


async def leave_watchers(redis: Redis, node: bytes, users: Sequence[bytes]) -> None:
    """This node has no watchers of these users any longer; as `leave`."""
    await _leave(redis, WATCHERS, node, users)


async def locate_watchers(redis: Redis, users: Sequence[bytes]) -> list[tuple[bytes, ...] | Exception]:
    """The nodes that watch each of these users; as `locate_some`."""
    return await _locate(redis, WATCHERS, users)


async def _enter(redis: Redis, table: Sequence[bytes], node: bytes, users: Sequence[bytes]) -> dict[int, Exception]:
    failed: dict[int, Exception] = {}
    groups = redis.by_bus(users)
    for start in range(0, max(map(len, groups.values()), default=0), AT_ONCE):
        parts = {bus: some[start : start + AT_ONCE] for bus, some in groups.items() if bus not in failed}
        calls = [ScriptCall(bus, [table[bus], NODES[bus]], [node, *some]) for bus, some in parts.items() if some]
        replies = await _ENTER.run_each(redis, calls)
        failed |= {call.bus: reply for call, reply in zip(calls, replies, strict=True) if isinstance(reply, Exception)}
        if len(failed) == len(groups):
            raise next(iter(failed.values()))
    return failed


async def _leave(redis: Redis, table: Sequence[bytes], node: bytes, users: Sequence[bytes]) -> None:
    assert len(users) <= AT_ONCE
    if users:
        calls = [ScriptCall(bus, [table[bus]], [node, *some]) for bus, some in redis.by_bus(users).items()]
        answers(await _LEAVE.run_each(redis, calls))


async def _locate(redis: Redis, table: Sequence[bytes], users: Sequence[bytes]) -> list[tuple[bytes, ...] | Exception]:
    if not users:
        return []
    if redis.buses == 1:
        return list(map(_split, await redis.call("HMGET", table[0], *users)))
    groups = redis.by_bus(users)
    replies = await redis.spread([(bus, ("HMGET", table[bus], *some)) for bus, some in groups.items()])
    found: dict[bytes, tuple[bytes, ...] | Exception] = {}
    for some, reply in zip(groups.values(), replies, strict=True):
        if isinstance(reply, Exception):
            found.update(dict.fromkeys(some, reply))
        else:
            found.update(zip(some, map(_split, reply), strict=True))
    return [found[user] for user in users]


def _split(held: bytes | None) -> tuple[bytes, ...]:
    return tuple(held[at : at + NODE_BYTES] for at in range(0, len(held), NODE_BYTES)) if held else ()


def _all_of(found: list[tuple[bytes, ...] | Exception]) -> list[tuple[bytes, ...]]:
    nodes = list[tuple[bytes, ...]]()
    for each in found:
        if isinstance(each, Exception):
            raise each
        nodes.append(each)
    return nodes


async def sign_off(redis: Redis, node: bytes) -> None:
    """This node leaves in good order: it has told the others of all that it committed."""
    await _sign_off(redis, NODES, node)
    await redis.call("DEL", stream_of(redis, node), bus=redis.bus_of(node))


async def sign_off_writer(redis: Redis, writer: bytes) -> None:
    """This process leaves in good order: it has told the nodes of all that it committed."""
    await _sign_off(redis, WRITERS, writer)


async def _sign_off(redis: Redis, leases: Sequence[bytes], process: bytes) -> None:
    bus = redis.bus_of(process)
    await redis.call("SET", _LEFT[bus] + process, 1, "EX", 60, bus=bus)
    # Where a lease cannot be removed, it ends by itself.
    answers(await redis.spread([(each, ("ZREM", leases[each], process)) for each in range(redis.buses)]))


async def left_in_good_order(redis: Redis, node: bytes) -> bool:
    """False, too, if Redis does not say."""
    bus = redis.bus_of(node)
    try:
        return bool(await redis.call("EXISTS", _LEFT[bus] + node, bus=bus))
    except (Unavailable, RedisError):
        return False
