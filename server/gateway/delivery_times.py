"""Measures delivery times: from a message's commit to the delivered mark of a device that was connected all the time.

For every `SAMPLE`th new message that is pushed here, the node chooses one connection and waits for its next mark that
passes the message. The delivery time runs, by Postgres' clock, from the numbering of the message to the arrival of the
mark; it includes the commit, the way between nodes, the way to the device, and the time that the device takes to mark.
A connection that began after the message, or ends before the mark, does not count. The cost on the hot path is a
countdown for each message and a look-up for each mark.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
"""One message in this many: 60 samples at 1,000 messages a second, which is plenty for a p99 over five minutes."""

INTERVAL_S: Final = 10.0
"""Time between flushes. A node that is killed loses the samples since its last flush, and no exact figures."""

MAX_AWAITED: Final = 10_000
"""Marks that the node waits for, at most one for each connection, about 300 bytes each. Beyond it, no samples."""


class _Sample(NamedTuple):
    conversation: bytes
    seq: int
    created_us: int


@dataclass(frozen=True, slots=True)
class DeliveryTimesStatistics:
    """A snapshot.

    :ivar awaited: connections whose mark is waited for.
    :ivar counts: (day, bucket) -> deliveries that have been measured and not been written yet.
    """

    awaited: int
    counts: dict[tuple[int, int], int]


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
        """A device has marked messages."""
        sample = self._awaited.get(connection)
        if sample is None:
            return
        if any(conversation == sample.conversation and seq >= sample.seq for conversation, seq in frame.marks):
            del self._awaited[connection]
            day = sample.created_us // DAY_US
            self._counts[day, bucket_of(self._now_us() - sample.created_us)] += 1

    def sent(self, connection: HubConnection, conversation: bytes) -> None:
        """A device has sent to the conversation. That counts as a mark, so the device may never send one: no sample."""
        sample = self._awaited.get(connection)
        if sample is not None and sample.conversation == conversation:
            del self._awaited[connection]

    def left(self, connection: HubConnection) -> None:
        """The connection has ended: drop its sample."""
        self._awaited.pop(connection, None)

    def statistics(self) -> DeliveryTimesStatistics:
        return DeliveryTimesStatistics(len(self._awaited), dict(self._counts))

    async def run(self) -> None:
        """Flush every `INTERVAL_S`, until cancelled."""
        while True:
            await trio.sleep(INTERVAL_S)
            await self.flush()
            self._forget_lost()

    async def flush(self) -> None:
        """Write the measured times; a failure is only logged."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await add_latencies(self._pool, counts)
        except Overloaded as error:
            log.warning("latencies_wait", samples=counts.total(), error=str(error))
            self._counts += counts
        except StoreError as error:
            # Unknown outcome: better lose the samples than count them twice.
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
            return  # From a node of a different release; clients can read the frame all the same.
        # The sender's devices need not mark the message.
        if not isinstance(message, Message) or message.sender == connection.user:
            return
        connected_us = (trio.current_time() - connection.registered_at) * 1e6
        if self._now_us() - message.created <= connected_us:
            self._awaited[connection] = _Sample(message.conversation, message.seq, message.created)

    def _forget_lost(self) -> None:
        oldest_us = self._now_us() - LONGEST_MS * 1000
        for connection in [connection for connection, sample in self._awaited.items() if sample.created_us < oldest_us]:
            del self._awaited[connection]
