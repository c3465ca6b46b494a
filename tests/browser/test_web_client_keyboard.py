"""The web client by keyboard alone: logging in, conversations, the actions of a message, the field to write in."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.postgres.pool import Pool
from tests.browser.web_world import PASSWORD, begin, focused, open_web_client, register, tab_to, write

pytestmark = pytest.mark.web


async def test_a_user_registers_reads_and_reacts_without_a_mouse(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann = client.tab
        await ann.open("/app")
        await tab_to(ann, "User name")
        await ann.type("ann")
        await ann.press("Tab")
        assert await focused(ann) == "Password"
        await ann.type(PASSWORD)
        await ann.press("Tab")
        assert await focused(ann) == "Log in"
        await ann.press("Tab")
        assert await focused(ann) == "Register"
        await ann.press("Enter")
        await ann.wait_named("Conversations")
        bob = await ann.another()
        await register(bob, "bob")
        await begin(bob, "ann", "Friends")
        await write(bob, "Hello")

        await ann.wait_named("Accept bob")
        await tab_to(ann, "Accept bob")
        await ann.press("Enter")
        await ann.wait("document.querySelector('nav button')", "the group is in the list")
        await tab_to(ann, "Friends, 1 unread")
        await ann.press("Enter")
        await ann.wait_named("bob: Hello")
        assert await focused(ann) == "Message", "who opens a conversation may write at once"
        await ann.press("Tab", "Shift")
        await tab_to(ann, "Actions for Hello", "Shift")
        await ann.press("Enter")
        await tab_to(ann, "React with 👍")
        await ann.press("Enter")
        await bob.wait_named("👍 1 by ann")
        assert await ann.complaints() == []
