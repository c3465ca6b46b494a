"""The process `socket`: wires the parts together; the nesting of its nurseries is the order of shutdown.

The outermost nursery holds the shared services (Redis, batches, the node's lease), the next one the connections, the
innermost the listener. On SIGTERM the listener ends first; then the node tells clients to move, and serves them until
they have; then it answers the requests in flight, closes the connections that are left, and signs off.
"""

from __future__ import annotations

import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import trio

from protocol import features, limits
from protocol.codec import encode_fields
from protocol.codes import CloseCode
from protocol.frames import Hello, MarkDelivered, MarkRead, Send, Sync, Welcome
from runtime.collector import StayingObjects
from runtime.config import Config
from runtime.health import Health
from runtime.line_sample import LineSample
from runtime.metrics.key_samples import key_samples
from runtime.metrics.samples import Sample, by_label
from runtime.metrics.store_samples import batch_samples, cache_uses, pool_samples, redis_samples
from runtime.open_files import room_for_connections
from runtime.operator_port import asked, health_answer
from runtime.process import tell_ready
from runtime.signals import watch_signals
from server.cluster.node import Node
from server.delivery.hub import Hub, HubConnection
from server.delivery.message_traces import MessageTraces
from server.gateway.budgets import Budget, Budgets
from server.gateway.clients import ClientCounts
from server.gateway.connection import Connection, LookUpRequest
from server.gateway.delivery_hops import DeliveryHops
from server.gateway.delivery_times import DeliveryTimes
from server.gateway.description import describe
from server.gateway.healing import HealingHandler, OpenReports
from server.gateway.keys import KeyHandler
from server.gateway.last_seen import LastSeen
from server.gateway.low_keys import LowKeys
from server.gateway.marks import Marks
from server.gateway.readers import Readers
from server.gateway.requests import RequestHandler
from server.gateway.revocations import Revocations
from server.gateway.samples import cluster_samples, delivery_samples, outbox_samples, wire_samples
from server.gateway.sends import Sends
from server.gateway.transfers import TransferHandler
from server.transport.addresses import proxies_of
from server.transport.admission import (
    UNWELCOMED_AT_ONCE,
    UNWELCOMED_PER_S,
    AdmissionGate,
    ConnectionCounts,
    Rate,
    TokenBuckets,
)
from server.transport.handshake import refused_address, refused_unwelcomed
from server.transport.keepalive import KeepAlive
from server.transport.listener import accept_connections, listen
from server.transport.proxies import address_key, forwarded_address
from server.transport.room import Room
from store.batching.group_commit import BatchStatistics
from store.batching.two_lanes import LanesStatistics
from store.clock import Clock
from store.device_uses import DeviceUses
from store.errors import Overloaded, StoreError, Unavailable
from store.objects.url import keep_time, open_objects
from store.participant_lists import ParticipantsCache
from store.postgres.migrate import wait_migrated
from store.postgres.pool import Pool
from store.postgres.statement_watch import StatementWatch
from store.redis.client import Redis
from store.redis.directory import NODE_BYTES
from store.redis.entries import AddressedPush
from store.redis.eviction import check_keeps_all, wait_keeps_all
from store.redis.questions import NodeState
from store.tokens import GreetedDevice, greeted_device
from store.transfers import Transfers

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracer

log = structlog.get_logger(__name__)

MOVE_S: Final = 6.0
"""Time for clients to move to other nodes, one by one."""

MOVE_SPREAD_S: Final = 5.0
MOVE_STEP_S: Final = 0.003
"""The node tells each client a different moment, spread over `MOVE_STEP_S` for each connection: some 300 connections a
second, as many as one node can greet. With other nodes, the spread is at most `MOVE_SPREAD_S`."""

SUCCESSOR_S: Final = 2.0
"""Without a different node, clients come back to the same address, where a successor takes about this time to start."""

ANSWER_TIMEOUT_S: Final = 11.0
"""Time to answer the requests in flight when the process is told to stop; a commit may take 10 s."""

READ_S: Final = 0.25
"""The kernel holds requests that clients wrote before they could know: in this time they are read and refused."""

SIGN_OFF_TIMEOUT_S: Final = 3.0
"""Time to write the last-seen times and the delivery times."""

