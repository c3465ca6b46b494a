"""The JavaScript client in Chromium, under a strict content security policy: vectors, the scenario of conformance with
a gateway that is killed, IndexedDB, MLS, and tabs that share a device."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from client.http import Credentials
from client.session import open_session
from protocol.frames import Message
from store.postgres.pool import Pool
from tests.browser.pages import ROOT, serve_pages
from tests.browser.tab import Tab, open_tab
from tests.people import new_device, new_direct
from tests.processes import open_cluster
from tests.system.many_nodes import start_nodes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

PAGE: Final = "/tests/browser/client_pages/index.html"


@asynccontextmanager
async def open_page(folder: Path) -> AsyncGenerator[Tab]:
    """A tab with the page; in the end nothing may have broken the policy, or failed without being caught."""
    with serve_pages() as url:
        async with open_tab(folder, url) as tab:
            await load(tab)
            yield tab
            assert await tab.complaints() == []


async def load(tab: Tab) -> None:
    await tab.open(PAGE)
    await tab.wait("window.isReady", "the page has loaded its modules")


async def outcome(tab: Tab, call: str) -> Any:
    """What a call of the page comes to."""
    await tab.value(f"void {call}")
    told = await tab.wait("window.outcome", f"an outcome of {call[:60]}")
    assert "error" not in told, told["error"]
    return told.get("value")


def login(credentials: Credentials) -> dict[str, str]:
    return {"user": credentials.user.hex(), "device": credentials.device.hex(), "token": credentials.token}


async def test_the_vectors_are_decoded_and_encoded_in_the_browser(tmp_path: Path) -> None:
    vectors = json.loads((ROOT / "protocol" / "vectors" / "valid.json").read_text())
    async with open_page(tmp_path) as tab:
        assert await outcome(tab, "vectors()") == [vector["hex"] for vector in vectors]


async def test_the_scenario_of_conformance_through_the_kill_of_a_gateway(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    talk = await new_direct(pool, alice, bob)
    people = {"alice": alice, "bob": bob, "tablet": await new_device(pool, bob.user)}
    async with open_cluster(pool.url, redis_url) as cluster:
        nodes = await start_nodes(cluster, 2)
        given = {
            "urls": [node.url for node in nodes],
            "people": {name: login(each) for name, each in people.items()},
            "talk": talk.hex(),
        }
        async with open_page(tmp_path) as tab:
            await tab.value(f"void scenario({json.dumps(given)})")
            await tab.wait("Boolean(window.isKilled || window.outcome)", "the scenario comes to the kill")
            nodes[0].process.kill()
            await tab.value("void window.isKilled()")
            told = await tab.wait("window.outcome", "the end of the scenario")
            assert len(told.get("value", ())) == 7, told


async def test_a_commit_is_strict_and_outlives_the_page_and_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async with open_page(tmp_path) as tab:
        told = await outcome(tab, "fill()")
        assert told == {"durabilities": ["strict"] * 3, "refused": "DataCloneError"}
        await load(tab)
        assert await outcome(tab, "kept()") == {"isSame": True, "rest": {"c": 2}, "after": []}


async def test_two_devices_encrypt_by_mls_and_keep_their_keys_in_indexeddb(tmp_path: Path) -> None:
    async with open_page(tmp_path) as tab:
        await tab.open("/tests/browser/client_pages/mls.html")
        told = await tab.wait("window.outcome", "the end of the conversation")
        assert told == {"value": ["from a", "from b", "again"]}


async def test_one_tab_holds_the_connection_for_the_others_and_another_one_takes_over(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    """The tab that holds the connection is closed while another one waits for an answer of it."""
    talk = await new_direct(pool, alice, bob)
    async with open_cluster(pool.url, redis_url) as cluster:
        [node] = await start_nodes(cluster, 1)
        given = json.dumps({"urls": [node.url], "login": login(alice), "talk": talk.hex()})
        async with open_session([node.url], bob) as session, open_page(tmp_path) as tab:
            for name in ("first", "second", "third"):
                await outcome(tab, f"openTab('{name}', {given})")
            await tab.wait("tabOf('first').tabs.isLeading", "the first tab leads")
            assert await tab.value("tabOf('second').say('from the second')") == 1
            assert await tab.value("tabOf('first').say('from the first')") == 2
            await session.wait_caught_up()
            await session.send(talk, b"from bob", content_type="text/plain")
            said = ["from the second", "from the first", "from bob"]
            for name in ("first", "second", "third"):
                await tab.wait(f"tabOf('{name}').texts().length === 3", f"the {name} tab shows all messages")
                assert await tab.value(f"tabOf('{name}').texts()") == said
            assert await tab.value("['second', 'third'].some((name) => tabOf(name).tabs.isLeading)") is False

            await tab.value("void (window.asked = tabOf('second').say('while it is closed'), closeTab('first'))")
            await tab.wait(
                "['second', 'third'].filter((name) => tabOf(name).tabs.isLeading).length === 1", "another leads"
            )
            assert await tab.value("window.asked") == 4
            for name in ("second", "third"):
                await tab.wait(f"tabOf('{name}').texts().length === 4", f"the {name} tab shows it, once")
            await wait_until(lambda: len(session.mailbox.messages(talk)) == 4, "Bob has it, once")
            assert [entry.content for entry in session.mailbox.messages(talk) if isinstance(entry, Message)] == [
                each.encode() for each in (*said, "while it is closed")
            ]
