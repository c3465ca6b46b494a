"""A worker that is killed between the deletion of objects and that of their rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from protocol.limits import ATTACHMENT_PART_BYTES
from store.objects.folder import Folder
from store.objects.quotas import Quotas
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.transfers import Transfers
from tests.processes import Process, open_cluster
from tests.store.attachment_world import declared, put_into, put_parts, some_bytes, usage_of
from tests.store.store_world import is_waiting_for
from tests.waiting import wait_until

LARGE = some_bytes(ATTACHMENT_PART_BYTES + 5)
"""Two parts."""


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


@asynccontextmanager
async def held(pool: Pool, lock: str, function: str, process: Process) -> AsyncGenerator[None, None]:
    """While the block asks the process for something, it is killed in the middle of this function.

    :param lock: a query whose lock stops the function.
    """
    async with connected(pool.url) as holder:
        await holder.query("begin")
        await holder.query(lock)
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                await wait_until(lambda: is_waiting_for(pool, "Lock", function), f"the process is in {function}")
                process.kill()
                await process.wait()
                # Its connection would be ended by the kernel of another machine, too.
                await pool.fetch(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where wait_event_type = 'Lock' and datname = current_database()"
                )

            nursery.start_soon(kill)
            yield
        await holder.query("rollback")


@pytest.mark.long
async def test_a_worker_that_is_killed_while_it_removes_files_leaves_them_to_the_next(
    pool: Pool, redis_url: str, folder: Folder, alice: Credentials
) -> None:
    """After the objects were deleted, before the rows were removed; one upload has parts only."""
    transfers = Transfers(pool, folder, Quotas())
    tickets = await transfers.upload(alice.user, [declared(b"one"), declared(b"two"), declared(LARGE)])
    for ticket, data in zip(tickets, (b"one", b"two", LARGE), strict=True):
        await put_parts(put_into(folder), ticket.requests[:1], data)
    await pool.fetch("update attachments set created = created - interval '25 hours'")
    async with open_cluster(pool.url, redis_url, OBJECT_STORE_URL=Path(str(folder)).as_uri()) as cluster:
        worker = await cluster.start_worker()
        async with held(
            pool,
            f"select from attachment_usage where user_id = '{UUID(bytes=alice.user)}' for update",
            "remove_attachments",
            worker,
        ):
            pass
        assert await folder.list("") == []
        assert await folder.list_multiparts("") == []
        assert await usage_of(pool, alice.user) != (0, 0)
        # The first worker's claim ends by itself; a tick of the schedule would come, too.
        await pool.fetch("select enqueue('orphaned_attachments', '{}')")
        await cluster.start_worker()
        await wait_until(lambda: nothing_left(pool, alice), "the rows are removed", timeout_s=90)


async def nothing_left(pool: Pool, user: Credentials) -> bool:
    stored, _ = await usage_of(pool, user.user)
    return stored == 0 and not await pool.fetch("select 1 from attachments where user_id = %s", (uuid(user.user),))