POSTGRES_S: Final = 20.0
"""After being told to stop, the process waits for Postgres until then. A cancelled query may take 2 s to end."""

STOP_S: Final = 22.0
"""After being told to stop, the process waits for nothing beyond this time, whatever the sum of the other waits.
Process managers kill after 25 s."""

GOODBYE_TIMEOUT_S: Final = 3.0
"""Time for the connections to close."""

MAX_ADMITTED_AT_ONCE: Final = 16
"""Connections admitted at the same time: those whose hello, or whose first sync, is being answered. While there
are so many, the listener accepts no further connection, and the connected clients have their turn in between. A client
that asks for nothing holds nobody up, and a user with any number of connections has `LOOK_UPS_AT_ONCE` syncs among
these. Without this limit, the clients of a herd would give up before they are served, and reconnect."""

MAX_UNWELCOMED: Final = 50_000
"""Addresses that are remembered for connections without a hello that was accepted, in some 10 MB at most."""

LEAVING_AT_ONCE: Final = 16
"""Ended connections that are cleaned up in one turn, between the turns of the others: each takes 0.2 ms."""

ADMISSION_S: Final = 1.0
"""A hello or a sync that is not answered by then gives up its place in the admission."""

FOR_USERS: Final = 3 / 4
"""The share of its connections that a node gives to users whose hello is accepted. The rest is for those that come,
which give way to each other: so a node that is full still answers its operator's load balancer."""

STAYING_AT_ONCE: Final = 256
"""New connections after which the garbage collector looks at them for the last time, for some 5 ms."""

USES_S: Final = 60.0
"""Time between looks for connected devices whose use was noted an hour ago (`store.device_uses`): 2 ms for 10,000."""


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """A snapshot.

    :ivar clients: open connections by the names of their clients, once they are welcomed.
    :ivar participant_lists: conversations whose participants are cached.
    :ivar marks_awaited: deliveries that are measured, and whose mark has not come yet.
    """

    connections: int
    clients: dict[str, int]
    sends: LanesStatistics
    marks: BatchStatistics
    last_seen: BatchStatistics
    participant_lists: int
    marks_awaited: int


