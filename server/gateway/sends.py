"""`send`: from the request through the group commit to the reply, the pushes here and the fan-out elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import trio

from protocol.codec import encode
from protocol.frames import Message, Send, Sent
from server.delivery.broadcast import Broadcast
from server.delivery.hub import Hub
from server.gateway.budgets import cost_of_pushes
from server.gateway.connection import Connection
from server.gateway.delivery_hops import DeliveryHops
from server.gateway.replies import store_error_reply
from store.batching.two_lanes import Lanes
from store.clock import Clock
from store.errors import Locked
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush


class PendingSend(NamedTuple):
    """A send between its request and its reply.

    :ivar received_at: when its bytes came, by Trio's clock.
    :ivar charged: what the user has paid for its pushes, as far as they were known; the rest is charged when it is
        committed.
    """

    connection: Connection
    request: int
    message: NewMessage
    received_at: float
    charged: int


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
    ) -> None:
        self._pool = pool
        self._participants = participants
        self._hub = hub
        self._broadcast = broadcast
        self._clock = clock
        self._hops = hops
        self.stored = 0
        self.repeated = 0
        self.refused = 0
        self.lanes: Lanes[PendingSend, Outcome] = Lanes(
            "the send queue",
            self._commit,
            self._settle,
            lambda pending: pending.message.size_bytes + 256,
            source_of=lambda pending: pending.message.sender,
            key_of=lambda pending: pending.message.conversation,
        )

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
        )
        charged = cost_of_pushes(self._participants.size(frame.conversation), message.size_bytes)
        self.lanes.submit_nowait(PendingSend(connection, frame.request, message, connection.heard_at, charged))
        connection.budget.charge(connection.heard_at, charged)

    async def _commit(self, batch: list[PendingSend], lock_wait_s: float) -> list[Outcome | Locked]:
        messages = [pending.message for pending in batch]
        now_ms = self._clock.now_ms()
        return [*await send(self._pool, self._participants, messages, lock_wait_s=lock_wait_s, now_ms=now_ms)]

    def _settle(self, batch: list[PendingSend], outcomes: list[Outcome | Locked]) -> None:
        """Reply, push and fan out for the whole batch, then flush each connection once. Atomic (no checkpoint)."""
        now, now_us = trio.current_time(), self._clock.now_us()
        for pending, outcome in zip(batch, outcomes, strict=True):
            cost = 0
            if isinstance(outcome, Committed):
                self._hub.offer(pending.connection, encode(_sent(pending.request, outcome)))
                if outcome.is_new:
                    self.stored += 1
                    self._hops.received_committed.observe(now - pending.received_at)
                    self._deliver(pending, outcome, now_us)
                    cost = cost_of_pushes(len(outcome.participants), pending.message.size_bytes)
                else:
                    self.repeated += 1
            else:
                self.refused += 1
                self._hub.offer(pending.connection, encode(store_error_reply(pending.request, outcome)))
            if cost != pending.charged:
                pending.connection.budget.charge(now, cost - pending.charged)
            pending.connection.answered()
        self._broadcast.flush()

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
                reply_to=message.reply_to,
                attachments=message.attachments,
                thumbnail=message.thumbnail,
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
        )
        self._broadcast.push(push)


def _sent(request: int, committed: Committed) -> Sent:
    return Sent(request, committed.seq, committed.message, committed.created)
