"""Writes docs/images/web-*.png, the strip of `docs/web-client.md`: `python -m tests.browser.make_web_pictures`, after
`make web`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.browser.make_pictures import IMAGES, take_pictures
from tests.browser.tab import Tab
from tests.browser.web_world import begin, open_web_client, register, write

WINDOW: Final = (820, 560)
PHONE: Final = (390, 560)
PICTURE: Final = IMAGES / "ops-light.png"
"""What somebody sends."""

SEND: Final = "[...document.querySelectorAll('.out details')].find((each) => each.textContent.includes('send'))"
"""The frame of the last message, in the pane of what the server sees."""


async def make(folder: Path, database_url: str, redis_url: str) -> None:
    """Take a picture at each step of two people."""
    await migrate(database_url)
    with closing(Pool(database_url, 4)) as pool:
        async with open_web_client(pool, redis_url, folder) as client:
            ann = client.tab
            await ann.size(*WINDOW)
            await ann.open("/app")
            await ann.wait_named("User name")
            await take(ann, "1-log-in")
            await register(ann, "ann")
            bob = await ann.another()
            await bob.size(*WINDOW)
            await register(bob, "bob")
            await begin(bob, "ann", "Harbour walk")
            await write(bob, "Saturday at ten?")
            await ann.wait_named("Accept bob")
            await take(ann, "2-request")
            await ann.click("Accept bob")
            await ann.click("Harbour walk, 1 unread")
            await ann.wait_named("bob: Saturday at ten?")
            await ann.click("Actions for Saturday at ten?")
            await ann.click("Reply")
            await ann.wait_named("Cancel")
            await write(ann, "I am in. Who brings coffee?")
            await bob.wait_named("ann: I am in. Who brings coffee?")
            await bob.choose("Attach files", PICTURE)
            await bob.fill("Message", "The figures of last time")
            await bob.click("Send")
            await ann.wait_named("bob: The figures of last time")
            await take(ann, "3-group")
            await ann.click("Details")
            await ann.click("Safety number with bob")
            await ann.wait_named("Digits")
            await take(ann, "4-safety-number")
            await ann.click("Details")
            await ann.click("Menu")
            await ann.click("What the server sees")
            await write(ann, "See you")
            await ann.value(f"{SEND}.open = true")
            await take(ann, "5-what-the-server-sees")
            await bob.scheme("dark")
            await bob.size(*PHONE)
            await bob.wait_named("ann: See you")
            await take(bob, "6-dark-and-narrow")


async def take(tab: Tab, name: str) -> None:
    await tab.picture(IMAGES / f"web-{name}.png")


if __name__ == "__main__":
    sys.exit(take_pictures(make))
