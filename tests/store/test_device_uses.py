"""When devices were used last: written once an hour for each, in batches, whatever is locked."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from client.http import Credentials
from store import device_uses
from store.device_uses import ACCURACY_S, DeviceUses
from store.errors import Unavailable
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import new_device
from tests.waiting import wait_until


@pytest.fixture
async def uses(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[DeviceUses, None]:
    monkeypatch.setattr(device_uses, "PATIENCE_S", 0.01)
    async with trio.open_nursery() as nursery:
        uses = DeviceUses(pool)
        nursery.start_soon(uses.run)
        yield uses
        nursery.cancel_scope.cancel()


async def shown(pool: Pool, device: Credentials) -> tuple[bool, str | None]:
    """Whether its last use is of the last minute, and its client."""
    [row] = await pool.fetch(
        "select last_used > clock_timestamp() - interval '1 minute', client from devices where id = %s",
        (uuid(device.device),),
    )
    return row  # type: ignore[return-value]


async def age(pool: Pool) -> None:
    await pool.fetch("update devices set last_used = last_used - interval '3 days'")


async def test_a_device_that_is_used_all_the_time_is_written_once_an_hour(
    pool: Pool, uses: DeviceUses, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    await age(pool)
    assert await shown(pool, alice) == (False, None)
    for _ in range(1000):
        uses.note(alice.device)
    await uses.wait_idle()
    assert await shown(pool, alice) == (True, None)
    assert uses.statistics().items == 1
    began = trio.current_time()
    monkeypatch.setattr(trio, "current_time", lambda: began + ACCURACY_S + 1)
    uses.note(alice.device)
    monkeypatch.undo()
    await uses.wait_idle()
    assert uses.statistics().items == 2


async def test_the_client_is_the_one_that_was_told_last(pool: Pool, uses: DeviceUses, alice: Credentials) -> None:
    for told, expected in ((None, None), ("app/1", "app/1"), (None, "app/1"), ("app/2", "app/2"), ("app/2", "app/2")):
        uses.note(alice.device, told)
        await uses.wait_idle()
        assert await shown(pool, alice) == (True, expected)
    assert uses.statistics().items == 3


async def test_devices_of_one_batch_get_their_own_and_unknown_ones_do_no_harm(
    pool: Pool, uses: DeviceUses, alice: Credentials
) -> None:
    other, unused = await new_device(pool, alice.user), await new_device(pool, alice.user)
    await age(pool)
    uses.note(alice.device, "one")
    uses.note(bytes(16), "unknown")
    uses.note(other.device, "two")
    await uses.wait_idle()
    assert [await shown(pool, each) for each in (alice, other, unused)] == [(True, "one"), (True, "two"), (False, None)]
    assert uses.statistics().batches == 1


async def test_a_locked_device_waits_for_the_next_batch_and_holds_up_no_other(
    pool: Pool, uses: DeviceUses, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    await age(pool)
    async with connected(pool.url) as connection:
        await connection.query("begin")
        await connection.query("select 1 from devices where id = %s for update", (uuid(alice.device),))
        uses.note(alice.device)
        uses.note(other.device)
        await wait_until(lambda: is_used(pool, other), "the other is written")
        assert not await is_used(pool, alice)
        await connection.query("rollback")
    await wait_until(lambda: is_used(pool, alice), "it is written")


async def test_a_use_is_written_after_an_outage(
    pool: Pool, uses: DeviceUses, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    await age(pool)
    asked = trio.Event()

    async def unreachable(*_: object) -> list[tuple[bytes]]:
        asked.set()
        raise Unavailable("Postgres", "here", "no answer")

    with monkeypatch.context() as outage:
        outage.setattr(pool, "run", unreachable)
        uses.note(alice.device)
        await asked.wait()
    await wait_until(lambda: is_used(pool, alice), "it is written")


async def is_used(pool: Pool, device: Credentials) -> bool:
    return (await shown(pool, device))[0]
