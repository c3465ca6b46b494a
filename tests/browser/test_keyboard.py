"""The operations page by keyboard alone: each button is reached, seen and pressed, and the focus is never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import trio

from client.http import Credentials
from client.session import open_session
from store import jobs, security_events
from store.postgres.pool import Pool
from tests.browser.browser_world import BrowserWorld, focused, open_ops_page
from tests.dead_jobs import new_dead_job
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

DRAINED_S: Final = 25.0
"""A process ends in this time after SIGTERM."""

RING: Final = """(() => {
  const element = document.activeElement, style = getComputedStyle(element), at = element.getBoundingClientRect()
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).map((each) => each / 255)
      .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const [ring, ground] = [light(style.outlineColor), light(getComputedStyle(document.body).backgroundColor)]
  return {
    px: style.outlineStyle === 'solid' ? parseFloat(style.outlineWidth) : 0,
    contrast: (Math.max(ring, ground) + 0.05) / (Math.min(ring, ground) + 0.05),
    isInView: at.width > 1 && at.left >= 0 && at.right <= innerWidth && at.bottom > 0 && at.top < innerHeight,
  }
})()"""
"""The outline of the element that has the focus."""


async def press_twice(page: BrowserWorld, name: str) -> None:
    """Press a button that has the focus: the page asks, and acts after the second press."""
    await page.tab.press("Enter")
    assert await focused(page.tab) == f"Sure? {name}"
    assert await page.tab.text("#told") == f"Press again to {name[0].lower()}{name[1:]}."
    await page.tab.press("Enter")


async def test_a_dead_job_runs_again(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """The task `forget` deletes the job that died long ago."""
    async with open_ops_page(pool, redis_url, tmp_path, worker=True) as page:
        await page.log_in()
        await wait_until(lambda: has_run(pool), "the jobs of a new database have run")
        old, job = await new_dead_job(pool, task="export"), await new_dead_job(pool)
        await pool.fetch("update dead_jobs set died = now() - interval '91 days' where id = %s", (old,))
        await page.wait_rows("dead", 2)
        name = f"Replay job {job} of forget"
        await page.tab_to(name)
        await page.tab.press("Enter")
        await page.tab.wait("document.activeElement.textContent === 'Replay'", "the page asks no longer")
        assert len(await jobs.dead_jobs(pool)) == 2, "one press does nothing"
        await press_twice(page, name)
        await page.tab.wait(
            f"document.querySelector('#told').textContent === 'Job {job} of forget runs again.'", "said"
        )
        await wait_until(lambda: has_run(pool), "the job has run")
        await page.wait_rows("dead", 0)
        assert await focused(page.tab) == "jobs-title"
        assert await page.tab.complaints() == []
    kinds = [each.kind for each in await security_events.all_events(pool, limit=99)]
    assert kinds.count("job_replayed") == 1


async def has_run(pool: Pool) -> bool:
    return not await pool.fetch("select id from dead_jobs union all select id from jobs where task = 'forget'")


async def test_a_node_drains(pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials) -> None:
    async with open_ops_page(pool, redis_url, tmp_path, nodes=2) as page:
        drained, left = page.nodes
        async with open_session([drained.url, left.url], alice) as session:
            await session.wait_caught_up()
            await page.log_in()
            await page.wait_rows("nodes", 2)
            name = f"Drain node {drained.id.hex()}"
            await page.tab_to(name)
            await press_twice(page, name)
            with trio.fail_after(DRAINED_S):
                assert await drained.process.wait() == 0
            await wait_until(lambda: session.is_online and session.url == left.url, "the client moves")
        await page.wait_rows("nodes", 1)
        assert await focused(page.tab) == f"Drain node {left.id.hex()}"
        assert await page.tab.complaints() == []
    [event] = [each for each in await security_events.all_events(pool, limit=99) if each.kind == "node_drained"]
    assert event.detail["node"] == drained.id.hex()


async def test_the_focus_stays_on_its_button_while_rows_come_and_go(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """The second of three dead jobs has the focus; the first goes, a new one comes, and then the second goes itself."""
    numbers = [await new_dead_job(pool) for _ in range(3)]
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        await page.wait_rows("dead", 3)
        order = [each.id for each in await jobs.dead_jobs(pool)]
        assert sorted(order) == sorted(numbers)
        first, middle, _ = order
        await page.tab_to(f"Replay job {middle} of forget")
        await jobs.discard(pool, job=first, limit=1)
        await page.wait_rows("dead", 2)
        assert await focused(page.tab) == f"Replay job {middle} of forget"
        await new_dead_job(pool)
        await page.wait_rows("dead", 3)
        assert await focused(page.tab) == f"Replay job {middle} of forget"
        await jobs.discard(pool, job=middle, limit=1)
        await page.wait_rows("dead", 2)
        assert (await focused(page.tab)).startswith("Replay job ")


async def test_an_action_that_fails_is_told_and_its_button_keeps_the_focus(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    job = await new_dead_job(pool)
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        await page.wait_rows("dead", 1)
        await page.tab_to("pause")
        await page.tab.press("Enter")
        await jobs.discard(pool, job=job, limit=1)
        await page.tab_to(f"Replay job {job} of forget")
        await press_twice(page, f"Replay job {job} of forget")
        await page.tab.wait("document.querySelector('#told').textContent.startsWith('Replay failed: ')", "a failure")
        assert "no such dead job" in await page.tab.text("#told")
        assert await focused(page.tab) == f"Replay job {job} of forget"


async def test_the_focus_goes_through_the_page_in_its_order_and_is_seen(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    job = await new_dead_job(pool)
    async with open_ops_page(pool, redis_url, tmp_path, nodes=2) as page:
        await page.log_in()
        assert await focused(page.tab) == "main", "the form is gone: the figures have the focus"
        assert await page.tab.value("scrollY") == 0
        await page.wait_rows("nodes", 2)
        nodes = sorted(each.id.hex() for each in page.nodes)
        order = ["Skip to the figures", "pause", "forget", *(f"Drain node {node}" for node in nodes)]
        order.append(f"Replay job {job} of forget")
        for scheme in ("light", "dark"):
            await page.tab.scheme(scheme)
            await page.tab_to(order[0])
            for name in order:
                assert await focused(page.tab) == name
                ring = await page.tab.value(RING)
                assert ring["px"] >= 2, (scheme, name)
                assert ring["contrast"] >= 3, (scheme, name)
                assert ring["isInView"], (scheme, name)
                await page.tab.press("Tab")
        await page.tab_to(order[0])
        await page.tab.press("Enter")
        await page.tab.press("Tab")
        assert await focused(page.tab) == order[3], "the link skips the buttons above"
        await page.tab.press("Tab", "Shift")
        await page.tab.press("Tab", "Shift")
        assert await focused(page.tab) == "pause"
