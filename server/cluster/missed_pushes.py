"""Looks in Postgres for pushes that this node's devices should have had and did not, before their cursors move.

A push may be lost without a sign: the node that commits a message may find one of the nodes that hold a recipient and
not the other. So before a device's cursor moves past a time, the node asks Postgres which messages were written before
that time, and compares them with its pushes; and asks Redis whether the other nodes find its users here. The node asks
a device that lacks a push to fetch it (`lag`), and the device's cursor stays where it is. Each missed push is counted
as a fault: every known cause requests a catch-up (`server.cluster.catch_up`) instead.

A push counts as missed only if the other nodes certainly found the device when the message was written, and a
different user wrote it: a device that sends gets a reply and no push. One query serves `AT_ONCE` users that were told
something lately; a device that was told nothing keeps its cursor. Only messages have a seq by which the node can miss
them: edits, marks and the rest are not checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
import trio

from server.delivery.hub import Hub, HubConnection
from store.messages import ActiveConversation, active_conversations, expected_deliveries
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.directory import enter, locate_some
from store.sync import CursorSnapshot

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""One query looks at the conversations of this many users."""

MARGIN_S: Final = 15.0
"""Postgres takes a message's `created` before the commit, which may take as long as a query."""

AGAIN_S: Final = 1.0
"""The node asks Redis again for users that it did not find here after this: a Redis that had forgotten everything is
whole by then, or a catch-up is requested."""

MAX_LOOKED_AT: Final = 200
"""The node looks at this many messages of one conversation, the last ones."""


class _Span(NamedTuple):
    """Messages with `after < seq <= upto` that the hub has not pushed."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class MissedStatistics:
    """A snapshot of the counters since the start.

    :ivar pushes: messages that a device here should have been offered and was not.
    :ivar devices: devices here that the other nodes did not find in the directory.
    """

    pushes: int
    devices: int


class MissedPushes:
    """Looks for pushes that devices of this node should have had and did not.

    :param catch_ups: how many have been requested here.
    """

    def __init__(self, redis: Redis, pool: Pool, hub: Hub, node: bytes, catch_ups: Callable[[], float]) -> None:
        self._redis = redis
        self._pool = pool
        self._hub = hub
        self._node = node
        self._catch_ups = catch_ups
        self._counts: Counter[str] = Counter()

    def statistics(self) -> MissedStatistics:
        return MissedStatistics(self._counts["push_missed"], self._counts["user_not_found_here"])

    async def find(self, since: Mapping[bytes, float], taken: CursorSnapshot, taken_at: float) -> None:
        """Ask the devices of these users that lack a message from before the snapshot to fetch it.

        :param since: the users, each with a time by Trio's clock: messages from before it have been checked already.
        :param taken: a snapshot of Postgres.
        :param taken_at: when it was taken, by Trio's clock, or a little before.
        :raises StoreError: if Postgres or Redis could not be asked.
        """
        # In order of time, so that a query does not look back further than its users need.
        users = sorted(since, key=since.__getitem__)
        for start in range(0, len(users), AT_ONCE):
            some = users[start : start + AT_ONCE]
            await self._check_directory(some)
            ago_s = trio.current_time() - since[some[0]] + MARGIN_S
            for active in await active_conversations(self._pool, some, ago_s=ago_s):
                for span in self._unpushed(active):
                    await self._check(active, span, taken, taken_at)

    def _unpushed(self, active: ActiveConversation) -> Iterator[_Span]:
        span = self._hub.span(active.conversation)
        if span is None and self._hub.has_forgotten:
            return
        first, head = span or (active.last_seq + 1, active.last_seq)
        for after, upto in ((active.base, min(first - 1, active.last_seq)), (max(head, active.base), active.last_seq)):
            if after < upto:
                yield _Span(max(after, upto - MAX_LOOKED_AT), upto)

    async def _check(self, active: ActiveConversation, span: _Span, taken: CursorSnapshot, taken_at: float) -> None:
        here = [user for user in active.participants if self._hub.holds(user)]
        for user, seq, created in await expected_deliveries(
            self._pool, here, active.conversation, after=span.after, upto=span.upto
        ):
            # A later message may be on its way; or it was pushed during this query.
            if created <= taken.now_us and not self._hub.has_pushed(active.conversation, seq):
                written_at = taken_at - (taken.now_us - created) / 1e6
                for connection in self._hub.of(user):
                    # A connection that has synced since has been told of the message.
                    if connection.outbox.has_synced_before(written_at):
                        self._note(connection, "push_missed", conversation=active.conversation.hex(), seq=seq)

    async def _check_directory(self, users: Sequence[bytes]) -> None:
        catch_ups = self._catch_ups()
        lost = await self._not_found(users)
        if not lost:
            return
        await trio.sleep(AGAIN_S)
        lost = await self._not_found(lost)
        await enter(self._redis, self._node, lost)
        if self._catch_ups() == catch_ups:
            for user in lost:
                for connection in self._hub.of(user):
                    self._note(connection, "user_not_found_here")

    async def _not_found(self, users: Sequence[bytes]) -> list[bytes]:
        where = zip(users, await locate_some(self._redis, users), strict=True)
        # A user with a synced connection had been entered into the directory before.
        return [
            user
            for user, nodes in where
            if not isinstance(nodes, Exception) and self._node not in nodes and self._hub.has_synced(user)
        ]

    def _note(self, connection: HubConnection, event: str, **what: object) -> None:
        self._counts[event] += 1
        log.error(event, node=self._node.hex(), user=connection.user.hex(), device=connection.device.hex(), **what)
        connection.outbox.lag(event)
        connection.outbox.flush()
