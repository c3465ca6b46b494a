"""The web client among people: who types, and a user's own tabs and devices."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from store.postgres.pool import Pool
from tests.browser.web_world import (
    PASSWORD,
    count_of,
    friends,
    log_in,
    open_web_client,
    wait_gone,
    wait_told,
    write,
)

pytestmark = pytest.mark.web

ENDED: Final = "This device is logged out: choose Log out in the menu, and log in again"


async def test_typing_is_shown_until_the_message_comes(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        bob, ann = await friends(client, "bob", "ann")
        await bob.fill("Message", "Hm")
        await wait_told(ann, "status", "bob types …")
        await bob.press("Enter")
        await ann.wait_named("bob: Hm")
        typing = "document.querySelector('[aria-label=Typing]').textContent"
        await ann.wait(f"{typing} === ''", "who has written types no longer")


async def test_another_tab_takes_over_and_another_device_is_revoked_with_the_password(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client, client.other_browser() as far:
        first, bob = await friends(client)
        second = await first.another()
        await second.open(await first.value("location.pathname + location.search + location.hash"))
        await second.wait_named("bob: First")
        await write(second, "From the tab that follows")
        await first.wait_named("You: From the tab that follows")
        await first.close()
        await write(bob, "Are you there?")
        await second.wait_named("bob: Are you there?")
        await write(second, "From the tab that took over")
        await bob.wait_named("ann: From the tab that took over")
        assert await count_of(second, "You: From the tab that follows") == 1

        await log_in(far, "ann")
        await second.click("Menu")
        await second.click("Account and devices")
        await second.wait_named("Revoke Web client")
        await pool.fetch("update devices set confirmed = confirmed - interval '1 hour'")
        password = "Password, to revoke Web client"
        await second.click("Revoke Web client")
        await second.fill(password, PASSWORD)
        await second.click(f"Save: {password}")
        await wait_gone(second, f"Save: {password}")
        await wait_told(far, "status", ENDED)
        await wait_gone(second, "Revoke Web client")
        devices = "document.querySelectorAll('[aria-label=Devices] > li').length"
        assert await second.value(devices) == 1


async def test_a_user_is_blocked_and_unblocked(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann, _ = await friends(client)
        await ann.click("Details")
        await ann.click("Block bob")
        await ann.wait_named("Unblock bob")
        assert await pool.fetch("select is_blocked from contacts where is_blocked") == [(True,)]
        await ann.click("Unblock bob")
        await ann.wait_named("Block bob", "Remove contact bob")
        assert await pool.fetch("select is_blocked from contacts where is_blocked") == []
