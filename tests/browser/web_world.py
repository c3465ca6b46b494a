"""The web client in tabs of a real browser, as `web` serves it, with a gateway that tests may kill."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from embedded.ports import free_port
from embedded.web_packages import is_installed
from store.postgres.pool import Pool
from tests.browser.pages import ROOT
from tests.browser.tab import Tab, open_tab
from tests.processes import Cluster, open_cluster
from tests.system.many_nodes import Node, start_node

PASSWORD: Final = "correct horse battery"

MOST_STEPS: Final = 40
"""More than the page has elements that take the focus."""

FOCUSED: Final = """(({ ariaLabel, labels, textContent, tagName }) =>
  ariaLabel || labels?.[0]?.textContent.trim() || textContent || tagName)(document.activeElement)"""


class WebClient:
    """The servers of the web client, and one tab.

    :ivar tab: the first tab of the browser.
    :ivar node: the gateway that runs, or was killed last.
    """

    def __init__(self, cluster: Cluster, folder: Path, tab: Tab, node: Node) -> None:
        self.cluster = cluster
        self.folder = folder
        self.tab = tab
        self.node = node

    async def kill_gateway(self) -> None:
        """End it by SIGKILL."""
        self.node.process.kill()
        await self.node.process.wait()

    async def start_gateway(self) -> None:
        """Start another one, at the same address."""
        self.node = await start_node(self.cluster, port=self.node.port, PUBLIC_FILES_URL=self.cluster.http_url)

    @asynccontextmanager
    async def other_browser(self) -> AsyncGenerator[Tab]:
        """A tab of another browser, which shares nothing with the first one."""
        folder = self.folder / "other"
        folder.mkdir()
        async with open_tab(folder, self.cluster.http_url) as tab:
            yield tab


@asynccontextmanager
async def open_web_client(pool: Pool, redis_url: str, folder: Path) -> AsyncGenerator[WebClient]:
    """
    :param folder: for the browser's profile and the object store.
    """
    assert is_installed(ROOT / "client" / "web"), "`make web` installs its packages"
    settings = {"WEB_CLIENT": "1", "OBJECT_STORE_URL": (folder / "objects").as_uri()}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        port = free_port()
        await cluster.start_web(PUBLIC_SOCKET_URL=f"ws://127.0.0.1:{port}")
        node = await start_node(cluster, port=port, PUBLIC_FILES_URL=cluster.http_url)
        async with open_tab(folder, cluster.http_url) as tab:
            yield WebClient(cluster, folder, tab, node)


async def register(tab: Tab, name: str) -> None:
    """Make an account, which the tab then shows."""
    await _sign_in(tab, name, "Register")


async def log_in(tab: Tab, name: str) -> None:
    """Log in on another device."""
    # The form is called so, too.
    await _sign_in(tab, name, 'Log in[role="button"]')


async def _sign_in(tab: Tab, name: str, button: str) -> None:
    await tab.open("/app")
    await tab.fill("User name", name)
    await tab.fill("Password", PASSWORD)
    await tab.click(button)
    await tab.wait_named("Conversations")


async def begin(tab: Tab, names: str, group: str = "") -> None:
    """Begin a conversation with these users, and open it."""
    await tab.click("New conversation")
    await tab.fill("User names", names)
    if group:
        await tab.fill("Name of the group", group)
    await tab.click("Begin")
    await tab.wait_named(f"Conversation with {group or names}")


async def write(tab: Tab, text: str, *, shown: str = "You") -> None:
    """Send a message in the open conversation, and wait until it is shown so."""
    await tab.fill("Message", text)
    await tab.press("Enter")
    await tab.wait_named(f"{shown}: {text}")


async def count_of(tab: Tab, name: str) -> int:
    """How many elements have this label."""
    return int(await tab.value(f"document.querySelectorAll('[aria-label={json.dumps(name)}]').length"))


async def friends(client: WebClient, first: str = "ann", second: str = "bob") -> tuple[Tab, Tab]:
    """Two users, who talk in a group that the second has made; what the first has to accept is accepted."""
    one = client.tab
    await register(one, first)
    other = await one.another()
    await register(other, second)
    await begin(other, first, "Friends")
    await write(other, "First")
    await one.click(f"Accept {second}")
    await one.click("Friends, 1 unread")
    await one.wait_named(f"{second}: First")
    return one, other


async def wait_told(tab: Tab, role: str, text: str) -> None:
    """Until the tab tells its user."""
    told = f"[...document.querySelectorAll('[role={role}]')].map((each) => each.textContent).join()"
    await tab.wait(f"{told}.includes({json.dumps(text)})", f"the tab says: {text}")


async def wait_gone(tab: Tab, name: str) -> None:
    """Until no element of what is open beside the conversations has this label."""
    await tab.wait(f"!document.querySelector('.middle [aria-label={json.dumps(name)}]')", f"{name} is gone")


async def tab_to(tab: Tab, name: str, *held: str) -> None:
    """Press Tab until the element of this name has the focus, unless it has it."""
    for _ in range(MOST_STEPS):
        if await focused(tab) == name:
            return
        await tab.press("Tab", *held)
    raise AssertionError(f"Tab does not reach {name}")


async def focused(tab: Tab) -> str:
    """The name of the element that has the focus, as the page gives it."""
    return str(await tab.value(FOCUSED))
