"""Pushes for users who are connected to other nodes: one stream entry for each node that holds a recipient, per batch.

Pushes that wait for Redis take turns by the user who caused them (`server.delivery.push_queue`).

The fan-out drops pushes that Redis does not take (Redis is unreachable or full): the messages are in Postgres. As soon
as Redis takes writes again, this node asks the other nodes to catch up, with everything since the oldest push that it
dropped. If this node dies before that, the other nodes see its lease end and catch up as well
(`server.cluster.catch_up`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
import trio

from server.delivery.push_queue import PushQueue, WaitingPush
from store.distribution import Distribution
from store.errors import Unavailable
from store.redis.addressing import address_presence_rechecks, address_pushes
from store.redis.bus import publish
from store.redis.client import Redis, RedisError
from store.redis.entries import AddressedPush, encode_catch_up_request

if TYPE_CHECKING:
    from runtime.tracing.tracer import Span
    from server.delivery.message_traces import MessageTraces

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 50_000
"""Pushes that wait for Redis; about 20 MB. The fan-out drops further ones and asks the other nodes to catch up."""

MAX_BATCHES: Final = 4
"""Batches whose nodes have been looked up, and that wait to be written."""

MAX_BATCH: Final = 512
MAX_BATCH_BYTES: Final = 512 * 1024
"""Pushes of one batch, and bytes of their frames and of their users' ids. Both bound a stream entry's size, and the
pushes that the receiving node offers at once."""


_QUANTUM: Final = 1024


class _Batch(NamedTuple):
    """Stream entries that are written together.

    :ivar entries: pairs (node, stream entry).
    :ivar since: if the batch cannot be written, other nodes have to catch up with what was committed since this time;
        None: they need not.
    :ivar refused: why the batch cannot be written; "" if it can.
    :ivar spans: of its sampled messages.
    """

    entries: list[tuple[bytes, bytes]]
    since: float | None
    refused: str = ""
    spans: Sequence[Span] = ()


class Fanout:
    """Takes the pushes of each batch and writes them for the nodes concerned.

    :param is_alone: returns whether this node is the only one; the fan-out asks after each message's commit.
    :param everyone: returns the nodes that live, which get the pushes of users whose bus does not answer; None if that
        is not known for certain.
    :param traces: the spans of sampled messages; None if there are none.
    :ivar misses: times that the other nodes have had to be asked to catch up.
    :ivar write_seconds: from a push being queued until Redis has its entries, for the oldest of each batch.
    """

    def __init__(
        self,
        redis: Redis,
        node: bytes,
        is_alone: Callable[[], bool],
        traces: MessageTraces | None = None,
        *,
        everyone: Callable[[], Collection[bytes] | None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._node = node
        self._is_alone = is_alone
        self._everyone = everyone
        self._traces = traces
        self._waiting = PushQueue(_QUANTUM)
        self._rechecks: set[bytes] = set()
        self._writing = 0
        self._wake = trio.Event()
        self._idle = trio.Event()
        self.misses = 0
        self.write_seconds = Distribution()
        self._missed: dict[int, float] = {}
        """Bus -> since when pushes to its streams have been lost without a request to those nodes to catch up."""

    def send(self, push: AddressedPush) -> None:
        """Queue a push for the next batch. Atomic (no checkpoint)."""
        if self._is_alone():
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.put(push, push.size_bytes + 16 * len(push.users), trio.current_time())
        elif push.key is None:
            self.miss("too many pushes wait for Redis")

    def send_recheck(self, users: Iterable[bytes]) -> None:
        """Have the other nodes check again which users may watch these users' presence. Atomic (no checkpoint)."""
        if not self._is_alone():
            self._rechecks.update(users)

    def flush(self) -> None:
        """A batch is complete: begin to write it."""
        if self._waiting or self._rechecks:
            self._wake.set()

    def miss(self, reason: str, *, since: float | None = None, buses: Collection[int] | None = None) -> None:
        """A push could not be written: the other nodes have to catch up.

        :param since: the earliest time at which a message that the other nodes may lack was committed; None: now.
        :param buses: of the nodes that lack it; None: all.
        """
        self.misses += 1
        if not self._missed:
            log.warning("fan_out_missed", reason=reason)
        self._miss_since(trio.current_time() if since is None else since, buses)

    @property
    def missed_since(self) -> float | None:
        """Since when pushes have been lost without a request to the other nodes to catch up; None if none were lost."""
        return min(self._missed.values(), default=None)

    @property
    def waiting(self) -> int:
        """Pushes that wait for Redis."""
        return len(self._waiting)

    def _miss_since(self, since: float, buses: Collection[int] | None = None) -> None:
        for bus in range(self._redis.buses) if buses is None else buses:
            self._missed[bus] = min(self._missed.get(bus, since), since)

    async def run(self) -> None:
        """Write until cancelled. The other nodes do not get the pushes that wait then; the messages are in Postgres."""
        send, receive = trio.open_memory_channel[_Batch](MAX_BATCHES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish_in_order, receive)
            while True:
                if not (self._waiting or self._rechecks):
                    self._wake = trio.Event()
                    await self._wake.wait()
                rechecks, self._rechecks = list(self._rechecks), set()
                self._writing += 1
                await send.send(await self._address(self._waiting.take(MAX_BATCH, MAX_BATCH_BYTES), rechecks))

    async def _publish_in_order(self, batches: trio.MemoryReceiveChannel[_Batch]) -> None:
        """Write the batches in order; `run` looks up the next batch meanwhile."""
        async for each in batches:
            refused, buses = each.refused, None
            if not refused and each.entries:
                try:
                    if unwritten := await publish(self._redis, each.entries):
                        refused, buses = "Redis did not take an entry", set(map(self._redis.bus_of, unwritten))
                    log.debug("fanned_out", entries=len(each.entries), refused=bool(refused))
                    if each.since is not None:
                        self.write_seconds.observe(trio.current_time() - each.since)
                except (Unavailable, RedisError) as error:
                    refused = str(error)
            for span in each.spans:
                span.end(entries=len(each.entries), outcome="refused" if refused else "written")
            if refused and each.since is not None:
                self.miss(refused, since=each.since, buses=buses)
            self._writing -= 1
            if not (self._writing or self._waiting or self._rechecks):
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return once everything has been written."""
        while self._waiting or self._rechecks or self._writing:
            if self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()

    async def _address(self, taken: list[WaitingPush], rechecks: list[bytes]) -> _Batch:
        """Look up the nodes that hold recipients of these pushes, and make an entry for each."""
        # Nodes need not catch up for ephemeral pushes: catching up would not bring them. Any catch-up rechecks.
        queued_at = [each.queued_at for each in taken if each.push.key is None]
        since = min(queued_at, default=trio.current_time() if rechecks else None)
        pushes = [each.push for each in taken]
        spans: list[Span] = []
        if self._traces is not None:
            spans = self._traces.streams(pushes, [each.queued_at for each in taken])
        try:
            entries = [
                *await address_pushes(self._redis, pushes, own=self._node, everyone=self._everyone),
                *await address_presence_rechecks(self._redis, rechecks, own=self._node),
            ]
        except (Unavailable, RedisError) as error:
            return _Batch([], since, str(error), spans)
        return _Batch(entries, since, spans=spans)

    async def tell_missed(self, others: Collection[bytes]) -> None:
        """If a push was lost, ask these nodes to catch up. A later call asks those that cannot be told now."""
        if not self._missed:
            return
        missed, self._missed = self._missed, {}
        now, bus_of = trio.current_time(), self._redis.bus_of
        told = [
            (node, encode_catch_up_request(now - missed[bus_of(node)])) for node in others if bus_of(node) in missed
        ]
        untold = set(missed)
        try:
            untold = set(map(bus_of, await publish(self._redis, told)))
        except Unavailable:
            log.debug("catch_up_not_asked", nodes=len(told))
        finally:
            for bus in untold:
                self._miss_since(missed[bus], [bus])
