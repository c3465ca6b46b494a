"""The operations page for each operator: light and dark, with a screen reader, and in a narrow window."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from client.http import Credentials
from client.session import open_session
from store.postgres.pool import Pool
from tests.browser.browser_world import open_ops_page
from tests.dead_jobs import new_dead_job
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

DESKTOP: Final = (1280, 900)
NARROW: Final = ((360, 640), (320, 568))
"""A telephone; and the width at which WCAG 2.2 (1.4.10) asks for no scrolling in two directions."""

OUTSIDE: Final = """[...document.querySelectorAll('body *')]
  .filter((each) => !each.closest('.wide') && !each.matches('.skip'))
  .filter((each) => each.getBoundingClientRect().right > innerWidth).map((each) => each.outerHTML.slice(0, 80))"""
"""Elements that reach out of the window, but for tables, which scroll by themselves."""


async def test_axe_finds_nothing(pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials) -> None:
    """The form, its refusal, and the figures; wide and narrow; light and dark."""
    await new_dead_job(pool, reason="no answer from push.example within 10 s")
    async with open_ops_page(pool, redis_url, tmp_path, nodes=1) as page, open_session([page.nodes[0].url], alice):
        found = {}

        async def check(state: str) -> None:
            for size in (DESKTOP, NARROW[0]):
                await page.tab.size(*size)
                for scheme in ("light", "dark"):
                    await page.tab.scheme(scheme)
                    found[state, size[0], scheme] = await page.tab.violations()

        await check("form")
        await page.log_in("another-token-of-operators")
        await page.tab.wait("document.querySelector('#state').className === 'bad'", "a refusal")
        await check("refused")
        await page.log_in()
        await page.wait_rows("nodes", 1)
        await page.wait_rows("dead", 1)
        await check("figures")
        await page.tab.value("document.querySelector('#dead button').click()")
        await check("a button that asks")
    assert {state: each for state, each in found.items() if each} == {}


async def test_a_screen_reader_is_told_the_figures_and_the_range_of_each_chart(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path, nodes=1) as page, open_session([page.nodes[0].url], alice):
        await page.log_in()
        await page.tab.wait("document.querySelector('#tile-connections p').textContent === '1'", "the connection")
        await page.tab.value("document.querySelector('#pause').click()")
        told = await page.tab.accessible()
        charts = [each["name"] for each in told if each["role"] in ("image", "img")]
        titles = await page.tab.value("[...document.querySelectorAll('.tile h3')].map((each) => each.textContent)")
        assert [name.partition(", chart of ")[0] for name in charts] == titles
        assert charts[0].startswith("Connections, chart of ")
        assert charts[0].endswith(" s: 0 to 1")
        [none] = [name for name in charts if name.startswith("Delivery p50")]
        assert none.endswith(": no value")
        names = [(each["role"], each["name"]) for each in told]
        for name in ("Now", "Nodes", "Jobs", "Times of the last 30 s", "Processes"):
            assert ("heading", name) in names
        assert ("button", f"Drain node {page.nodes[0].id.hex()}") in names
        [paused] = [each for each in told if each["name"] == "Pause"]
        assert paused["pressed"] is True


async def test_a_narrow_window_scrolls_in_one_direction(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    await new_dead_job(pool, reason="x" * 150)
    async with open_ops_page(pool, redis_url, tmp_path, nodes=1) as page:
        for size in NARROW:
            await page.tab.size(*size)
            assert await page.tab.value("document.documentElement.scrollWidth") <= size[0]
            assert await page.tab.value(OUTSIDE) == []
        await page.log_in()
        await page.wait_rows("nodes", 1)
        await page.wait_rows("dead", 1)
        for size in NARROW:
            await page.tab.size(*size)
            assert await page.tab.value("document.documentElement.scrollWidth") <= size[0]
            assert await page.tab.value(OUTSIDE) == []


async def test_arrow_keys_scroll_a_table_that_is_wider_than_the_window(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path, nodes=1) as page:
        await page.log_in()
        await page.wait_rows("processes", 2)
        frame = "document.querySelector('#processes').parentElement"
        await page.tab.wait(f"!{frame}.hasAttribute('tabindex')", "a table that fits takes no focus")
        await page.tab.size(*NARROW[0])
        await page.tab.wait(f"{frame}.tabIndex === 0", "the table takes the focus")
        await page.tab_to(await page.tab.text("#processes caption"))

        async def scrolled() -> bool:
            """A browser that has not yet drawn the narrow window does nothing with a first press."""
            await page.tab.press("ArrowRight")
            return bool(await page.tab.value(f"{frame}.scrollLeft > 0"))

        await wait_until(scrolled, "the table scrolls")