class SocketGateway:
    """One node: its connections and all that serves them.

    :param id: of the node, `NODE_BYTES` long; empty: a new one.
    :param tracer: of the process; None if it does not trace.
    :ivar pool, redis, hub, node: the parts that others share; each has statistics of its own.
    :ivar transfers: of attachments; `objects` is None until the object store is open.
    :ivar healing: of messages that devices cannot decrypt.
    :ivar health: of the process.
    """

    def __init__(self, config: Config, id: bytes = b"", tracer: Tracer | None = None) -> None:
        id = id or os.urandom(NODE_BYTES)
        self._config = config
        self._trusted = proxies_of(config)
        self.pool = Pool(
            config.database_url,
            config.database_pool,
            name=f"alo-socket-{id.hex()}",
            slow_s=config.slow_query_s,
        )
        self.redis = Redis(config.bus_url)
        self.health = Health(
            {"Postgres": lambda: self.pool.fetch("select 1"), "Redis": self._check_redis},
            self._overdue,
        )
        self._clock = Clock(self.pool)
        self._delivery_times = DeliveryTimes(self.pool, self._clock.now_us)
        self.hops = DeliveryHops(self._clock.now_us)
        self._traces = None if tracer is None else MessageTraces(tracer, self.redis, id)
        self.hub = Hub(self._pushed, self._traces)
        self.counts = self.hub.counts
        self.node = Node(self.redis, self.pool, self.hub, id, self._traces)
        self.node.questions.describe = self._describe
        self.node.on_drain = _stop_this_process
        self._uses = DeviceUses(self.pool)
        self._last_seen = LastSeen(self.pool, self.hub, self._clock.now_us)
        self._readers = Readers(self.pool)
        self._participants = ParticipantsCache()
        self.node.cursor_advance.when_history_changes(self._participants.forget)
        self._keys = KeyHandler(self.pool, self.node.broadcast)
        self.healing = HealingHandler(self.pool)
        self._sends = Sends(
            self.pool,
            self._participants,
            self.hub,
            self.node.broadcast,
            self._clock,
            self.hops,
            self._keys.list_changed,
            self._traces,
        )
        self._marks = Marks(self.pool, self.node.broadcast, self.node.receipt_counter.note)
        self.transfers = Transfers(self.pool, None, config.quotas, config.avatar_mode)
        self._request_handler = RequestHandler(
            self.pool,
            self.node.broadcast,
            self.node.presence,
            TransferHandler(self.transfers),
            self._keys,
            self.healing,
            token_lifetime_s=config.token_lifetime_s,
        )
        self._revocations = Revocations(self.pool, self.hub, self.node.broadcast)
        self._low_keys = LowKeys(self.pool, self.hub)
        self._open_reports = OpenReports(self.pool, self.hub)
        self._keep_alive = KeepAlive()
        self._addresses: ConnectionCounts[str] = ConnectionCounts(config.max_address_connections)
        factor = config.rate_limit_factor
        at_once = config.max_address_connections + round(UNWELCOMED_AT_ONCE * factor)
        self._unwelcomed: TokenBuckets[str] = TokenBuckets(Rate(UNWELCOMED_PER_S * factor, at_once), MAX_UNWELCOMED)
        self._budgets = Budgets()
        self._admission: AdmissionGate[Connection] = AdmissionGate(MAX_ADMITTED_AT_ONCE, ADMISSION_S)
        self._staying = StayingObjects(STAYING_AT_ONCE)
        self._client_counts = ClientCounts()
        self.told = _told(config)
        self._turns = trio.Semaphore(LEAVING_AT_ONCE)
        self._connections: set[Connection] = set()
        most = room_for_connections() - config.database_pool
        self._room = Room(most)
        self._most_registered = int(most * FOR_USERS)
        self._lines = LineSample("connection_ended", config.log_lines_per_s)
        self._refused = 0
        self._ended: Counter[str] = Counter()
        self._all_gone = trio.Event()
        self._terminated = trio.Event()
        self._port = 0
        self._listening_since = trio.current_time()

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Started, with its port, once it accepts connections.

        :raises PortTaken: if a different process listens on the port.
        """
        with closing(self.pool), closing(listen(self._config.host, self._config.gateway_port)) as sock:
            config = self._config
            store = open_objects(config.object_store_url, config.public_files_url, config.files_url)
            async with store as objects, trio.open_nursery() as services:
                self.transfers.objects = objects
                await services.start(watch_signals, self._terminated, self.health, self._config.ready_grace_s)
                await services.start(self.redis.run)
                services.start_soon(wait_keeps_all, self.redis)
                services.start_soon(StatementWatch(self.pool).run)
                services.start_soon(self._lines.run)
                services.start_soon(keep_time, objects)
                services.start_soon(self.node.run)
                services.start_soon(self._sends.run)
                services.start_soon(self._marks.run)
                services.start_soon(self._last_seen.run)
                services.start_soon(self._uses.run)
                services.start_soon(self._note_uses)
                services.start_soon(self._readers.run)
                services.start_soon(self._delivery_times.run)
                services.start_soon(self._clock.run)
                services.start_soon(self._keep_alive.run)
                services.start_soon(self._revocations.run)
                services.start_soon(self._low_keys.run)
                services.start_soon(self._open_reports.run)
                if self._traces is not None:
                    services.start_soon(self._traces.run)
                services.start_soon(self._admission.run)
                services.start_soon(self.pool.end_after, self._terminated, POSTGRES_S)
                if await self._wait_ready():
                    async with trio.open_nursery() as connections:
                        task_status.started(sock.getsockname()[1])
                        await self._accept_until_terminated(sock, connections)
                        ends_at = trio.current_time() + STOP_S
                        with trio.move_on_at(ends_at):
                            await self._move_away()
                            await self.drain()
                        connections.cancel_scope.cancel()
                    with trio.move_on_at(ends_at):
                        await self._sign_off()
                services.cancel_scope.cancel()
        log.info("stopped")

    def stop(self) -> None:
        """Drain and end, as on SIGTERM. Atomic (no checkpoint)."""
        self._terminated.set()

    async def _wait_ready(self) -> bool:
        """Wait for Postgres and Redis; false if told to stop meanwhile."""
        ready = False

        async def wait() -> None:
            nonlocal ready
            await wait_migrated(self.pool)
            await self._clock.wait_measured()
            await self.node.ready.wait()
            await self.node.cursor_advance.begin()
            ready = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await self._terminated.wait()
            nursery.cancel_scope.cancel()
        return ready

    async def _accept_until_terminated(self, sock: socket.socket, connections: trio.Nursery) -> None:
        async with trio.open_nursery() as listening:
            listening.start_soon(accept_connections, sock, connections, self._serve, self._wait_calm)
            log.info("listening", host=self._config.host, port=sock.getsockname()[1], node=self.node.id.hex())
            self._port, self._listening_since = sock.getsockname()[1], trio.current_time()
            self.health.started()
            if self._config.ready_line:
                listening.start_soon(self._tell_ready)
            await self._terminated.wait()
            listening.cancel_scope.cancel()
        sock.close()

    async def _tell_ready(self) -> None:
        await self.node.catch_up.settled.wait()
        tell_ready(self._config)

    async def _wait_calm(self) -> None:
        """Return once the node may accept more connections."""
        await self._room.wait_room()
        await self._admission.wait_open()

    async def _serve(self, sock: socket.socket, address: str) -> None:
        connection = Connection(self, sock, address, self._room.accepted + 1)
        self._room.enter(connection)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._room.leave(connection)
            self._ended[connection.end_reason] += 1
            if not self._connections:
                self._all_gone.set()

    async def _move_away(self) -> None:
        """Have the clients reconnect to other nodes; this node serves them until they have."""
        connections, is_last = list(self._connections), not self.node.has_others()
        log.info("moving", connections=len(connections), is_last=is_last, clients=self._client_counts.statistics())
        longest_s = len(connections) * MOVE_STEP_S
        for connection in connections:
            if is_last:
                connection.move(SUCCESSOR_S + random.uniform(0, longest_s))  # noqa: S311
            else:
                connection.move(random.uniform(0, min(longest_s, MOVE_SPREAD_S)))  # noqa: S311
        if connections and not is_last:
            await self._wait_all_gone(MOVE_S)

    async def _wait_all_gone(self, timeout_s: float) -> None:
        if self._connections:
            self._all_gone = trio.Event()
            with trio.move_on_after(timeout_s):
                await self._all_gone.wait()

    async def drain(self) -> None:
        """Answer the requests in flight, tell the receipts that wait, and close all connections; within
        `ANSWER_TIMEOUT_S` and `GOODBYE_TIMEOUT_S`."""
        log.info("draining", connections=len(self._connections))
        for connection in self._connections:
            connection.drain()
        with trio.move_on_after(ANSWER_TIMEOUT_S) as scope:
            await trio.sleep(READ_S)
            for connection in list(self._connections):
                await connection.wait_idle()
            self._marks.receipts.push_now()
            await self.node.wait_fanned_out()
        if scope.cancelled_caught:
            log.error("requests_unanswered", requests=sum(each.in_flight for each in self._connections))
        for connection in list(self._connections):
            connection.close(CloseCode.GOING_AWAY, "this node is stopping: connect again")
        await self._wait_all_gone(GOODBYE_TIMEOUT_S)

    def now_us(self) -> int:
        return self._clock.now_us()

    def _pushed(self, push: AddressedPush, connections: list[HubConnection]) -> None:
        self.hops.pushed(push, connections)
        self._delivery_times.pushed(push, connections)

    def _overdue(self) -> str:
        return self._sends.lanes.overdue() or self._marks.batcher.commits.overdue()

    def _describe(self, users: list[bytes]) -> NodeState:
        return describe(
            self.node,
            self.hub,
            self._connections,
            users,
            port=self._port,
            listening_since=self._listening_since,
            clients=self._client_counts.statistics(),
            queued_sends=self._sends.lanes.statistics().fast.queued,
            fault="stopping" if self.health.is_stopping else self.health.liveness_fault(),
        )

    async def answer_plain(self, head: bytes) -> bytes | None:
        request = asked(head)
        answer = request and await health_answer(request[1], self.health)
        return answer.encoded(is_head=request[0] == "HEAD") if answer and request else None

    async def _sign_off(self) -> None:
        with trio.move_on_after(SIGN_OFF_TIMEOUT_S):
            await self._last_seen.wait_idle()
            await self._uses.wait_idle()
            await self._delivery_times.flush()
        try:
            await self.node.sign_off()
        except StoreError as error:
            log.warning("not_signed_off", error=str(error))

    def trusts(self, address: str) -> bool:
        return address in self._trusted

    def forwarded(self, address: str, forwarded_for: list[str]) -> str:
        return forwarded_address(address, forwarded_for, self._trusted)

    def admit(self, connection: Connection) -> bytes | None:
        key = address_key(connection.address)
        if self._unwelcomed.take(key, trio.current_time()):
            self._refused += 1
            return refused_unwelcomed()
        if not self._addresses.enter(key):
            self._unwelcomed.give_back(key)
            self._refused += 1
            return refused_address(self._config.max_address_connections)
        connection.counted_as = key
        return None

    async def identify(self, connection: Connection, token: str) -> GreetedDevice:
        self._admission.enter(connection)
        return await greeted_device(self.pool, token)

    async def reports_for(self, connection: Connection) -> list[bytes]:
        return await self._open_reports.welcome(connection)

    def has_room(self, user: bytes) -> bool:
        return self.hub.count(user) < limits.MAX_USER_CONNECTIONS

    def budget_of(self, connection: Connection) -> Budget:
        connection.has_budget = True
        return self._budgets.enter(connection.user)

    async def register(self, connection: Connection) -> None:
        if self._room.served >= self._most_registered:
            raise Overloaded("the room for users", self._room.served)
        self._room.serve(connection)
        if self.hub.add(connection):
            self._last_seen.note(connection.user)
        self._keep_alive.add(connection)
        # For every device, not only the first: the first one's entry may still be under way.
        await self.node.enter(connection.user)

    def welcomed(self, connection: Connection, name: str | None) -> str:
        self._admission.leave(connection)
        self._staying.note()
        if connection.counted_as is not None:
            self._unwelcomed.give_back(connection.counted_as)
        self._uses.note(connection.device, name)
        return self._client_counts.enter(name)

    async def _note_uses(self) -> None:
        """A device that stays connected is in use. Until cancelled."""
        while True:
            await trio.sleep(USES_S)
            for connection in self._connections:
                if connection.registered_at:
                    self._uses.note(connection.device)

    @property
    def connections(self) -> frozenset[Connection]:
        """The open connections, greeted or not."""
        return frozenset(self._connections)

    def samples(self) -> Iterator[Sample]:
        """The metrics of this node, at a scrape. Atomic (no checkpoint)."""
        yield Sample("alo_connections", len(self._connections))
        yield Sample("alo_connections_accepted_total", self._room.accepted)
        yield Sample("alo_connections_refused_total", self._refused)
        yield from by_label("alo_connections_ended_total", self._ended)
        yield Sample("alo_admissions", len(self._admission))
        yield Sample("alo_budgets", len(self._budgets))
        yield from by_label("alo_resumes_total", self._request_handler.resumes)
        yield Sample("alo_marks_awaited", self._delivery_times.statistics().awaited)
        yield from wire_samples(self.counts)
        yield from outbox_samples(connection.outbox for connection in self._connections)
        yield from delivery_samples(self._sends, self.hub, self.hops, self.node)
        yield from cluster_samples(self.node)
        yield from self._store_samples()

    def _store_samples(self) -> Iterator[Sample]:
        lanes, marks, seen = self._sends.lanes, self._marks.batcher, self._last_seen
        found, kept = lanes.statistics(), self._participants.statistics()
        yield from batch_samples("sends", lanes.commits, found.fast.queued)
        yield from batch_samples("sends_slow", lanes.slow_commits, found.slow)
        yield from batch_samples("marks", marks.commits, marks.statistics().queued)
        yield from batch_samples("last_seen", seen.commits, seen.statistics().queued)
        yield Sample("alo_sends_diverted_total", found.diverted)
        yield from cache_uses("participants", hits=kept.hits, misses=kept.misses)
        yield Sample("alo_cache_values", kept.conversations, ("participants",))
        watched = self.node.presence.statistics()
        yield from cache_uses("presence", hits=watched.hits, misses=watched.misses)
        yield Sample("alo_cache_values", watched.watched, ("presence",))
        yield from key_samples(self._keys.claims)
        yield Sample("alo_keys_low_told_total", self._low_keys.told)
        yield from by_label("alo_undecryptable_total", self.healing.reported)
        yield Sample("alo_undecryptable_told_total", self._open_reports.told)
        yield Sample("alo_messages_healed_total", self.healing.healed)
        yield from pool_samples(self.pool)
        yield from redis_samples(self.redis, "bus")

    def statistics(self) -> GatewayStatistics:
        return GatewayStatistics(
            len(self._connections),
            self._client_counts.statistics(),
            self._sends.lanes.statistics(),
            self._marks.batcher.statistics(),
            self._last_seen.statistics(),
            self._participants.statistics().conversations,
            self._delivery_times.statistics().awaited,
        )

    async def wait_turn(self) -> None:
        async with self._turns:
            await trio.lowlevel.checkpoint()

    def leave(self, connection: Connection) -> None:
        self._log_end(connection)
        self._admission.leave(connection)
        if connection.counted_as is not None:
            self._addresses.leave(connection.counted_as)
            connection.counted_as = None
        if connection.client is not None:
            self._client_counts.leave(connection.client)
            connection.client = None
        if connection.has_budget:
            self._budgets.leave(connection.user, trio.current_time())
            connection.has_budget = False
        if connection.registered_at:
            self._delivery_times.left(connection)
            self._uses.note(connection.device)
            self._keep_alive.remove(connection)
            self.node.presence.forget(connection)
            if self.hub.remove(connection):
                self.node.depart(connection.user)
                self._last_seen.note(connection.user)

    def _log_end(self, connection: Connection) -> None:
        """The line about the life of a connection, without its address."""
        if connection.was_probed:
            log.debug("probe_answered")
        elif self._lines.has_room(connection.end_reason):
            log.info("connection_ended", **connection.life())

    async def _check_redis(self) -> None:
        await check_keeps_all(self.redis, self.node.bus)

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        # Without Redis a message would reach Postgres but, for a while, not the recipients on other nodes.
        if not self.redis.reaches(self.node.bus):
            raise Unavailable("Redis", self.redis.where, "not connected")
        self._sends.submit_nowait(connection, frame)
        self._delivery_times.sent(connection, frame.conversation)
        self._readers.note(connection.user)

    def mark_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        self._marks.submit_nowait(connection, frame)
        self._delivery_times.marked(connection, frame)
        if isinstance(frame, MarkRead):
            self._readers.note(connection.user)

    async def answer(self, connection: Connection, frame: LookUpRequest) -> bytes:
        if not isinstance(frame, (Hello, Sync)) or connection.outbox.has_synced:
            return await self._request_handler.answer(connection, frame)
        self._admission.enter(connection)
        try:
            return await self._request_handler.answer(connection, frame)
        finally:
            self._admission.leave(connection)


def _stop_this_process() -> None:
    """As a process manager does it: with the grace, and with the time to move and to drain."""
    os.kill(os.getpid(), signal.SIGTERM)


def _told(config: Config) -> tuple[int, bytes]:
    """The features and limits of this deployment, as a `welcome` has them: no files without an object store, and no
    limit that the operator has taken away."""
    not_here = {"public_avatars"} if config.avatar_mode != "public" else set()
    if not config.object_store_url:
        not_here |= {"attachments", "avatars", "public_avatars"}
    names = [name for name in features.NAMES if name not in not_here]
    quotas = msgspec.structs.asdict(config.quotas)
    set_here = {limit.name: quotas[limit.name] for limit in limits.NAMED if limit.name in quotas}
    told = limits.told(**{limits.CONNECTIONS_PER_ADDRESS.name: config.max_address_connections, **set_here})
    told = [(name, value) for name, value in told if value or name not in set_here]
    return encode_fields(Welcome(0, 0, b"", b"", 0, 0, 0, names, told), ("features", "limits"))
