"""Questions of operators to nodes, and their answers: what a node holds now, which no table says.

A question is an entry in the streams of the nodes (`NodeQuestion`), with a random id. Each node appends its answer to
`answers:ID` on the bus of that id, a list that expires soon. A node that is gone, or whose event loop is stalled, does
not answer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct

from store.redis.bus import publish, stream_of
from store.redis.buses import keys_in
from store.redis.client import Redis, RedisError, answers
from store.redis.directory import NODES
from store.redis.entries import encode_drain_request, encode_question
from store.redis.servers import Command

ANSWER_S: Final = 2.0
"""How long to wait for the answers. A node reads its stream at once; one with a late event loop within a second."""

KEPT_S: Final = 30
"""How long Redis keeps answers that no asker takes any longer."""

_ANSWERS: Final = keys_in("answers:")


class ConnectionState(Struct, frozen=True, array_like=True):
    """A connection, as its node knows it. Without address and content.

    :ivar client: name and version, as the node counts it; None before the welcome.
    :ivar connected_s: since it was entered into the directory.
    :ivar silent_s: since the client's last bytes.
    :ivar waiting_bytes: in its outbox.
    :ivar is_lagging: it reads too slowly: pushes are dropped until its `sync`.
    :ivar in_flight: requests that wait for a reply.
    """

    user: bytes
    device: bytes
    client: str | None
    connected_s: float
    silent_s: float
    waiting_bytes: int
    is_lagging: bool
    in_flight: int


class UserState(Struct, frozen=True, array_like=True):
    """What a node counts for a user.

    :ivar connections: of the user, of `most_connections` that the user may have on one node.
    :ivar used: of the budget, from 0.0 to 1.0; above that the user is in debt.
    :ivar debt_s: in how many seconds the user may send requests again; 0.0: now.
    """

    user: bytes
    connections: int
    most_connections: int
    used: float
    debt_s: float


class NodeState(Struct, frozen=True, array_like=True):
    """A node, as it describes itself.

    :ivar host, pid, port: where the process runs and listens.
    :ivar up_s: since it began to listen.
    :ivar connections: open ones, greeted or not; `users` of the welcomed ones.
    :ivar clients: connections by the names of their clients.
    :ivar lagging: connections that read too slowly.
    :ivar waiting_bytes: in all outboxes.
    :ivar queued_sends: sends that wait for a commit.
    :ivar read_ms: the time of the last entry of its stream that it has read, by Redis' clock.
    :ivar catch_ups: requested since its start.
    :ivar fault: why it is not ready; empty if it is.
    """

    node: bytes
    host: str
    pid: int
    port: int
    up_s: float
    connections: int
    users: int
    clients: dict[str, int]
    lagging: int
    waiting_bytes: int
    in_flight: int
    queued_sends: int
    read_ms: int
    catch_ups: int
    fault: str
    held: list[ConnectionState]
    budgets: list[UserState]


class NodeLease(Struct, frozen=True):
    """What Redis knows of a node.

    :ivar lease_s: until it counts as dead; below 0: it does, and another node's next heartbeat removes it.
    :ivar entries: of its stream; of those it has read one. None: the stream is gone.
    :ivar newest_ms: the time of the newest entry, by Redis' clock.
    """

    node: bytes
    lease_s: float
    entries: int | None
    newest_ms: int


async def leases(redis: Redis) -> list[NodeLease]:
    """All nodes that Redis knows, also those whose lease has ended, in the order of their ids.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    ends_s: dict[bytes, float] = {}
    asked = [(bus, command) for bus in range(redis.buses) for command in (("TIME",), _leases_on(bus))]
    replies = await redis.spread(asked)
    answers(replies)
    for time, found in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(time, Exception) or isinstance(found, Exception):
            continue
        now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
        for node, end_ms in zip(found[::2], found[1::2], strict=True):
            # A node lives as long as one bus says so.
            ends_s[node] = max(ends_s.get(node, -math.inf), (float(end_ms) - now_ms) / 1000)
    made = []
    for node in sorted(ends_s):
        stream = stream_of(redis, node)
        exists, entries, newest = await _all(
            redis,
            [("EXISTS", stream), ("XLEN", stream), ("XREVRANGE", stream, "+", "-", "COUNT", 1)],
            redis.bus_of(node),
        )
        newest_ms = int(newest[0][0].partition(b"-")[0]) if newest else 0
        made.append(NodeLease(node, ends_s[node], entries if exists else None, newest_ms))
    return made


def _leases_on(bus: int) -> Command:
    return ("ZRANGE", NODES[bus], 0, -1, "WITHSCORES")


async def _all(redis: Redis, commands: Sequence[Command], bus: int) -> list[Any]:
    replies = await redis.pipeline(commands, bus=bus)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


async def ask_nodes(
    redis: Redis, nodes: Sequence[bytes], users: Sequence[bytes] = (), *, wait_s: float = ANSWER_S
) -> dict[bytes, NodeState]:
    """The states of those nodes that answer in time.

    :param users: whose connections and budgets the answers describe one by one.
    :raises Unavailable, RedisError: if Redis does not answer.
    """
    if not nodes:
        return {}
    question = os.urandom(16)
    bus = redis.bus_of(question)
    refused = await publish(redis, [(node, encode_question(question, users)) for node in nodes])
    waited, found = len(nodes) - len(refused), dict[bytes, NodeState]()
    with trio.move_on_after(wait_s):
        async with redis.blocking(bus) as call:
            while len(found) < waited:
                reply = await call("BLPOP", _ANSWERS[bus] + question, 1, wait_s=1)
                if reply:
                    state = msgspec.msgpack.decode(reply[1], type=NodeState)
                    found[state.node] = state
    return found


async def answer_question(redis: Redis, question: bytes, state: NodeState) -> None:
    """
    :raises Unavailable, RedisError: if Redis does not take it.
    """
    bus = redis.bus_of(question)
    key = _ANSWERS[bus] + question
    await _all(redis, [("RPUSH", key, msgspec.msgpack.encode(state)), ("EXPIRE", key, KEPT_S)], bus)


async def ask_to_drain(redis: Redis, node: bytes) -> bool:
    """Have a node stop, as SIGTERM does; false if it has no stream, and so cannot hear it.

    :raises Unavailable, RedisError: if Redis does not answer.
    """
    entry = encode_drain_request()
    return bool(
        await redis.call("XADD", stream_of(redis, node), "NOMKSTREAM", "*", b"d", entry, bus=redis.bus_of(node))
    )
