"""The web client in Chromium, as `web` serves it: people in tabs of one browser, who write to each other by MLS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embedded.web_packages import is_installed
from store.postgres.pool import Pool
from tests.browser.pages import ROOT
from tests.browser.tab import Tab, open_tab
from tests.processes import Cluster, open_cluster
from tests.system.many_nodes import start_nodes

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


@asynccontextmanager
async def open_client(pool: Pool, redis_url: str, folder: Path) -> AsyncGenerator[tuple[Tab, Cluster]]:
    """A tab with the web client; in the end nothing may have broken the policy, or failed without being caught."""
    assert is_installed(ROOT / "client" / "web"), "`make browser` installs its packages"
    settings = {"WEB_CLIENT": "1", "OBJECT_STORE_URL": (folder / "objects").as_uri()}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        nodes = await start_nodes(cluster, 1)
        await cluster.start_web(PUBLIC_SOCKET_URL=nodes[0].url)
        async with open_tab(folder, cluster.http_url) as tab:
            await tab.open("/app")
            yield tab, cluster


async def register(tab: Tab, name: str) -> None:
    await tab.open("/app")
    await tab.fill("User name", name)
    await tab.fill("Password", PASSWORD)
    await tab.click("Register")
    await tab.wait_named("Conversations")


async def test_two_people_in_two_tabs_write_to_each_other(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_client(pool, redis_url, tmp_path) as (ann, _):
        await register(ann, "ann")
        bob = await ann.another()
        await register(bob, "bob")
        await bob.click("New conversation")
        await bob.fill("User names", "ann")
        await bob.click("Begin")
        await bob.wait_named("Conversation with ann")
        await bob.fill("Message", "Hello from Bob")
        await bob.press("Enter")
        await bob.wait_named("You: Hello from Bob")
        await ann.click("Accept bob")
        await ann.click("bob, 1 unread, online")
        await ann.wait_named("bob: Hello from Bob")
        await ann.fill("Message", "Hello from Ann")
        await ann.press("Enter")
        await bob.wait_named("ann: Hello from Ann")
        assert await ann.complaints() == []
        assert await ann.violations() == []
