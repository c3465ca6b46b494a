"""Several gateways on one Postgres and one Redis, and users who chat through them during a fault."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import redis
import trio

from client.connection import connect
from client.http import Credentials
from client.session import Session, open_session
from client.signs import Sign
from protocol.frames import Message, Presence, Push, Sent
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.buses import keys_in
from store.redis.directory import DIRECTORY, NODES
from tests.faults import masters_of
from tests.processes import Cluster, Process
from tests.waiting import let_pass, wait_until

ACKED_S = 30.0
"""After a fault is over: until every send is acknowledged and every session has everything, back-off included."""

PUSHED_S = 10.0
"""After a fault is over: until the nodes have pushed all messages by themselves."""


class Node(NamedTuple):
    """A gateway that listens.

    :ivar id: its 8 bytes in Redis.
    """

    process: Process
    url: str
    id: bytes

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


async def start_node(cluster: Cluster, *, port: int = 0, module: str = "server", **settings: str) -> Node:
    """A gateway after its start, when it has done its first look for missed messages, a second later.

    Otherwise that look would push messages whose way a test checks.
    """
    process, url = await cluster.start_socket(port=port, module=module, **settings)
    line = await process.wait_event("listening")
    await process.wait_event("caught_up")
    return Node(process, url, bytes.fromhex(line["node"]))


async def start_nodes(cluster: Cluster, count: int) -> list[Node]:
    """This many gateways, started at the same time."""
    nodes: dict[int, Node] = {}

    async def start(number: int) -> None:
        nodes[number] = await start_node(cluster)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(start, number)
    return [nodes[number] for number in range(count)]


class InsistentSenders:
    """Each of some sessions sends to a conversation, one message after the other, and insists until it is acked.

    :ivar acks: by content.
    """

    def __init__(self, conversation: bytes, sessions: Sequence[Session], pace_s: float) -> None:
        self.conversation = conversation
        self.acks: dict[bytes, Sent] = {}
        self._sessions = sessions
        self._pace_s = pace_s
        self._is_over = False

    async def wait_acks(self, count: int) -> None:
        """Wait until each session has this many further acks."""
        goals = {number: self.acked(number) + count for number in range(len(self._sessions))}
        await wait_until(
            lambda: all(self.acked(number) >= goal for number, goal in goals.items()),
            f"{count} more acks for each of {len(goals)}",
            timeout_s=ACKED_S,
        )

    def acked(self, number: int) -> int:
        return sum(content.startswith(b"%d:" % number) for content in self.acks)

    async def run(self) -> None:
        # A node keeps the order of a conversation from the first message on that it hears of: so all hear of one first.
        self.acks[b"0:begin"] = await self._sessions[0].send(self.conversation, b"0:begin")
        for session in self._sessions:
            await wait_until(lambda session=session: session.mailbox.up_to(self.conversation), "the first message")  # type: ignore[misc]
        async with trio.open_nursery() as nursery:
            for number in range(len(self._sessions)):
                nursery.start_soon(self._send, number)

    async def _send(self, number: int) -> None:
        turn = 0
        while not self._is_over:
            content = b"%d:%d" % (number, turn)
            # A fault may take longer than a client waits by default.
            self.acks[content] = await self._sessions[number].send(self.conversation, content, timeout_s=math.inf)
            turn += 1
            await let_pass(self._pace_s, why="the pace of the chat")

    def stop(self) -> None:
        """Stop sending; `run` ends when all messages are acknowledged."""
        self._is_over = True

    async def verify(self, pool: Pool, sessions: Sequence[Session]) -> None:
        """Postgres and each session's log hold exactly the acked messages, once each, in one order."""
        stored = await pool.fetch(
            "select seq, id, content, (extract(epoch from created) * 1000000)::bigint from messages"
            " where conversation_id = %s order by seq",
            (uuid(self.conversation),),
        )
        assert [row[0] for row in stored] == list(range(1, len(self.acks) + 1)), "seq has gaps, or a send came twice"
        assert {content: (seq, message) for seq, message, content, _ in stored} == {
            content: (ack.seq, ack.message) for content, ack in self.acks.items()
        }
        created = [row[3] for row in stored]
        assert created == sorted(created), "`created` goes back"
        for number, session in enumerate(sessions):
            await wait_until(
                lambda session=session: session.mailbox.up_to(self.conversation) >= len(stored),  # type: ignore[misc]
                f"all messages at session {number}",
                timeout_s=ACKED_S,
            )
            with trio.fail_after(ACKED_S):
                await session.wait_caught_up()
            log = [entry for entry in session.mailbox.log if entry.conversation == self.conversation]
            assert [(entry.seq, entry.message) for entry in log] == [row[:2] for row in stored], f"session {number}"


