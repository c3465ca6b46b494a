"""The web client when something fails: each message that was shown stays, and each that was written is sent once."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.postgres.pool import Pool
from tests.browser.web_world import count_of, friends, log_in, open_web_client, wait_told, write

pytestmark = pytest.mark.web

OFFLINE = "Offline: what you write is kept here, and sent once the server answers again"


async def test_a_message_that_was_written_without_a_gateway_is_sent_once_also_after_a_reload(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann, bob = await friends(client)
        await client.kill_gateway()
        await wait_told(bob, "status", OFFLINE)
        await write(bob, "Into the void", shown="Waiting to be sent")
        await bob.open(await bob.value("location.pathname + location.search + location.hash"))
        await bob.wait_named("Waiting to be sent: Into the void")
        await write(ann, "From the other side", shown="Waiting to be sent")
        await client.start_gateway()
        for tab, mine, other, name in (
            (ann, "From the other side", "Into the void", "bob"),
            (bob, "Into the void", "From the other side", "ann"),
        ):
            await tab.wait_named(f"You: {mine}", f"{name}: {other}")
            assert await count_of(tab, f"You: {mine}") == await count_of(tab, f"{name}: {other}") == 1
        await write(bob, "On again")
        await ann.wait_named("bob: On again")
    rows = await pool.fetch("select seq from messages where not is_quiet order by seq")
    assert len(rows) == 4, "each message is stored once"


async def test_a_second_device_reads_what_comes_from_then_on_and_is_told_of_what_was_before(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client, client.other_browser() as second:
        ann, bob = await friends(client)
        await log_in(second, "ann")
        await wait_told(bob, "alert", "ann has a new device: the safety number has changed, see Details")
        await write(bob, "For both of you")
        await ann.wait_named("bob: For both of you")
        # Its name has the unread count, which the other device lowers at any time.
        await second.value("document.querySelector('nav button').click()")
        await second.wait_named("bob: For both of you", "bob: Sent before this device took part")
        await write(second, "From my second device")
        await ann.wait_named("You: From my second device")
        await bob.wait_named("ann: From my second device")
        assert await second.complaints() == []
