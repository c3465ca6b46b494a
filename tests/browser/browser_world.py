"""Real processes, and a tab of a real browser in which an operator has opened the operations page."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from client.session import Session
from store.postgres.pool import Pool
from tests.browser.tab import Tab, open_tab
from tests.processes import Cluster, Process, open_cluster
from tests.system.many_nodes import Node, start_nodes
from tests.waiting import let_pass

TOKEN: Final = "the-token-of-operators"

MOST_STEPS: Final = 40
"""More than the page has elements that take the focus."""

NONE: Final = "\N{EN DASH}"
"""What the page shows for a figure that there is not."""

IS_LIVE: Final = "document.querySelector('#state').textContent.startsWith('Live')"
"""Whether the page has just had an answer."""


@dataclass(frozen=True)
class BrowserWorld:
    """An open operations page, and the processes that it shows.

    :ivar web: the process that serves it.
    """

    tab: Tab
    cluster: Cluster
    web: Process
    nodes: Sequence[Node]

    async def log_in(self, token: str = TOKEN) -> None:
        """Type the token into the form, by keyboard alone, and wait for the first figures."""
        await self.tab.wait("!document.querySelector('#login').hidden", "the page asks for the token")
        await self.tab_to("token")
        await self.tab.type(token)
        await self.tab.press("Enter")
        if token == TOKEN:
            await self.tab.wait(IS_LIVE, "the page shows figures")

    async def tab_to(self, name: str) -> None:
        """Press Tab until the element with this id or name has the focus, unless it has it."""
        for _ in range(MOST_STEPS):
            if await focused(self.tab) == name:
                return
            await self.tab.press("Tab")
        raise AssertionError(f"Tab does not reach {name}")

    async def wait_rows(self, table: str, count: int) -> None:
        """Until a table has this many rows that stand for something."""
        rows = f"document.querySelectorAll('#{table} tbody tr:not([data-key=none])').length"
        await self.tab.wait(f"{rows} === {count}", f"the table {table} has {count} rows")

    async def tile(self, name: str) -> float | None:
        """The number that a tile shows; None: it shows that there is none."""
        word = (await self.tab.text(f"#tile-{name} p")).replace(",", "").split(" ")[0]
        return None if word == NONE else float(word)


@asynccontextmanager
async def open_ops_page(
    pool: Pool, redis_url: str, folder: Path, *, nodes: int = 0, worker: bool = False
) -> AsyncGenerator[BrowserWorld, None]:
    """`web` with the operators' token, other processes, and a tab with the page, which asks for the token."""
    async with open_cluster(pool.url, redis_url, OPS_TOKEN=TOKEN) as cluster:
        started: list[Process] = []
        gateways: list[Node] = []

        async def start_web() -> None:
            started.append(await cluster.start_web())

        async def start_gateways() -> None:
            gateways.extend(await start_nodes(cluster, nodes))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_web)
            nursery.start_soon(start_gateways)
            if worker:
                nursery.start_soon(cluster.start_worker)
        async with open_tab(folder, cluster.http_url) as tab:
            await tab.open("/ops")
            yield BrowserWorld(tab, cluster, started[0], gateways)


async def focused(tab: Tab) -> str:
    """The id of the element that has the focus, or else its name as the page gives it."""
    element = "document.activeElement"
    return str(await tab.value(f"{element}.id || {element}.ariaLabel || {element}.textContent || {element}.tagName"))


async def keep_sending(session: Session, conversation: bytes, pace_s: float = 0.02) -> None:
    """Send one message after the other, until it is cancelled."""
    while True:
        await session.send(conversation, secrets.token_bytes(200))
        await let_pass(pace_s, why="a person's pace")
