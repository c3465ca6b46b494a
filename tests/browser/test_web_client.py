"""The web client in Chromium, as `web` serves it: people in tabs of one browser, who write to each other by MLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.postgres.pool import Pool
from tests.browser.web_world import begin, friends, open_web_client, register, write

pytestmark = pytest.mark.web

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a73"
    "0000001049444154789c6338216703440c100a0021f604891e853aee0000000049454e44ae426082"
)
"""Two times two pixels."""


async def test_two_people_in_two_tabs_write_to_each_other(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann = client.tab
        await register(ann, "ann")
        bob = await ann.another()
        await register(bob, "bob")
        await begin(bob, "ann")
        await write(bob, "Hello from Bob")
        await ann.click("Accept bob")
        await ann.click("bob, 1 unread, online")
        await ann.wait_named("bob: Hello from Bob")
        await write(ann, "Hello from Ann")
        await bob.wait_named("ann: Hello from Ann")
        assert await ann.complaints() == []
        assert await ann.violations() == []


async def test_messages_change_and_files_go_encrypted(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PICTURE)
    async with open_web_client(pool, redis_url, tmp_path) as client:
        ann, bob = await friends(client)
        await ann.click("Actions for First")
        await ann.click("Reply")
        await ann.wait_named("Cancel")
        await write(ann, "An answer")
        await ann.click("Actions for First")
        await ann.click("React with 👍")
        await bob.wait_named("ann: An answer", "👍 1 by ann")
        await bob.click("Actions for First")
        await bob.click("Edit")
        await bob.wait_named("Cancel")
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
        await ann.click("Add contact bob")
        await ann.wait_named("Remove contact bob")
        assert await ann.violations() == []
        await ann.click("Menu")
        await ann.click("Account and devices")
        await ann.wait_named("Save: Display name", "Write to bob")
        await ann.click("Menu")
        await ann.click("What the server sees")
        await ann.wait_named("Close what the server sees")
        seen = await ann.text(".frames")
        assert 'token: "****' in seen, "the token of the hello is masked"
        assert await ann.violations() == []
        await ann.click("Write to bob")
        await ann.wait_named("Conversation with bob")
        await bob.click("Details")
        await bob.click("Make ann an administrator")
        await bob.wait_named("Make ann no administrator")
        await bob.scheme("dark")
        await bob.size(390, 800)
        assert await bob.violations() == []
        assert await bob.value("document.documentElement.scrollWidth") == 390, "nothing is wider than the window"
        assert await ann.complaints() == await bob.complaints() == []
