"""Pushes to all devices of their users, on this node and on others, by one call.

`push` offers a frame to the connections here (the hub) and queues it for the nodes that hold its other users (the
fan-out); `flush` sends both. A process without connections (`web`) has no hub: there the same call is the fan-out
alone. No other module may call the hub's `push` or the fan-out's `send` (`tests/test_architecture.py`), so no push can
reach the devices of one node only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from protocol.codec import encode
from protocol.frames import Message, Tombstone
from server.delivery.fanout import Fanout
from server.delivery.hub import Hub, HubConnection
from store.redis.entries import AddressedPush


class Broadcast:
    """Everything is synchronous: atomic, and the same in order on all nodes.

    :param hub: the connections of this process; None if it has none.
    """

    __slots__ = ("_fanout", "_hub")

    def __init__(self, fanout: Fanout, hub: Hub | None = None) -> None:
        self._fanout = fanout
        self._hub = hub

    def push(self, push: AddressedPush) -> None:
        """Offer a push to its users' devices on all nodes, with the next `flush`."""
        if self._hub is not None:
            self._hub.push(push)
        self._fanout.send(push)

    def push_here(self, push: AddressedPush) -> None:
        """As `push`, to the devices on this node alone: another node sent the push."""
        assert self._hub is not None
        self._hub.push(push)

    def push_found(self, push: AddressedPush) -> None:
        """As `push_here`, at once: the caller has read the push from Postgres to catch up, and goes on from there."""
        assert self._hub is not None
        self._hub.push_now(push)

    def flush(self) -> None:
        """Send everything that was offered and queued: one system call for each connection, one batch for Redis."""
        if self._hub is not None:
            self._hub.flush()
        self._fanout.flush()

    def recheck_watchers(self, users: Iterable[bytes]) -> None:
        """Have the other nodes check again which users may watch these users' presence.

        This node does not check its own: the rules change in processes without connections alone.
        """
        self._fanout.send_recheck(users)
        self._fanout.flush()

    def miss(self, reason: str, *, since: float) -> None:
        """A change was committed at this time or later, and cannot be pushed: the other nodes are asked to look for
        it."""
        self._fanout.miss(reason, since=since)


def tombstone_of(message: Message | Tombstone) -> Tombstone:
    """What a user sees of a message whom nothing of it may reach."""
    return Tombstone(
        message.conversation,
        message.seq,
        message.message,
        message.created,
        message.sender,
        message.is_quiet,
        quiet_count=message.quiet_count,
    )


def push_of(
    message: Message | Tombstone,
    users: Collection[bytes],
    *,
    seq: int = 0,
    origin: HubConnection | None = None,
    envelopes: Mapping[bytes, bytes] | None = None,
) -> AddressedPush:
    """The push of a message as its sender sees it.

    :param seq: the message's, if the message is new; else 0.
    :param envelopes: device -> its envelope; the message itself has none.
    """
    conversation = message.conversation
    if isinstance(message, Tombstone):
        return AddressedPush(conversation, seq, encode(message), users, origin, cause=message.sender)
    temp_id = message.temp_id
    frame = encode(message if temp_id is None else replace(message, temp_id=None))
    return AddressedPush(
        conversation, seq, frame, users, origin, cause=message.sender, temp_id=temp_id, envelopes=envelopes
    )