@asynccontextmanager
async def talking(
    conversation: bytes, sessions: Sequence[Session], *, pace_s: float
) -> AsyncGenerator[InsistentSenders]:
    """Users chat from before the block until it ends; then every send is acknowledged."""
    senders = InsistentSenders(conversation, sessions, pace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(senders.run)
        await senders.wait_acks(3)
        yield senders
        await senders.wait_acks(3)
        senders.stop()
        nursery.cancel_scope.deadline = trio.current_time() + ACKED_S
    assert not nursery.cancel_scope.cancelled_caught, "a send was not acknowledged"


@asynccontextmanager
async def listening(node: Node, person: Credentials) -> AsyncGenerator[list[Message]]:
    """The messages that the node pushes to a bare connection, which fetches nothing by itself and waits for ever."""
    pushes: list[Message] = []

    async def on_push(push: Push) -> None:
        if isinstance(push, Message):
            pushes.append(push)

    async with connect(node.url, person.token, on_push=on_push, keep_alive_s=math.inf):
        yield pushes


async def wait_pushed(pushes: Sequence[Message], conversation: bytes, upto: int, *, where: str) -> None:
    """Wait until all messages up to a seq have been pushed; each must be pushed once, in order."""
    everything = list(range(1, upto + 1))
    await wait_until(
        lambda: set(seqs(pushes, conversation)) >= set(everything), f"all pushes {where}", timeout_s=PUSHED_S
    )
    assert seqs(pushes, conversation) == everything, f"each message comes once and in order {where}"


def seqs(pushes: Sequence[Message], conversation: bytes) -> list[int]:
    return [push.seq for push in pushes if push.conversation == conversation]


class Watcher(NamedTuple):
    """A session, and the presence of the users that it watches.

    :ivar changes: the changes of presence, as pairs (user, whether online), in order.
    """

    session: Session
    changes: list[tuple[bytes, bool]]

    async def wait_seen(self, user: bytes, *, is_online: bool, timeout_s: float) -> None:
        """Wait until this is the last known presence of the user."""
        await wait_until(
            lambda: dict(self.changes).get(user) is is_online,
            f"seen {'online' if is_online else 'offline'}",
            timeout_s=timeout_s,
        )


@asynccontextmanager
async def watching(nodes: Sequence[Node], person: Credentials, *watched: Credentials) -> AsyncGenerator[Watcher]:
    """A session that has caught up and watches others."""
    changes: list[tuple[bytes, bool]] = []

    def on_sign(sign: Sign) -> None:
        if isinstance(sign, Presence):
            changes.append((sign.user, sign.is_online))

    async with open_session([node.url for node in nodes], person, on_sign=on_sign) as session:
        with trio.fail_after(ACKED_S):
            await session.wait_caught_up()
        session.watch([each.user for each in watched])
        yield Watcher(session, changes)


class RedisView:
    """The keys of the nodes in Redis, read by an observer: on one server, several, or a cluster."""

    def __init__(self, url: str) -> None:
        self._clients = [redis.Redis(host, port) for host, port in masters_of(url)]

    def __enter__(self) -> RedisView:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def leased(self) -> set[bytes]:
        """The nodes with a lease, ended or not."""
        return {node for found in self._each(NODES, "ZRANGE", 0, -1) for node in found}

    def has_stream(self, node: Node) -> bool:
        return any(self._each([stream + node.id for stream in keys_in("bus:")], "EXISTS"))

    def holders(self, user: bytes) -> set[bytes]:
        """The nodes that the directory names for a user."""
        held = b"".join(each or b"" for each in self._each(DIRECTORY, "HGET", user))
        return {held[at : at + 8] for at in range(0, len(held), 8)}

    def is_whole(self, nodes: Sequence[Node], users: Sequence[tuple[Credentials, Node]]) -> bool:
        """Whether these nodes and no others live, each with its stream and its users."""
        return (
            self.leased() == {node.id for node in nodes}
            and all(map(self.has_stream, nodes))
            and all(node.id in self.holders(person.user) for person, node in users)
        )

    def _each(self, keys: Sequence[bytes], command: str, *arguments: Any) -> Iterator[Any]:
        """The replies about the keys of all buses, by the servers that have them."""
        for client in self._clients:
            for key in keys:
                with suppress(redis.ResponseError):  # MOVED: another server has it
                    yield client.execute_command(command, key, *arguments)
