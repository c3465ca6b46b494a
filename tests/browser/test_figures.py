"""What operators see in a browser: figures that move, where they come from, and faults that the page tells."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from client.http import Credentials
from client.session import open_session
from store.postgres.pool import Pool
from tests.browser.browser_world import IS_LIVE, NONE, TOKEN, BrowserWorld, focused, keep_sending, open_ops_page
from tests.server.deaf_node import DEAF, add_deaf_node
from tests.waiting import let_pass, wait_until

pytestmark = pytest.mark.browser

FILES = {"/ops", "/ops/page.css", "/ops/page.js", "/ops/charts.js", "/ops/icon.svg"}
PAUSE = "document.querySelector('#pause').click()"

HARM = {
    "textContent = 'window.harm = 1'": "script-src",
    "src = 'https://elsewhere.example/harm.js'": "script-src",
    "setAttribute('style', 'color: red')": "style-src",
}
"""What an attacker might do to a new script element, and the directive that stops it."""

HELD = """(() => {
  const real = window.fetch
  const released = new Promise((go) => { window.release = go })
  window.fetch = async (...given) => { window.isHeld = true; await released; return real(...given) }
})()"""
"""From now on each request of the page waits for `release`, and `isHeld` says that there is one."""


async def test_figures_move_while_clients_send(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path, nodes=1) as page:
        await page.log_in()
        url = page.nodes[0].url
        async with open_session([url], alice) as session, open_session([url], bob), trio.open_nursery() as nursery:
            nursery.start_soon(keep_sending, session, direct)
            await wait_until(lambda: shows(page, "connections", 2), "both connections")
            await wait_until(lambda: rises(page, "sends"), "sends per second")
            await wait_until(lambda: rises(page, "hits"), "cache hits")
            await page.tab.value(PAUSE)
            percentiles = [await page.tile(name) for name in ("p50", "p95", "p99")]
            assert not {None, 0} & {*percentiles}
            assert percentiles == sorted(percentiles, key=float)
            assert await page.tile("lag") == float((await first_row(page, "nodes"))[5])
            await page.tab.value(PAUSE)
            line = "document.querySelector('#tile-sends .chart-line').getAttribute('d')"
            before = await page.tab.value(line)
            await page.tab.wait(f"{line} !== {before!r}", "the chart goes on")
            for table in ("times", "statements", "caches", "processes", "nodes"):
                assert await page.tab.value(f"document.querySelectorAll('#{table} tbody th').length"), table
            assert "messages.send" in await page.tab.text("#statements tbody")
            nursery.cancel_scope.cancel()
        await wait_until(lambda: shows(page, "connections", 0), "no connection")
        assert await page.tab.complaints() == []


async def shows(page: BrowserWorld, tile: str, value: float) -> bool:
    return await page.tile(tile) == value


async def rises(page: BrowserWorld, tile: str) -> bool:
    return bool(await page.tile(tile))


async def test_queues_and_streams_are_shown_as_postgres_and_redis_have_them(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        assert [await page.tile(name) for name in ("queue", "deaths")] == [0, 0]
        await pool.fetch("insert into jobs (task, payload) select 'forget', '{}' from generate_series(1, 3)")
        await pool.fetch(
            "insert into dead_jobs (id, task, payload, attempts, reason) values (7, 'forget', '{}', 3, '<b>x</b>')"
        )
        await wait_until(lambda: shows(page, "queue", 3), "3 jobs wait")
        await wait_until(lambda: shows(page, "deaths", 1), "1 job is dead")
        found = await first_row(page, "dead")
        assert [found[at] for at in (0, 1, 3, 4)] == ["7", "forget", "3", "<b>x</b>"]
        await add_deaf_node(redis_url)
        await page.wait_rows("nodes", 1)
        assert await first_row(page, "nodes") == [DEAF.hex(), "silent", *[NONE] * 6, "Drain"]


async def first_row(page: BrowserWorld, table: str) -> list[str]:
    found: list[str] = await page.tab.value(
        f"[...document.querySelector('#{table} tbody tr').cells].map((cell) => cell.textContent)"
    )
    return found


async def test_the_page_loads_nothing_but_its_files_and_answers_of_its_own_server(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        requests = [urlsplit(url) for url in await page.tab.requests()]
        assert {each.netloc for each in requests} == {urlsplit(page.cluster.http_url).netloc}
        assert {each.path for each in requests} - {"/ops/icon.svg"} == FILES - {"/ops/icon.svg"} | {"/v1/ops/live"}
        assert await page.tab.complaints() == []


async def test_the_browser_stops_what_the_policy_does_not_allow(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        for harm, directive in HARM.items():
            added = f"const script = document.createElement('script'); script.{harm}; document.body.append(script)"
            before = len(await page.tab.complaints())
            await page.tab.value(f"{{{added}}}")

            async def stopped(seen: int = before, directive: str = directive) -> bool:
                return any(directive in each for each in (await page.tab.complaints())[seen:])

            await wait_until(stopped, f"a complaint about {harm}")
        assert await page.tab.value("window.harm === undefined")


async def test_a_wrong_token_shows_nothing(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in("another-token-of-operators")
        await page.tab.wait("document.querySelector('#state').textContent.startsWith('Not let in')", "a refusal")
        assert await page.tab.value("document.querySelector('#figures').hidden")
        assert await page.tab.value("sessionStorage.length") == 0
        assert await page.tab.value("document.querySelector('#state').role") == "status"
        [complaint] = await page.tab.complaints()
        assert "401" in complaint
        await page.log_in()


async def test_a_token_is_kept_by_the_tab_until_it_is_forgotten(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        await page.tab.open("/ops")
        await page.tab.wait(IS_LIVE, "figures without a form")
        assert await page.tab.value("localStorage.length === 0 && document.cookie === ''")
        await page.tab.value(HELD)
        await page.tab.wait("window.isHeld", "the page asks")
        await page.tab.value("document.querySelector('#forget').click()")
        await page.tab.value("window.release()")
        await let_pass(2.5, why="the page would show the answer, and ask again")
        assert await page.tab.value("document.querySelector('#figures').hidden")
        assert await page.tab.text("#state") == "The token is forgotten."
        assert await focused(page.tab) == "token"
        assert TOKEN not in await page.tab.value("document.documentElement.outerHTML + JSON.stringify(sessionStorage)")
        await page.tab.open("/ops")
        await page.tab.wait("!document.querySelector('#login').hidden", "the page asks for the token")


async def test_a_paused_page_stays_as_it_is(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """Also if an answer was under way."""
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        await page.tab.value(HELD)
        await page.tab.wait("window.isHeld", "the page asks")
        await page.tab.value(PAUSE)
        await page.tab.value("window.release()")
        asked = len(await page.tab.requests())
        await let_pass(2.5, why="the page would show the answer, and ask again")
        assert await page.tab.text("#state") == "Paused."
        assert len(await page.tab.requests()) <= asked + 1
        await page.tab.value(PAUSE)
        await page.tab.wait(IS_LIVE, "figures again")


async def test_the_page_goes_on_without_a_node_that_was_killed(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_ops_page(pool, redis_url, tmp_path, nodes=2) as page:
        await page.log_in()
        await page.wait_rows("nodes", 2)
        page.nodes[0].process.kill()
        await page.wait_rows("nodes", 1)
        left = page.nodes[1].id.hex()
        assert await page.tab.text("#nodes tbody th") == left
        before = await page.tab.text("#state")
        await page.tab.wait(f"{IS_LIVE} && document.querySelector('#state').textContent !== {before!r}", "new figures")
        assert await page.tab.text("#nodes tbody td") == "serves"
        assert await page.tab.complaints() == []


async def test_the_page_says_that_web_is_away_and_goes_on_when_it_is_back(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_ops_page(pool, redis_url, tmp_path) as page:
        await page.log_in()
        page.web.signal(signal.SIGKILL)
        await page.web.wait()
        await page.tab.wait("document.querySelector('#state').className === 'bad'", "a fault")
        assert "No answer" in await page.tab.text("#state")
        assert await page.tab.value("document.querySelector('#state').ariaLive") == "polite"
        port = urlsplit(page.tab.url).port
        await (await page.cluster.start("server", "web", PORT=str(port))).wait_event("listening")
        await page.tab.wait(IS_LIVE, "figures again")
