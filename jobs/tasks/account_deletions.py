"""The task `delete_accounts`: deletes the accounts whose users have asked for it, once their time to think it over has
passed.

A run does small steps, each one transaction (`store.account_deletions`). However a run ends, the next one goes on from
there.
"""

from __future__ import annotations

from typing import Final

import structlog

from jobs.engine.job import Job
from jobs.tasks.batches import in_batches
from jobs.tasks.exports import delete_objects
from store import account_deletions, exports
from store.account_deletions import DueDeletion
from store.objects.interface import Objects
from store.postgres.pool import Pool
from store.redis.bus import publish
from store.redis.client import Redis
from store.redis.directory import live_nodes
from store.redis.entries import encode_catch_up_request

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 60.0
"""From one run to the next."""

LOOK_AT: Final = 5000
"""Messages of one conversation that one transaction looks at: some 5 ms, with the conversation locked."""

MESSAGES: Final = 100
"""Messages that one transaction deletes: some 30 ms, with their conversation locked."""

CONVERSATIONS: Final = 20
"""Conversations that one transaction leaves; it has them all locked in the end."""

CONTACTS: Final = 200
"""Contacts in one transaction. Each counts as a change of its user's settings."""

ROWS: Final = 2000
"""Rows in one transaction that nothing else refers to: some 20 ms."""


class NotTold(Exception):
    """Redis refused to tell nodes; another attempt tells them."""


class AccountDeletions:
    """The handler. Two runs may overlap.

    :param redis: the Redis that nodes read (`Config.bus_url`).
    :param objects: has exports; None if the deployment keeps none.
    """

    def __init__(self, pool: Pool, redis: Redis, objects: Objects | None) -> None:
        self._pool = pool
        self._redis = redis
        self._objects = objects

    async def delete_accounts(self, job: Job) -> None:
        """Delete accounts until none is due or the time is over, and tell the nodes.

        :raises NotTold, Unavailable, ObjectStoreRefused: another attempt goes on.
        """
        # A worker may have been killed after its steps.
        await self._tell()
        await in_batches(job, self._step, "rows looked at")
        await self._tell()

    async def _step(self) -> int:
        """Do one step of the deletion that is due first; return 0 if none is due."""
        pool, due = self._pool, await account_deletions.next_due(self._pool)
        if due is None:
            return 0
        count = 0
        if due.deletes_messages:
            count = await account_deletions.erase_own_messages(pool, due.user, look_at=LOOK_AT, limit=MESSAGES)
        count = (
            count
            or await account_deletions.leave_conversations(pool, due.user, limit=CONVERSATIONS)
            or await account_deletions.delete_contacts(pool, due.user, limit=CONTACTS)
            or await account_deletions.delete_rows(pool, due.user, limit=ROWS)
        )
        if count:
            return count
        await self._delete_objects(due)
        if await account_deletions.anonymise(pool, due.user):
            log.info("account_deleted", user=due.user.hex())
        return 1

    async def _delete_objects(self, due: DueDeletion) -> None:
        """The exports. Without an object store there are none."""
        if self._objects is None:
            return
        for export in await exports.exports_of_account(self._pool, due.user):
            await delete_objects(self._objects, export)
            await exports.remove(self._pool, export)

    async def _tell(self) -> None:
        """Have all nodes look for the changes: no pushes follow from the steps."""
        untold = await account_deletions.untold(self._pool)
        if not untold:
            return
        request = encode_catch_up_request(max(each.ago_s for each in untold))
        nodes = await live_nodes(self._redis)
        if await publish(self._redis, [(node, request) for node in nodes]):
            raise NotTold("Redis refused to tell the nodes of deleted accounts: its memory is full")
        await account_deletions.note_told(self._pool, untold)
