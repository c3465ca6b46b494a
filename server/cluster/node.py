"""This node among the others: its lease, its inbox, and its users in the directory.

Redis may forget everything at any time. The node then rebuilds its lease, stream and directory entries from its
connections, and reads the changes that it may have missed meanwhile from Postgres (`server.cluster.catch_up`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

import structlog
import trio

from server.cluster.catch_up import CatchUp
from server.cluster.cursor_advance import CursorAdvance
from server.cluster.missed_pushes import MissedPushes
from server.cluster.presence import PresenceWatch
from server.cluster.questions import Questions
from server.cluster.unknown_outcomes import UnknownOutcomes
from server.delivery.broadcast import Broadcast
from server.delivery.fanout import Fanout
from server.delivery.hub import Hub
from server.delivery.message_traces import MessageTraces
from server.delivery.receipt_counts import ReceiptCounter
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.redis.bus import Inbox
from store.redis.client import Redis, RedisError
from store.redis.directory import (
    ALONE_S,
    AT_ONCE,
    HEARTBEAT_S,
    LEASE_S,
    beat,
    enter,
    enter_watchers,
    leave,
    left_in_good_order,
    sign_off,
)
from store.redis.entries import (
    AddressedPush,
    CatchUpRequest,
    DrainRequest,
    NodeQuestion,
    PresenceHint,
    PresenceRecheck,
    decode_entry,
)

log = structlog.get_logger(__name__)


class _DirectoryBatch:
    """Users that this node enters into the directory together.

    :ivar entered: set when they are entered, or when that has failed.
    :ivar errors: why it has failed, for the users of a bus.
    """

    def __init__(self) -> None:
        self.users: list[bytes] = []
        self.entered = trio.Event()
        self.errors: dict[int, Exception] = {}


class Node:
    """This node's place in the cluster. Run `run` in a nursery.

    :param id: random; `NODE_BYTES` long.
    :param traces: the spans of sampled messages; None if there are none.
    :ivar bus: of its stream.
    :ivar ready: set once others can find it.
    :ivar fanout: pushes to other nodes; it has counters of its own.
    :ivar stream_entries: entries of its stream as of the last heartbeat, one of which it has read.
    :ivar questions: of operators.
    :ivar on_drain: called when an operator asks this node to stop. Synchronous.
    """

    def __init__(self, redis: Redis, pool: Pool, hub: Hub, id: bytes, traces: MessageTraces | None = None) -> None:
        self.id = id
        self.bus = redis.bus_of(id)
        self._traces = traces
        self.ready = trio.Event()
        self.fanout = Fanout(redis, self.id, self._is_alone, traces, everyone=self._known_others)
        self.broadcast = Broadcast(self.fanout, hub)
        self._redis = redis
        self._pool = pool
        self._hub = hub
        self._inbox = Inbox(redis, self.id)
        self.stream_entries = 0
        self._others: frozenset[bytes] = frozenset()
        self._writers: frozenset[bytes] = frozenset()
        self.receipt_counter = ReceiptCounter(pool, self.broadcast)
        self.questions = Questions(redis)
        self.on_drain: Callable[[], None] = lambda: None
        self.presence = PresenceWatch(redis, pool, self.id, hub, self.live_nodes)
        self._departed: set[bytes] = set()
        self._departure = trio.Event()
        self._entering = _DirectoryBatch()
        self._entry_due = trio.Event()
        self._in_step_at = trio.current_time()
        self._known_until = 0.0
        self._lost = set(range(redis.buses))
        """The buses that may not know this node, or lack users of it."""
        self._epochs = [redis.epoch(bus) for bus in range(redis.buses)]
        self._unknown_outcomes = UnknownOutcomes(pool.url, self._tell_unknown_outcomes)
        pool.on_unknown_outcome = self._unknown_outcomes.note
        self.missed = MissedPushes(redis, pool, hub, self.id, self._count_catch_ups)
        self.cursor_advance = CursorAdvance(pool, hub, self._count_catch_ups, self.missed.find)
        self.catch_up = CatchUp(pool, hub, self.broadcast, self.presence, self.receipt_counter, self.cursor_advance)
        self._moves = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_lease)
            nursery.start_soon(self._follow)
            nursery.start_soon(self.catch_up.run)
            nursery.start_soon(self._remove_departed)
            nursery.start_soon(self._enter_batches)
            nursery.start_soon(self.fanout.run)
            nursery.start_soon(self._hub.run)
            nursery.start_soon(self._unknown_outcomes.run)
            nursery.start_soon(self.presence.run)
            nursery.start_soon(self.receipt_counter.run)
            nursery.start_soon(self.cursor_advance.run)
            nursery.start_soon(self.questions.run)

    def _is_alone(self) -> bool:
        """Whether no other node can hold a connection now."""
        return not self._others and self._known_others() is not None

    def _known_others(self) -> frozenset[bytes] | None:
        """The other nodes, with all that can hold a connection now; None if that is not known."""
        return self._others if trio.current_time() < self._known_until else None

    def _count_catch_ups(self) -> float:
        """The number of catch-ups requested; NaN, which equals no number, while this node may be missing changes."""
        is_in_step = self._redis.is_connected and trio.current_time() - self._in_step_at < LEASE_S
        is_pushed = not self.catch_up.is_due and not self._hub.is_behind
        is_known = is_in_step and is_pushed and not self._unknown_outcomes.are_open
        return self.catch_up.requests if is_known else math.nan

    def has_others(self) -> bool:
        """Whether another node lives, as of the last heartbeat."""
        return bool(self._others)

    def live_nodes(self) -> frozenset[bytes]:
        """The ids of the nodes that live, as of the last heartbeat; this one included."""
        return self._others | {self.id}

    def live_writers(self) -> frozenset[bytes]:
        """The ids of the processes that live and only write, as of the last heartbeat."""
        return self._writers

    @property
    def has_untold(self) -> bool:
        """Whether the other nodes have yet to be asked to catch up with something that could not be pushed."""
        return self.fanout.missed_since is not None

    @property
    def read_ms(self) -> int:
        """The time of the last entry of its stream that it has read, by Redis' clock."""
        return self._inbox.position[0]

    async def enter(self, user: bytes) -> None:
        """Tell the other nodes that the user has a device here. The hub must know the device already.

        :raises Unavailable: if Redis cannot be reached.
        """
        batch = self._entering
        batch.users.append(user)
        self._entry_due.set()
        await batch.entered.wait()
        error = batch.errors.get(self._redis.bus_of(user))
        if isinstance(error, Unavailable):
            raise Unavailable(error.service, error.where, error.detail)
        if error is not None:
            raise Unavailable("Redis", self._redis.where, str(error))
        self.presence.announce(user)

    def depart(self, user: bytes) -> None:
        """The user's last device here has gone; the other nodes are told soon."""
        self._departed.add(user)
        self._departure.set()

    async def wait_fanned_out(self) -> None:
        """Return once the devices here were offered everything, and the other nodes have been told of everything that
        was committed here."""
        await self._hub.wait_pushed()
        await self.fanout.wait_idle()

    async def sign_off(self) -> None:
        """Leave in good order. The caller commits nothing after this call.

        If the other nodes cannot be told of their missed changes, the lease ends by itself, and they look for them.

        :raises Unavailable: if Redis cannot be reached; then the lease ends by itself, too.
        """
        await self.fanout.tell_missed(self._others)
        if not self.has_untold and not self._unknown_outcomes.are_open:
            await sign_off(self._redis, self.id)

    async def _keep_lease(self) -> None:
        while True:
            await self._redis.wait_connected()
            try:
                await self._beat()
            except (Unavailable, RedisError) as error:
                log.warning("lease_not_kept", error=str(error))
                # Connected, but not answering as it should (loading, memory full): not in a tight loop.
                await trio.sleep(HEARTBEAT_S / 4)

    async def _rebuild(self, buses: set[int]) -> None:
        """Make these buses know this node and its users, then request a catch-up for the time until then."""
        if self._redis.moves > self._moves:
            self._moves = self._redis.moves
            self.fanout.miss("Redis failed over to a different server")
        failed = await enter(self._redis, self.id, self._on(buses, self._hub.users()))
        failed |= await enter_watchers(self._redis, self.id, self._on(buses, self.presence.users()))
        self._lost -= buses - failed.keys()
        self.ready.set()
        log.info("node_ready", node=self.id.hex(), users=len(self._hub.users()))
        await trio.sleep(ALONE_S)
        self.catch_up.request(trio.current_time() - self._in_step_at)
        if not self._lost:
            self._in_step_at = trio.current_time()

    def _on(self, buses: set[int], users: Iterable[bytes]) -> list[bytes]:
        return [user for user in users if self._redis.bus_of(user) in buses]

    async def _beat(self) -> None:
        """Renew the lease; then rebuild what Redis has lost, or wait until the next heartbeat."""
        # The answer tells of the time before it was read: since then this process may have been paused.
        asked_at = trio.current_time()
        answering = await self._beat_once()
        if due := self._lost & answering:
            await self._rebuild(due)
            return
        if not self._lost:
            self._in_step_at = asked_at
        await self.fanout.tell_missed(self._others)
        await trio.sleep(HEARTBEAT_S)

    async def _beat_once(self) -> set[int]:
        """Renew the lease on each bus, and note which of them have lost this node, or may have lost entries for it;
        returns the buses that have answered."""
        buses = set(range(self._redis.buses))
        epochs = [self._redis.epoch(bus) for bus in buses]
        self._lost |= {bus for bus in buses if epochs[bus] != self._epochs[bus]}
        self._epochs = epochs
        # The stream is there before the node is visible.
        if self.bus in self._lost and self._redis.reaches(self.bus):
            await self._inbox.open()
        # Taken before the call, so that the heartbeat trims only entries that this node has read.
        position, began = self._inbox.position, trio.current_time()
        try:
            found = await beat(self._redis, self.id, position)
        except (Unavailable, RedisError):
            self._lost = buses
            raise
        self._lost |= found.new_on | found.silent
        vanished = (self._others - found.nodes) | (self._writers - found.writers)
        self._others, self._writers = found.nodes - {self.id}, found.writers
        self.stream_entries = found.entries
        # A node that comes now may be known to a silent bus alone.
        self._known_until = 0.0 if found.silent else began + ALONE_S
        for node in vanished:
            if not await left_in_good_order(self._redis, node):
                log.warning("node_vanished", node=node.hex())
                self.catch_up.request(LEASE_S + HEARTBEAT_S)
        if self.bus not in found.silent and not (found.first is not None and found.first <= position):
            # Entries may have been cut off or lost.
            self._lost.add(self.bus)
            await self._inbox.open()
        return buses - found.silent

    async def _follow(self) -> None:
        while True:
            await self.ready.wait()
            await self._redis.wait_connected()
            try:
                await self._inbox.follow(self._receive)
            except (Unavailable, RedisError) as error:
                log.warning("bus_lost", error=str(error))
                await trio.sleep(HEARTBEAT_S / 4)

    async def _receive(self, entries: list[bytes]) -> None:
        for number, entry in enumerate(entries):
            if number:
                # An entry may hold hundreds of pushes: the other tasks have their turn after each.
                await trio.lowlevel.checkpoint()
            for item in decode_entry(entry):
                match item:
                    case CatchUpRequest(ago_s):
                        self.catch_up.request(ago_s)
                    case PresenceHint(users):
                        self.presence.hear(users)
                    case PresenceRecheck(users):
                        self.presence.recheck(users)
                    case NodeQuestion():
                        self.questions.ask_nowait(item)
                    case DrainRequest():
                        log.info("drain_asked")
                        self.on_drain()
                    case AddressedPush():
                        self._push_here(item)
            self.broadcast.flush()

    def _push_here(self, push: AddressedPush) -> None:
        if push.trace is not None and self._traces is not None:
            self._traces.received(push.trace)
        self.broadcast.push_here(push)

    def _tell_unknown_outcomes(self, since: float) -> None:
        """Changes may have been committed since then that no node was told of."""
        self.catch_up.request(trio.current_time() - since)
        self.fanout.miss("the outcome of a write is not known", since=since)

    async def _enter_batches(self) -> None:
        """Users that come while others are being entered are entered together: a herd takes a few commands."""
        while True:
            await self._entry_due.wait()
            self._entry_due = trio.Event()
            batch, self._entering = self._entering, _DirectoryBatch()
            try:
                batch.errors = await enter(self._redis, self.id, batch.users)
            except (Unavailable, RedisError) as error:
                batch.errors = dict.fromkeys(range(self._redis.buses), error)
            batch.entered.set()

    async def _remove_departed(self) -> None:
        while True:
            await self._departure.wait()
            self._departure = trio.Event()
            some = list(islice(self._departed, AT_ONCE))
            self._departed.difference_update(some)
            if self._departed:
                self._departure.set()
            # Decided and written without a checkpoint in between: a user that comes back is entered after this.
            users = [user for user in some if not self._hub.holds(user)]
            # A stale entry costs other nodes one write that finds no connection; a rebuild leaves no stale entries.
            with suppress(Unavailable, RedisError):
                await leave(self._redis, self.id, users)
            for user in users:
                self.presence.announce(user)
