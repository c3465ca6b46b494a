"""How long deliveries take: from a message's commit to the delivered mark of a device that was connected all the time.

Of every `SAMPLE`th new message that is pushed here one connection is chosen, and its next mark that passes the message
is waited for. The time between is that of Postgres' clock when the message was numbered, and when the mark came; it
holds the commit, the way between nodes, the way to the device, and however long the device takes to say so. What waits
for a device that is not connected is no delivery: whoever connected after the message, or goes before the mark, does
not count. On the hot path that costs a countdown for each message and a look-up for each mark.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog
import trio

from protocol.codec import decode_from_server
from protocol.errors import RemoteProtocolError
from protocol.frames import MarkDelivered, MarkRead, Message
from server.delivery.hub import HubConnection
from store.errors import Overloaded, StoreError
from store.latencies import DAY_US, LONGEST_MS, add_latencies, bucket_of
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush

log = structlog.get_logger(__name__)

SAMPLE: Final = 16
"""One message of so many: at 1,000 a second 60 samples, which is plenty for a p99 of five minutes."""

INTERVAL_S: Final = 10.0
"""Between flushes. What a node has not flushed when it is killed is lost: samples, and nothing that is exact."""

MAX_AWAITED: Final = 10_000
"""Marks that are waited for, at most one for each connection; about 300 bytes each. Beyond it nothing is sampled."""


class _Sample(NamedTuple):
    conversation: bytes
    seq: int
    created_us: int


class DeliveryTimes:
    """Measures some of this node's deliveries. Everything but `run` and `flush` is synchronous.

    :param now_us: the time by Postgres' clock, in microseconds since 1970.
    """

    def __init__(self, pool: Pool, now_us: Callable[[], int]) -> None:
        self._pool = pool
        self._now_us = now_us
        self._countdown = SAMPLE
        self._awaited: dict[HubConnection, _Sample] = {}
        self._counts: Counter[tuple[int, int]] = Counter()

    def pushed(self, push: AddressedPush, connections: Sequence[HubConnection]) -> None:
        """A new message has been offered to these connections."""
        self._countdown -= 1
        if not self._countdown:
            self._countdown = SAMPLE
            self._sample(push, connections)

    def marked(self, connection: HubConnection, frame: MarkDelivered | MarkRead) -> None:
        """A device says what it has."""
        sample = self._awaited.get(connection)
        if sample is None:
            return
        if any(conversation == sample.conversation and seq >= sample.seq for conversation, seq in frame.marks):
            del self._awaited[connection]
            day = sample.created_us // DAY_US
            self._counts[day, bucket_of(self._now_us() - sample.created_us)] += 1

    def sent(self, connection: HubConnection, conversation: bytes) -> None:
        """A device has written: that counts as a mark, so it need not say what it has any more."""
        sample = self._awaited.get(connection)
        if sample is not None and sample.conversation == conversation:
            del self._awaited[connection]

    def left(self, connection: HubConnection) -> None:
        """The connection has ended: what it has not marked waits for another."""
        self._awaited.pop(connection, None)

    async def run(self) -> None:
        """Flush again and again, until cancelled."""
        while True:
            await trio.sleep(INTERVAL_S)
            await self.flush()
            self._forget_lost()

    async def flush(self) -> None:
        """Write what has been measured; nobody is told of a failure but the log."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await add_latencies(self._pool, counts)
        except Overloaded as error:
            log.warning("latencies_wait", samples=counts.total(), error=str(error))
            self._counts += counts
        except StoreError as error:
            # They may have been written: better some are lost than counted twice.
            log.warning("latencies_lost", samples=counts.total(), error=str(error))

    def _sample(self, push: AddressedPush, connections: Sequence[HubConnection]) -> None:
        if not connections or len(self._awaited) >= MAX_AWAITED:
            return
        connection = random.choice(connections)  # noqa: S311  (not a secret)
        if connection in self._awaited or connection.outbox.is_lagging:
            return
        try:
            message = next(decode_from_server(push.frame), None)
        except RemoteProtocolError:
            return  # From a node of another release, which clients can read all the same.
        # The devices of who wrote it have no need to mark it.
        if not isinstance(message, Message) or message.sender == connection.user:
            return
        connected_us = (trio.current_time() - connection.registered_at) * 1e6
        if self._now_us() - message.created <= connected_us:
            self._awaited[connection] = _Sample(message.conversation, message.seq, message.created)

    def _forget_lost(self) -> None:
        oldest_us = self._now_us() - LONGEST_MS * 1000
        for connection in [connection for connection, sample in self._awaited.items() if sample.created_us < oldest_us]:
            del self._awaited[connection]
