"""Whether this node's devices were offered what they should have been: looked up in Postgres before their cursors move.

A push may be lost without a sign: the node that commits a message may find one of the nodes that hold a recipient and
not the other. So before a device's cursor moves past a time, the node asks Postgres which messages were written before
it, and compares that with what it has pushed; and asks Redis whether the other nodes find its users here. A device that
lacks something is asked to fetch it (`lag`), and its cursor stays where it is. What is found is counted: it is a fault,
since what has a cause requests a catch-up (`server.cluster.catch_up`).

A message is only missed here if a device was certainly to be found when it was written, and someone else wrote it: the
own device that sends gets a reply and no push. One query for `AT_ONCE` users who were told something lately; a device
that was told nothing keeps its cursor. Of edits, marks and the rest there is no number that could be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
import trio

from server.delivery.hub import Hub, HubConnection
from store.messages import ActiveConversation, active_conversations, expected_deliveries
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.directory import enter, locate
from store.sync import CursorSnapshot

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""Users whose conversations one query looks at."""

MARGIN_S: Final = 15.0
"""A message's `created` is taken before its commit, which may take as long as a query may."""

AGAIN_S: Final = 1.0
"""After which it is asked again whether users are found here: a Redis that has forgotten everything is whole by then,
or a catch-up is requested."""

MAX_LOOKED_AT: Final = 200
"""Messages of one conversation that are looked at, the last ones."""


class _Span(NamedTuple):
    """Messages with `after < seq <= upto` that the hub has not pushed."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class MissedStatistics:
    """A snapshot of the counters since the start.

    :ivar pushes: messages that a device here should have been offered and was not.
    :ivar devices: whose user the other nodes did not find here.
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

    async def find(self, users: Sequence[bytes], taken: CursorSnapshot, taken_at: float, since: float) -> None:
        """Ask those devices of these users to fetch what is new that lack something which was written by a time.

        :param taken: what had been committed by then.
        :param taken_at: when that was, by Trio's clock, or a little before.
        :param since: by the same clock; what was written before it has been looked at.
        :raises StoreError: if it could not be looked up.
        """
        for start in range(0, len(users), AT_ONCE):
            some = users[start : start + AT_ONCE]
            await self._check_directory(some)
            for active in await active_conversations(self._pool, some, ago_s=trio.current_time() - since + MARGIN_S):
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
        here = [user for user in active.joined if self._hub.holds(user)]
        for user, seq, created in await expected_deliveries(
            self._pool, here, active.conversation, after=span.after, upto=span.upto
        ):
            # What is later may be on its way; or it came while this was looked up.
            if created <= taken.now_us and not self._hub.has_pushed(active.conversation, seq):
                written_at = taken_at - (taken.now_us - created) / 1e6
                for connection in self._hub.of(user):
                    # Who has synced since has been told of it.
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
        where = zip(users, await locate(self._redis, users), strict=True)
        # Who has synced had been entered before.
        return [user for user, nodes in where if self._node not in nodes and self._hub.has_synced(user)]

    def _note(self, connection: HubConnection, event: str, **what: object) -> None:
        self._counts[event] += 1
        log.error(event, node=self._node.hex(), user=connection.user.hex(), device=connection.device.hex(), **what)
        connection.outbox.lag()
        connection.outbox.flush()
