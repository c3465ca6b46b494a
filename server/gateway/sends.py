"""`send`: from the request through the group commit to the reply, the pushes here and the fan-out elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog
import trio

from protocol.codec import encode
from protocol.errors import RequestError
from protocol.frames import Envelope, Message, Send, Sent
from server.delivery.broadcast import Broadcast
from server.delivery.hub import Hub
from server.delivery.message_traces import MessageTraces, SendTrace
from server.gateway.budgets import cost_of_pushes, in_debt
from server.gateway.connection import Connection
from server.gateway.delivery_hops import DeliveryHops
from server.gateway.replies import error_name
from store.batching.two_lanes import Lanes
from store.clock import Clock
from store.envelopes import pack
from store.errors import Locked, Overloaded, StaleDevices, StoreError, Unavailable
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache, participant_counts
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush

log = structlog.get_logger(__name__)

UNCOUNTED: Final = 16
"""Sends of one user in a batch that are charged by cached lists of participants. A list may be out of date, as after a
group has grown; for more sends the numbers are read before the commit."""

ListChanged: TypeAlias = Callable[[Connection, bytes, StaleDevices, Sequence[str] | None], Awaitable[None]]
"""Adds the devices of the changed users to a refusal (`KeyHandler.list_changed`)."""

Settled: TypeAlias = Outcome | RequestError
"""The outcome of a send; a RequestError if its user could not pay for its pushes, and it was not committed."""


@dataclass(slots=True, eq=False)
class PendingSend:
    """A send between its request and its reply.

    :ivar size_bytes: of the message, as each device gets it.
    :ivar received_at: when its bytes came, by Trio's clock.
    :ivar charged: what the user has paid for its pushes so far.
    :ivar trace: None unless it is sampled.
    :ivar wants_devices: if the device set has changed, the reply lists the devices of the changed users.
    :ivar kinds: of keys to claim of each of these devices; None: none.
    :ivar envelopes: as `message` has them packed; None: none.
    """

    connection: Connection
    request: int
    message: NewMessage
    size_bytes: int
    received_at: float
    charged: int
    trace: SendTrace | None = None
    wants_devices: bool = False
    kinds: list[str] | None = None
    envelopes: list[Envelope] | None = None


class Sends:
    """All sends of this node, committed in batches; a send to a locked conversation does not hold up the others.

    :ivar stored, repeated, refused: sends by their outcome; a repeated one had been stored before.
    """

    def __init__(
        self,
        pool: Pool,
        participants: ParticipantsCache,
        hub: Hub,
        broadcast: Broadcast,
        clock: Clock,
        hops: DeliveryHops,
        list_changed: ListChanged,
        traces: MessageTraces | None = None,
    ) -> None:
        self._pool = pool
        self._participants = participants
        self._hub = hub
        self._broadcast = broadcast
        self._clock = clock
        self._hops = hops
        self._list_changed = list_changed
        self._traces = traces
        self._nursery: trio.Nursery | None = None
        self.stored = 0
        self.repeated = 0
        self.refused = 0
        self.lanes: Lanes[PendingSend, Settled] = Lanes(
            "the send queue",
            self._commit,
            self._settle,
            lambda pending: pending.size_bytes + pending.message.envelope_bytes + 256,
            source_of=lambda pending: pending.message.sender,
            key_of=lambda pending: pending.message.conversation,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self.lanes.run()

    def submit_nowait(self, connection: Connection, frame: Send) -> None:
        """Queue a send. Atomic (no checkpoint).

        :raises Overloaded: if too many sends wait already.
        """
        message = NewMessage(
            frame.conversation,
            connection.user,
            frame.temp_id,
            frame.content_type,
            frame.content,
            frame.nonce,
            frame.ephemeral_public_key,
            frame.reply_to,
            frame.attachments,
            frame.thumbnail,
            connection.device,
            bool(frame.is_quiet),
            frame.devices_version,
            pack(frame.envelopes),
            frame.follows,
        )
        users = self._participants.size_for(frame.conversation, connection.user)
        size_bytes = message.size_bytes
        charged = cost_of_pushes(users, size_bytes)
        trace = None if self._traces is None else self._traces.begin(message.conversation, connection.heard_at)
        wants_devices = frame.wants_devices is True
        self.lanes.submit_nowait(
            PendingSend(
                connection,
                frame.request,
                message,
                size_bytes,
                connection.heard_at,
                charged,
                trace,
                wants_devices,
                frame.kinds,
                frame.envelopes,
            )
        )
        connection.budget.charge(connection.heard_at, charged)

    async def _commit(self, batch: list[PendingSend], lock_wait_s: float) -> list[Settled | Locked]:
        try:
            counts = await self._read_counts(batch)
        except (Unavailable, Overloaded) as error:
            return [error] * len(batch)
        refusals = self._charge(batch, counts)
        paid = [pending for n, pending in enumerate(batch) if n not in refusals] if refusals else batch
        if not paid:
            return list(refusals.values())
        messages, now_ms, began = [pending.message for pending in paid], self._clock.now_ms(), trio.current_time()
        sent = await send(self._pool, self._participants, messages, lock_wait_s=lock_wait_s, now_ms=now_ms)
        if self._traces is not None:
            self._traces.committed([pending.trace for pending in paid], began, "slow" if lock_wait_s else "fast")
        outcomes = iter(sent)
        return [refusals[n] if n in refusals else next(outcomes) for n in range(len(batch))]

    async def _refuse_with_devices(self, pending: PendingSend, changed: StaleDevices) -> None:
        """Refuse a send with the devices that its client has asked for. By itself: other sends do not wait for it."""
        await self._list_changed(pending.connection, pending.message.conversation, changed, pending.kinds)
        self._refuse(pending, changed)
        self._broadcast.flush()

    def _refuse(self, pending: PendingSend, error: StoreError) -> None:
        self._hub.offer(pending.connection, pending.connection.refusal(pending.request, error))
        pending.connection.answered()

    async def _read_counts(self, batch: list[PendingSend]) -> dict[tuple[bytes, bytes], int]:
        """By conversation and sender, how many users the pushes go to: where no list is cached, or where the sender has
        so many sends in the batch that a list which is out of date would hide much."""
        size_for = self._participants.size_for
        by_sender = Counter(pending.message.sender for pending in batch) if len(batch) > UNCOUNTED else {}
        asked = {
            (message.conversation, message.sender)
            for message in (pending.message for pending in batch)
            if by_sender.get(message.sender, 0) > UNCOUNTED or not size_for(message.conversation, message.sender)
        }
        return await participant_counts(self._pool, list(asked)) if asked else {}

    def _charge(self, batch: list[PendingSend], counts: dict[tuple[bytes, bytes], int]) -> dict[int, RequestError]:
        """Charge pushes before the commit that causes them, as far as they were not charged when the request came.
        Returns the refusals of users who are in debt, by place in the batch. Atomic (no checkpoint)."""
        now = trio.current_time()
        refusals: dict[int, RequestError] = {}
        for n, pending in enumerate(batch):
            key = pending.message.conversation, pending.message.sender
            users = max(counts.get(key, 0), self._participants.size_for(*key))
            due = cost_of_pushes(users, pending.size_bytes) - pending.charged
            if due > 0:
                budget = pending.connection.budget
                debt_s = budget.debt_s(now)
                if debt_s > 0:
                    refusals[n] = in_debt(pending.request, debt_s)
                else:
                    budget.charge(now, due)
                    pending.charged += due
        return refusals

    def _settle(self, batch: list[PendingSend], outcomes: list[Settled | Locked]) -> None:
        """Reply, push and fan out for the whole batch, then flush each connection once. Atomic (no checkpoint)."""
        now, now_us = trio.current_time(), self._clock.now_us()
        for pending, outcome in zip(batch, outcomes, strict=True):
            cost = 0
            if isinstance(outcome, Committed):
                self._hub.offer(pending.connection, encode(_sent(pending, outcome)))
                if outcome.is_new:
                    self.stored += 1
                    self._hops.received_committed.observe(now - pending.received_at)
                    self._deliver(pending, outcome, now_us)
                    cost = cost_of_pushes(len(outcome.participants), pending.size_bytes)
                else:
                    self.repeated += 1
                pending.connection.answered()
            elif isinstance(outcome, RequestError):
                self.refused += 1
                pending.connection.refuse(outcome)
                pending.connection.answered()
            else:
                self.refused += 1
                if pending.wants_devices and isinstance(outcome, StaleDevices):
                    assert self._nursery is not None, "the sends run"
                    self._nursery.start_soon(self._refuse_with_devices, pending, outcome)
                else:
                    self._refuse(pending, outcome)
            if cost != pending.charged:
                pending.connection.budget.charge(now, cost - pending.charged)
        self._broadcast.flush()
        if self._traces is not None:
            self._end_spans(self._traces, batch, outcomes)

    def _end_spans(self, traces: MessageTraces, batch: list[PendingSend], outcomes: list[Settled | Locked]) -> None:
        for pending, outcome in zip(batch, outcomes, strict=True):
            if pending.trace is None:
                continue
            if isinstance(outcome, Committed):
                told = [user for user in outcome.participants if user != pending.message.sender]
                how, recipients = ("sent", told) if outcome.is_new else ("again", [])
                traces.settled(pending.trace, how, outcome.seq, recipients)
            elif isinstance(outcome, RequestError):
                traces.settled(pending.trace, outcome.code.name.lower())
            else:
                traces.settled(pending.trace, error_name(outcome))

    def _deliver(self, pending: PendingSend, committed: Committed, now_us: int) -> None:
        message = pending.message
        frame = encode(
            Message(
                message.conversation,
                committed.seq,
                committed.message,
                committed.created,
                message.sender,
                message.content_type,
                message.content,
                message.nonce,
                message.ephemeral_public_key,
                device=message.device,
                reply_to=message.reply_to,
                attachments=message.attachments,
                thumbnail=message.thumbnail,
                is_quiet=message.is_quiet or None,
                has_envelopes=None if message.envelopes is None else True,
                follows=message.follows,
                quiet_count=committed.quiet_count,
            )
        )
        push = AddressedPush(
            message.conversation,
            committed.seq,
            frame,
            committed.participants,
            pending.connection,
            cause=message.sender,
            temp_id=message.temp_id,
            committed_us=now_us,
            trace=None if pending.trace is None else pending.trace.span.context,
            envelopes=None if pending.envelopes is None else dict(pending.envelopes),
        )
        self._broadcast.push(push)


def _sent(pending: PendingSend, committed: Committed) -> Sent:
    device = committed.device if committed.device != pending.message.device else None
    seq, message, created = committed.seq, committed.message, committed.created
    return Sent(pending.request, seq, message, created, device, committed.quiet_count)
