"""Writes docs/images/ops-light.png and ops-dark.png: `python -m tests.browser.make_pictures`, after `make browser`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Final

import trio

from client.http import Credentials
from client.session import open_session
from embedded.services import services
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from tests.browser.browser_world import keep_sending, open_ops_page
from tests.dead_jobs import new_dead_job
from tests.people import new_device, new_direct, new_user
from tests.waiting import let_pass

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
WINDOW: Final = (1200, 1270)
"""Tiles, nodes, jobs and the hops of deliveries."""

SECONDS: Final = 300
"""What a chart has room for."""

PEOPLE: Final = 6


async def make(folder: Path, database_url: str, redis_url: str) -> None:
    """Take the pictures while more and more users chat on two nodes, and some jobs are dead."""
    await migrate(database_url)
    with closing(Pool(database_url, 4)) as pool:
        people = [await new_user(pool, f"user{number}") for number in range(PEOPLE)]
        await new_dead_job(pool, task="notice", reason="push.example answered 503 to each of 8 attempts")
        await new_dead_job(pool, task="export", reason="no space left on device")
        async with open_ops_page(pool, redis_url, folder, nodes=2, worker=True) as page, trio.open_nursery() as nursery:
            await page.tab.size(*WINDOW)
            await page.log_in()
            urls = [node.url for node in page.nodes]
            pairs = list(combinations(people, 2))
            for number, pair in enumerate(pairs):
                nursery.start_soon(chat, pool, urls if number % 2 else urls[::-1], *pair)
                await let_pass(SECONDS / len(pairs), why="the charts get a shape")
            await page.tab.value("document.activeElement.blur()")
            for scheme in ("light", "dark"):
                await page.tab.scheme(scheme)
                await page.tab.picture(IMAGES / f"ops-{scheme}.png")
            nursery.cancel_scope.cancel()


async def chat(pool: Pool, urls: Sequence[str], one: Credentials, other: Credentials) -> None:
    """One of two users sends to the other, who is on another node."""
    conversation = await new_direct(pool, one, other)
    sender, reader = await new_device(pool, one.user), await new_device(pool, other.user)
    async with open_session(urls, sender) as session, open_session(urls[::-1], reader):
        await keep_sending(session, conversation, pace_s=0.2)


def take_pictures(make: Callable[[Path, str, str], Awaitable[None]]) -> int:
    """Run a function that takes pictures, with a folder and with Postgres and Redis of its own, whose URLs it gets."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="alo-pictures-") as name:
        folder = Path(name)
        (folder / "browser").mkdir()
        with services(folder / "services", durable=False) as running:
            trio.run(make, folder / "browser", running.postgres.url, running.redis.url)
    return 0


if __name__ == "__main__":
    sys.exit(take_pictures(make))
