"""A worker deletes accounts, though other workers are killed in the midst of it."""

from __future__ import annotations

from jobs.tasks.account_deletions import AccountDeletions
from store import account_deletions
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.jobs.jobs_world import a_job, send_message
from tests.people import new_group, new_user
from tests.processes import open_cluster
from tests.store.store_world import running
from tests.waiting import wait_until

MESSAGES = 700
"""Of the user, in one conversation: seven steps, with a pause of 0.1 s after each."""


async def test_a_worker_goes_on_where_one_that_was_killed_has_ended(
    pool: Pool, database_url: str, redis_url: str
) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    group = await new_group(pool, alice, bob)
    await send_message(pool, group, alice.user, *[b"%d" % n for n in range(MESSAGES)])
    await account_deletions.close(pool, alice.user, delay_s=0, deletes_messages=True)

    async def erased() -> int:
        [(count,)] = await pool.fetch("select count(*) from messages where deleted is not null")
        return int(count)

    async def is_under_way() -> bool:
        return await erased() > 0

    async def is_done() -> bool:
        return await pool.fetch("select 1 from account_deletions") == []

    async with open_cluster(database_url, redis_url) as cluster:
        worker = await cluster.start_worker()
        await pool.fetch("select enqueue('delete_accounts', '{}')")
        await wait_until(is_under_way, "the first step", timeout_s=30)
        worker.kill()
        assert not await is_done()
        assert await erased() < MESSAGES
        await cluster.start_worker()
        await wait_until(is_done, "the deletion", timeout_s=60)
    assert await erased() == MESSAGES
    assert await pool.fetch("select username like 'deleted user %%' from users where id = %s", (uuid(alice.user),)) == [
        (True,)
    ]


async def test_a_run_with_nothing_due_does_nothing_and_a_second_run_does_no_harm(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with running(redis_url) as redis:
        deletions = AccountDeletions(pool, redis, None)
        await deletions.delete_accounts(a_job("delete_accounts"))
        await account_deletions.close(pool, alice.user, delay_s=0, deletes_messages=False)
        for _ in range(2):
            await deletions.delete_accounts(a_job("delete_accounts"))
    assert await pool.fetch("select count(*), count(deleted) from users") == [(1, 1)]
    assert await pool.fetch("select 1 from account_deletions") == []
