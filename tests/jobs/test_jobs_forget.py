"""A worker forgets temp_ids that are old enough, and only those."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jobs_helpers import wait_until

from protocol.limits import CURSOR_DAYS, TEMP_ID_DAYS
from store.pool import Pool
from store.revisions import forget_revisions

KEYS = f"""
insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
select gen_random_uuid(),
       (lpad(to_hex((extract(epoch from t) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid,
       gen_random_uuid(), 'x', n, gen_random_uuid(), t
from generate_series(1, 5000) n,
     lateral (
         select now() - make_interval(days => case when n <= 4990 then {TEMP_ID_DAYS + 3} else 1 end, secs => n)
     ) as _ (t)
"""


async def test_a_worker_forgets_old_temp_ids_in_batches(
    pool: Pool, start_worker: Callable[..., Awaitable[Any]]
) -> None:
    await pool.fetch("update migrations set applied = applied - interval '1 year'")
    await pool.fetch(KEYS)
    await start_worker()

    async def are_forgotten() -> bool:
        return await pool.fetch("select count(*) from sends") == [(10,)]

    await wait_until(are_forgotten, "only the young keys are left")


async def test_changes_that_no_cursor_asks_for_are_forgotten(pool: Pool) -> None:
    """The messages stay as they are; a cursor that could ask for them has expired by then."""
    await pool.fetch(
        "insert into revisions (conversation_id, seq, at)"
        " select gen_random_uuid(), n, now() - make_interval(days => n) from generate_series(1, 200) n"
    )
    assert await forget_revisions(pool, limit=60) == 60
    assert await forget_revisions(pool, limit=60) == 200 - CURSOR_DAYS - 2 + 1 - 60
    assert await pool.fetch("select max(seq), count(*) from revisions") == [(CURSOR_DAYS + 1, CURSOR_DAYS + 1)]
