"""The web client in Chromium, as `web` serves it: people in tabs of one browser, who write to each other by MLS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from embedded.ports import free_port
from embedded.web_packages import is_installed
from store.postgres.pool import Pool
from tests.browser.pages import ROOT
from tests.browser.tab import Tab, open_tab
from tests.processes import open_cluster
from tests.system.many_nodes import Node, start_node

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a73"
    "0000001049444154789c6338216703440c100a0021f604891e853aee0000000049454e44ae426082"
)
"""Two times two pixels."""


@asynccontextmanager
async def open_client(
    pool: Pool, redis_url: str, folder: Path
) -> AsyncGenerator[tuple[Tab, Callable[[], Awaitable[Node]]]]:
    """A tab, and a function that starts the gateway, always at the same address."""
    assert is_installed(ROOT / "client" / "web"), "`make browser` installs its packages"
    settings = {"WEB_CLIENT": "1", "OBJECT_STORE_URL": (folder / "objects").as_uri()}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        port = free_port()
        await cluster.start_web(PUBLIC_SOCKET_URL=f"ws://127.0.0.1:{port}")
        start = partial(start_node, cluster, port=port, PUBLIC_FILES_URL=cluster.http_url)
        async with open_tab(folder, cluster.http_url) as tab:
            yield tab, start


async def register(tab: Tab, name: str) -> None:
    await tab.open("/app")
    await tab.fill("User name", name)
    await tab.fill("Password", PASSWORD)
    await tab.click("Register")
    await tab.wait_named("Conversations")


async def test_two_people_in_two_tabs_write_to_each_other(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_client(pool, redis_url, tmp_path) as (ann, start):
        gateway = await start()
        await register(ann, "ann")
        bob = await ann.another()
        await register(bob, "bob")
        await bob.click("New conversation")
        await bob.fill("User names", "ann")
        await bob.click("Begin")
        await bob.wait_named("Conversation with ann")
        await write(bob, "Hello from Bob")
        await ann.click("Accept bob")
        await ann.click("bob, 1 unread, online")
        await ann.wait_named("bob: Hello from Bob")
        await write(ann, "Hello from Ann")
        await bob.wait_named("ann: Hello from Ann")
        assert await ann.complaints() == []
        assert await ann.violations() == []

        gateway.process.kill()
        await ann.wait("document.querySelector('[role=status]').textContent.startsWith('Offline')", "the page says it")
        await ann.fill("Message", "While it is away")
        await ann.press("Enter")
        await ann.wait_named("Waiting to be sent: While it is away")
        await ann.open("/app?account=ann")  # nothing is in this tab's memory any more
        await start()
        await bob.wait_named("ann: While it is away")
        said = "[...document.querySelectorAll('article .text')].map((each) => each.textContent)"
        assert await bob.value(said) == ["Hello from Bob", "Hello from Ann", "While it is away"]
        await ann.click("bob, online")
        await ann.wait(f"{said}.length === 3", "the page shows all messages after it was loaded again")


async def write(tab: Tab, text: str) -> None:
    await tab.fill("Message", text)
    await tab.press("Enter")
    await tab.wait_named(f"You: {text}")


async def test_messages_change_and_files_go_encrypted(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PICTURE)
    async with open_client(pool, redis_url, tmp_path) as (ann, start):
        await start()
        await register(ann, "ann")
        bob = await ann.another()
        await register(bob, "bob")
        await bob.click("New conversation")
        await bob.fill("User names", "ann")
        await bob.fill("Name of the group", "Friends")
        await bob.click("Begin")
        await bob.wait_named("Conversation with Friends")
        await write(bob, "First")
        await ann.click("Accept bob")
        await ann.click("Friends, 1 unread")
        await ann.wait_named("bob: First")
        await ann.click("Actions for First")
        await ann.click("Reply")
        await write(ann, "An answer")
        await ann.click("Actions for First")
        await ann.click("React with 👍")
        await bob.wait_named("ann: An answer", "👍 by ann")
        await bob.click("Actions for First")
        await bob.click("Edit")
        await bob.fill("Message", "Second thoughts")
        await bob.press("Enter")
        await ann.wait_named("bob: Second thoughts")
        await bob.choose("Attach files", picture)
        await bob.click("Send")
        await bob.wait_named("You: cat.png")
        await ann.click("Open cat.png")
        await ann.wait_named("Save cat.png")
        await ann.wait("document.querySelector('.file img').naturalWidth === 2", "the decrypted picture is shown")
        stored = [path.read_bytes() for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert stored
        assert not [each for each in stored if PICTURE[:32] in each], "the object store has ciphertext alone"
        await ann.click("Actions for cat.png")
        await bob.click("Actions for An answer")
        await bob.click("Delete for everyone")
        await ann.wait_named("You: Deleted")
        await ann.click("Details")
        await ann.click("Safety number with bob")
        await ann.click("The safety number with bob is the same")
        assert await ann.complaints() == await bob.complaints() == []
