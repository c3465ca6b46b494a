"""Which connections each user has on this node, and pushes to them.

Everything but `run` is synchronous: the hub offers a push to all its connections without a checkpoint, so no connection
can come or go in the middle. `flush` sends the frames that a batch has offered, with one system call for each
connection.

A push goes straight to its connections, unless too much has been pushed since the last flush. Then it waits in a queue,
in turn by the user who caused it (`server.delivery.push_queue`), and `run` serves the queue with all other tasks in
between. If too much waits, the hub drops the pushes of the user who caused most: their recipients are asked to fetch
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from protocol.codes import CloseCode
from protocol.encoded import type_mark, with_envelope, with_temp_id
from server.delivery.push_queue import PushQueue
from server.delivery.sequencer import SequenceGap, Sequencer
from server.transport.outbox import Outbox
from server.transport.wire_counts import WireCounts
from store.distribution import Distribution
from store.redis.entries import AddressedPush

if TYPE_CHECKING:
    from server.delivery.message_traces import MessageTraces

log = structlog.get_logger(__name__)

TURN_COST: Final = 256
"""Deliveries of one turn, between two flushes: 1 to 3 ms. The other tasks wait so long at most, or for one push to
1,000 users, which takes 3 to 10 ms."""

MAX_WAITING_COST: Final = 200_000
"""Deliveries that wait, which is 1 to 2 s of work, or 50 MB of frames; beyond it the longest line is dropped."""

BEHIND_S: Final = 2.0
"""A push that waits for longer than this keeps cursors from moving (`server.cluster.cursor_advance`)."""

_QUANTUM: Final = 16


def _cost_of(push: AddressedPush) -> int:
    """In deliveries of a small frame: the recipients, more for large frames, and the memory of the frame."""
    size = len(push.frame)
    return len(push.users) * (1 + (size >> 13)) + (push.size_bytes >> 8)


class HubConnection(Protocol):
    """The part of a connection that the hub uses."""

    user: bytes
    device: bytes
    outbox: Outbox
    registered_at: float
    low_told: int
    number: int

    def close(self, code: CloseCode, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """A snapshot.

    :ivar waiting: pushes that wait for their turn.
    """

    users: int
    connections: int
    offered: int
    waiting: int


class Hub:
    """The connections of this node, by user.

    :param on_message: called with each new message that the hub pushes, and the connections that it was offered to.
    :param traces: the spans of sampled messages; None if there are none.
    :ivar counts: of this node; its connections share them.
    :ivar flush_seconds: from the first frame that a flush sends being offered, until the kernel has taken or refused
        the last one.
    :ivar dropped: pushes that were dropped since too many waited.
    """

    def __init__(
        self,
        on_message: Callable[[AddressedPush, list[HubConnection]], None] = lambda _, __: None,
        traces: MessageTraces | None = None,
    ) -> None:
        self._on_message = on_message
        self._traces = traces
        self.counts = WireCounts()
        self.flush_seconds = Distribution()
        self.dropped = 0
        self._touched_at = 0.0
        self._by_user: dict[bytes, list[HubConnection]] = {}
        self._touched: list[Outbox] = []
        self._sequencer: Sequencer[AddressedPush] = Sequencer()
        self._connection_count = 0
        self._offered = 0
        self._queue = PushQueue(_QUANTUM)
        self._spent = 0
        self._queued = trio.Event()
        self._is_idle = trio.Event()
        self.gap_seen = trio.Event()

    def add(self, connection: HubConnection) -> bool:
        """Offer pushes to this connection from now on; true if it is the user's first here."""
        connection.registered_at = trio.current_time()
        connections = self._by_user.setdefault(connection.user, [])
        connections.append(connection)
        self._connection_count += 1
        return len(connections) == 1

    def remove(self, connection: HubConnection) -> bool:
        """The connection has ended; true if it was the user's last here."""
        connections = self._by_user[connection.user]
        connections.remove(connection)
        self._connection_count -= 1
        if connections:
            return False
        del self._by_user[connection.user]
        return True

    def of(self, user: bytes) -> list[HubConnection]:
        """The user's connections here; a copy."""
        return list(self._by_user.get(user, ()))

    def count(self, user: bytes) -> int:
        return len(self._by_user.get(user, ()))

    def holds(self, user: bytes) -> bool:
        return user in self._by_user

    def users(self) -> list[bytes]:
        return list(self._by_user)

    def offer(self, connection: HubConnection, frame: bytes) -> None:
        """A reply for one connection, with the next flush."""
        connection.outbox.offer(frame)
        self._touch(connection.outbox)

    async def run(self) -> None:
        """Serve the pushes that wait, until cancelled."""
        while True:
            await self._queued.wait()
            self._queued = trio.Event()
            while self._queue:
                for waiting in self._queue.take(TURN_COST, TURN_COST):
                    self.push_now(waiting.push)
                self.flush()
                await trio.lowlevel.checkpoint()
            self._is_idle.set()

    async def wait_pushed(self) -> None:
        """Return once no push waits."""
        while self._queue:
            self._is_idle = trio.Event()
            await self._is_idle.wait()

    @property
    def is_behind(self) -> bool:
        """Whether a push has waited for longer than `BEHIND_S`."""
        oldest_at = self._queue.oldest_at()
        return oldest_at is not None and oldest_at < trio.current_time() - BEHIND_S

    def push(self, push: AddressedPush) -> None:
        """As `push_now`, or later: after earlier pushes of the same conversation, and in turn with other users'."""
        cost = _cost_of(push)
        if self._spent < TURN_COST and not (self._queue and self._queue.must_follow(push)):
            self._spent += cost
            self.push_now(push)
            return
        self._queue.put(push, cost, trio.current_time())
        self._queued.set()
        if self._queue.cost > MAX_WAITING_COST:
            self._drop_longest()

    def push_now(self, push: AddressedPush) -> None:
        """A push for all connections of its users; a new message in `seq` order within its conversation."""
        targets = self._targets(push)
        if not push.seq:
            self._offer_all(push, targets)
            return
        if not targets and not self._sequencer.follows(push.conversation):
            return

        def is_stale(last_at: float) -> bool:
            return all(target.registered_at > last_at for target in targets)

        ready = self._sequencer.offer(push.conversation, push.seq, push, trio.current_time(), is_stale)
        for each in ready:
            self._push_new(each, targets if each is push else self._targets(each))
        if self._sequencer.has_gaps:
            self.gap_seen.set()

    def skip(self, gap: SequenceGap) -> None:
        """The gap cannot be filled: push the messages that were held behind it."""
        for each in self._sequencer.skip(gap, trio.current_time()):
            self._push_new(each, self._targets(each))

    def pass_over(self, conversation: bytes, upto: int) -> None:
        """The missing messages up to `upto` are not pushed: clients fetch them. Push those that were held behind."""
        for each in self._sequencer.pass_over(conversation, upto, trio.current_time()):
            self._push_new(each, self._targets(each))

    def has_pushed(self, conversation: bytes, seq: int) -> bool:
        """Whether the hub has pushed this message for certain: whether `seq` lies within the conversation's `span`."""
        span = self._sequencer.span(conversation)
        return span is not None and span[0] <= seq <= span[1]

    def span(self, conversation: bytes) -> tuple[int, int] | None:
        """The first and the last seq pushed here without a gap; None if the hub does not follow the conversation."""
        return self._sequencer.span(conversation)

    @property
    def has_forgotten(self) -> bool:
        """Whether the hub may have pushed messages of a conversation whose `span` is None."""
        return self._sequencer.has_forgotten

    def follow(self, conversation: bytes, after: int) -> tuple[int, int]:
        """Hold back later messages of the conversation until those after the seq `after` have been pushed, unless the
        hub follows it already. Return its `span`; if the hub did not follow it, the span is empty: (after + 1, after).
        """
        return self._sequencer.follow(conversation, after, trio.current_time())

    def join(self, conversation: bytes, after: int, before: int) -> None:
        """The messages with `after < seq < before`, before the span, have been pushed, too, or clients fetch them."""
        self._sequencer.join(conversation, after, before)

    def has_synced(self, user: bytes) -> bool:
        """Whether one of the user's connections here has completed a `sync`."""
        return any(connection.outbox.has_synced for connection in self._by_user.get(user, ()))

    def push_to_synced(self, user: bytes, frame: bytes) -> None:
        """A push for those connections of a user that have completed a `sync`; the others find it by their `sync`."""
        for connection in self._by_user.get(user, ()):
            if connection.outbox.has_synced:
                self.counts.offered[type_mark(frame)] += 1
                connection.outbox.push(frame)
                self._touch(connection.outbox)

    def begin_anew(self) -> None:
        """Forget the order of all conversations, and have all devices fetch what is new.

        The caller knows that the seqs pushed so far say nothing about those to come.
        """
        self._sequencer = Sequencer()
        self._queue = PushQueue(_QUANTUM)
        for connections in self._by_user.values():
            for connection in connections:
                connection.outbox.lag("order_begun_anew")
                connection.outbox.flush()

    def gaps_due(self) -> list[SequenceGap]:
        if not self._sequencer.has_gaps:
            self.gap_seen = trio.Event()
        return self._sequencer.gaps_due(trio.current_time())

    def flush(self) -> None:
        """Send the frames that were offered since the last flush."""
        self._spent = 0
        touched, self._touched = self._touched, []
        for outbox in touched:
            outbox.is_touched = False
            outbox.flush()
        if touched:
            self.flush_seconds.observe(perf_counter() - self._touched_at)
            if self._traces is not None:
                self._traces.written()

    def statistics(self) -> HubStatistics:
        return HubStatistics(len(self._by_user), self._connection_count, self._offered, len(self._queue))

    def _drop_longest(self) -> None:
        """Drop the pushes of the user who caused most; the devices that lack them are asked to fetch them."""
        dropped = self._queue.drop_longest()
        self.dropped += len(dropped)
        log.warning("pushes_dropped", pushes=len(dropped), cause=dropped[0].push.cause.hex())
        for push, _, _ in dropped:
            if push.key is not None:
                continue
            for connection in self._targets(push):
                connection.outbox.lag("pushes_dropped")
                self._touch(connection.outbox)
            if push.seq:
                self.pass_over(push.conversation, push.seq)

    def _targets(self, push: AddressedPush) -> list[HubConnection]:
        connections, origin = self._by_user, push.origin
        return [
            connection for user in push.users for connection in connections.get(user, ()) if connection is not origin
        ]

    def _push_new(self, push: AddressedPush, targets: list[HubConnection]) -> None:
        self._offer_all(push, targets)
        self._on_message(push, targets)
        if push.trace is not None and self._traces is not None:
            self._traces.offered(push.trace, len(targets))

    def _offer_all(self, push: AddressedPush, targets: list[HubConnection]) -> None:
        frame, key = push.frame, push.key
        self._offered += len(targets)
        if key is None:
            self.counts.offered[type_mark(frame)] += len(targets)
        sender, own, envelopes = push.cause, self._own_frame(push), push.envelopes
        for connection in targets:
            outbox = connection.outbox
            if key is None:
                told = frame if own is None or connection.user != sender else own
                if envelopes is not None and (envelope := envelopes.get(connection.device)) is not None:
                    told = with_envelope(told, envelope)
                outbox.push(told)
            else:
                outbox.push_latest(key, frame)
            if not outbox.is_touched:
                self._touch(outbox)

    def _own_frame(self, push: AddressedPush) -> bytes | None:
        """The frame for the sender's own devices; None if only the device that sent the message is connected."""
        if push.temp_id is None:
            return None
        connections = self._by_user.get(push.cause)
        if connections is None or (len(connections) == 1 and connections[0] is push.origin):
            return None
        return with_temp_id(push.frame, push.temp_id)

    def _touch(self, outbox: Outbox) -> None:
        if not outbox.is_touched:
            if not self._touched:
                self._touched_at = perf_counter()
            outbox.is_touched = True
            self._touched.append(outbox)
