"""Pushes for users who are connected to other nodes: one stream entry for each node that holds a recipient, per batch.

Pushes that wait for Redis take turns by the user who caused them (`server.delivery.push_queue`). A batch is written for
the nodes where its users were last, and looks them up in the same round trip; a node that this shows in addition gets
its entry after it, before the next batch is written.

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
from store.redis.addressing import Whereabouts, address_presence_rechecks, address_pushes, entries_by_node
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
    :ivar guessed: how many entries were written for the same pushes before they were looked up.
    :ivar since: if the batch cannot be written, other nodes have to catch up with what was committed since this time;
        None: they need not.
    :ivar refused: why the batch cannot be written; "" if it can.
    :ivar spans: of its sampled messages.
    """

    entries: list[tuple[bytes, bytes]]
    since: float | None
    refused: str = ""
    spans: Sequence[Span] = ()
    guessed: int = 0


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
        self._whereabouts = Whereabouts()
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
                taken = self._waiting.take(MAX_BATCH, MAX_BATCH_BYTES)
                guessed = self._guess(taken)
                self._writing += 1 + bool(guessed.entries)
                if guessed.entries:
                    await send.send(guessed)
                await send.send(await self._address(taken, rechecks, len(guessed.entries)))

    async def _publish_in_order(self, batches: trio.MemoryReceiveChannel[_Batch]) -> None:
        """Write the batches in order; `run` looks up where the same pushes have to go beyond that, or the next ones."""
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
                span.end(entries=each.guessed + len(each.entries), outcome="refused" if refused else "written")
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

    def _guess(self, taken: list[WaitingPush]) -> _Batch:
        """An entry for each node that held recipients of these pushes when they were last looked up."""
        pushes = [each.push for each in taken]
        entries = entries_by_node(pushes, self._whereabouts.of(pushes), without=self._node)
        return _Batch(entries, _oldest(taken))

    async def _address(self, taken: list[WaitingPush], rechecks: list[bytes], guessed: int) -> _Batch:
        """Look up the nodes that hold recipients of these pushes, and make an entry for each but the guessed ones."""
        since = _oldest(taken)
        if since is None and rechecks:
            since = trio.current_time()  # any catch-up rechecks
        pushes = [each.push for each in taken]
        spans: list[Span] = []
        if self._traces is not None:
            spans = self._traces.streams(pushes, [each.queued_at for each in taken])
        try:
            entries = [
                *await address_pushes(
                    self._redis, pushes, own=self._node, everyone=self._everyone, whereabouts=self._whereabouts
                ),
                *await address_presence_rechecks(self._redis, rechecks, own=self._node),
            ]
        except (Unavailable, RedisError) as error:
            return _Batch([], since, str(error), spans, guessed)
        return _Batch(entries, since, spans=spans, guessed=guessed)

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


def _oldest(taken: list[WaitingPush]) -> float | None:
    """When the oldest of these pushes was queued that a node without it would have to catch up with; None: there is
    none, since catching up brings no ephemeral pushes."""
    return min((each.queued_at for each in taken if each.push.key is None), default=None)
