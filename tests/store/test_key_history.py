"""A failed-over database, which has forgotten claims, hands no key out twice (P13). `test_history.py` restores one."""

from __future__ import annotations

from pathlib import Path

import trio

from embedded.postgres import NOT_DURABLE, PostgresServer
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.memory import in_memory
from tests.standby import Standby
from tests.store.key_world import KeyOwner
from tests.waiting import wait_until_blocking


def test_a_standby_that_lost_claims_hands_out_last_resort_keys_until_the_device_uploads_new_ones(
    tmp_path: Path,
) -> None:
    with in_memory(tmp_path) as folder:
        primary = PostgresServer(folder / "primary", settings=NOT_DURABLE)
        standby = Standby(folder / "standby", primary, settings=NOT_DURABLE)
        primary.start()
        try:
            trio.run(migrate, primary.url)
            standby.start()
            owner = KeyOwner(lambda: primary.url if primary.is_running else standby.url)
            owner.run(owner.begin)

            async def has_key(pool: Pool) -> bool:
                return bool(await pool.fetch("select 1 from one_time_keys"))

            follower = KeyOwner(lambda: f"{standby.url}?target_session_attrs=any")
            wait_until_blocking(lambda: follower.run(has_key), "the standby has the keys")
            standby.cut_off()
            assert owner.run(owner.claim) == [1, 2, 3]
            primary.kill()
            standby.promote()
            owner.check()
        finally:
            primary.stop()
            standby.stop()
