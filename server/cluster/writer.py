"""A process that commits changes for clients and has no connections: it tells the nodes, and they notice if it dies.

Such a process may be killed between a commit and its push. Nodes notice that by its lease, as they do with one another,
and catch up with the changes that they may not have been told of (`server.cluster.catch_up`).
"""

from __future__ import annotations

import os

import structlog
import trio

from server.cluster.unknown_outcomes import UnknownOutcomes
from server.delivery.broadcast import Broadcast
from server.delivery.fanout import Fanout
from store.errors import StoreError, Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis, RedisError
from store.redis.directory import ALONE_S, HEARTBEAT_S, NODE_BYTES, beat_writer, sign_off_writer

log = structlog.get_logger(__name__)


class Writer:
    """This process among the nodes. Run `run` in a nursery."""

    def __init__(self, redis: Redis, pool: Pool) -> None:
        self._redis = redis
        self.id = os.urandom(NODE_BYTES)
        self._fanout = Fanout(redis, self.id, lambda: False, everyone=self._live_nodes)
        self._nodes: list[bytes] = []
        self._nodes_until = 0.0
        self.broadcast = Broadcast(self._fanout)
        self._unknown_outcomes = UnknownOutcomes(pool.url, self._tell_unknown_outcomes)
        pool.on_unknown_outcome = self._unknown_outcomes.note

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_lease)
            nursery.start_soon(self._fanout.run)
            nursery.start_soon(self._unknown_outcomes.run)

    def _tell_unknown_outcomes(self, since: float) -> None:
        self._fanout.miss("the outcome of a write is not known", since=since)

    async def _keep_lease(self) -> None:
        while True:
            await self._redis.wait_connected()
            try:
                while True:
                    await self._fanout.tell_missed(await self._beat())
                    await trio.sleep(HEARTBEAT_S)
            except (Unavailable, RedisError) as error:
                log.warning("lease_not_kept", error=str(error))
                await trio.sleep(HEARTBEAT_S / 4)

    async def _beat(self) -> list[bytes]:
        """Renew the lease; returns the nodes that live."""
        began = trio.current_time()
        self._nodes = await beat_writer(self._redis, self.id)
        self._nodes_until = began + ALONE_S
        return self._nodes

    def _live_nodes(self) -> list[bytes] | None:
        return self._nodes if trio.current_time() < self._nodes_until else None

    async def sign_off(self) -> None:
        """Leave in good order if the nodes have been told of every commit; else the lease ends, and the nodes catch
        up."""
        await self._fanout.wait_idle()
        try:
            await self._fanout.tell_missed(await self._beat())
            if self._fanout.missed_since is None and not self._unknown_outcomes.are_open:
                await sign_off_writer(self._redis, self.id)
        except StoreError as error:
            log.warning("not_signed_off", error=str(error))
