"""The web client in groups: messages that disappear, a user who is removed, and two groups at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.postgres.pool import Pool
from tests.ageing import age
from tests.browser.tab import Tab
from tests.browser.web_world import begin, count_of, friends, open_web_client, write
from tests.server.test_retention import run_retention

pytestmark = pytest.mark.web


async def choose_lifetime(tab: Tab, seconds: int) -> None:
    """In the details, which are open."""
    await tab.value(
        "(() => { const chosen = document.querySelector('.details select');"
        f" chosen.value = '{seconds}'; chosen.dispatchEvent(new Event('change', {{ bubbles: true }})) }})()"
    )


async def wait_unnamed(tab: Tab, name: str) -> None:
    """Until nothing is called so."""
    await tab.wait(f"!document.querySelector('[aria-label=\"{name}\"]')", f"{name} is gone")


async def test_messages_disappear_from_open_pages_and_a_removed_user_is_shown_nothing_more(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann, bob = await friends(client)
        await bob.click("Details")
        await choose_lifetime(bob, 3600)
        for tab in (ann, bob):
            await tab.wait("document.body.textContent.includes('messages disappear after an hour')", "the page says so")
        await bob.click("Details")
        await write(bob, "Second")
        await ann.wait_named("bob: Second")
        [(group,)] = await pool.fetch("select id from conversations where kind = 'group'")
        [(first,), _] = await pool.fetch("select seq from messages where not is_quiet order by seq")
        await age(pool, group, upto=first)
        await run_retention(pool, redis_url)
        await wait_unnamed(ann, "bob: First")
        await wait_unnamed(bob, "You: First")
        assert await count_of(ann, "bob: Second") == await count_of(bob, "You: Second") == 1

        await bob.click("Details")
        await bob.click("Remove ann from the group")
        await ann.wait("!document.body.textContent.includes('Friends')", "the group is gone")
        await bob.click("Details")
        await write(bob, "Without ann")
        for _ in range(2):
            assert await count_of(ann, "bob: Second") == await count_of(ann, "bob: Without ann") == 0
            await ann.open(await ann.value("location.pathname + location.search + location.hash"))
            await ann.wait_named("Conversations")
        assert await ann.complaints() == await bob.complaints() == []


async def test_two_groups_at_once_keep_their_messages_and_unread_counts_apart(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann, bob = await friends(client)
        await begin(bob, "ann", "Work")
        await write(bob, "First at work")
        await ann.click("Accept bob")
        await ann.click("Work, 1 unread")
        await ann.wait_named("bob: First at work")
        await bob.click("Friends")
        await bob.wait_named("Conversation with Friends")
        await write(ann, "Still at work")
        await bob.wait_named("Work, 1 unread")
        await write(bob, "Among friends")
        await ann.wait_named("Friends, 1 unread")
        assert await count_of(ann, "bob: Among friends") == await count_of(bob, "ann: Still at work") == 0
        await ann.click("Friends, 1 unread")
        await ann.wait_named("bob: First", "bob: Among friends")
        await bob.click("Work, 1 unread")
        await bob.wait_named("You: First at work", "ann: Still at work")
        await write(ann, "Back among friends")
        await bob.wait_named("Friends, 1 unread")
        for tab, elsewhere in ((ann, "You: Still at work"), (bob, "ann: Back among friends")):
            assert await count_of(tab, elsewhere) == 0
            assert await tab.complaints() == []
