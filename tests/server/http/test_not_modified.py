"""Pages of the list and of history that a client holds: `304` for one statement, as long as they are current."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from server.cluster.writer import Writer
from server.http.announcements import Announcements
from server.http.compression import CODINGS
from server.http.services import services_of
from store import conversations, history_pages, list_pages, revisions
from store.postgres.driver import PostgresConnection
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.redis.client import Redis
from tests.people import new_group, new_user
from tests.server.http.socket_world import HttpServer, RawAnswer, request, serving_api
from tests.server.http_world import CBOR, say, started_health

PAGES: dict[str, Callable[[bytes], str]] = {
    "list": lambda _: "/v1/conversations",
    "history": lambda conversation: f"/v1/conversations/{UUID(bytes=conversation)}/messages",
}
VERSIONS: dict[str, Statement] = {
    "list": list_pages.LIST_STATE.by_token,
    "history": history_pages.HISTORY_VERSION.by_token,
}
each_page = pytest.mark.parametrize("page", PAGES)


@asynccontextmanager
async def process(pool: Pool, redis_url: str) -> AsyncGenerator[HttpServer, None]:
    """A process with empty caches, on a socket."""
    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        announcements = Announcements(pool, Writer(redis, pool).broadcast)
        health = started_health(pool, redis)
        services = services_of(pool, redis, announcements, token_lifetime_s=3600.0, health=health)
        await services.tags.history()
        async with serving_api(services) as server:
            yield server
        nursery.cancel_scope.cancel()


class Reader:
    """A client of a page.

    :param headers: of each request.
    """

    def __init__(self, server: HttpServer, token: str, path: str, **headers: str) -> None:
        self.server = server
        self.path = path
        self.headers = {"authorization": f"Bearer {token}", **_named(headers)}

    async def get(self, method: str = "GET", query: str = "", **headers: str) -> RawAnswer:
        return await self.server.exchange(request(method, self.path + query, {**self.headers, **_named(headers)}))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements that any connection ran."""
    run: list[bytes] = []
    run_encoded, run_all = PostgresConnection.run_encoded, PostgresConnection.run_all

    async def noted(self: PostgresConnection, statement: Statement, parameters: Any) -> Any:
        run.append(statement.sql)
        return await run_encoded(self, statement, parameters)

    async def noted_all(self: PostgresConnection, reads: Any) -> Any:
        run.extend(statement.sql for statement, _ in reads)
        return await run_all(self, reads)

    monkeypatch.setattr(PostgresConnection, "run_encoded", noted)
    monkeypatch.setattr(PostgresConnection, "run_all", noted_all)
    return run


@each_page
@pytest.mark.parametrize("accept", ["application/json", CBOR])
async def test_a_page_that_the_client_holds_is_not_read_in_any_process(
    pool: Pool, redis_url: str, alice: Credentials, direct: bytes, page: str, accept: str, statements: list[bytes]
) -> None:
    await say(pool, direct, alice.user, b"hi")
    async with process(pool, redis_url) as server:
        got = await Reader(server, alice.token, PAGES[page](direct), accept=accept).get()
    assert got.status == 200
    assert got.headers["cache-control"] == "private, no-cache"
    tag = got.headers["etag"]
    async with process(pool, redis_url) as server:
        reader = Reader(server, alice.token, PAGES[page](direct), accept=accept)
        for header in (tag, f"W/{tag}", f'"x", {tag}', "*", tag.replace('"', "").join(['"', '-br"'])):
            statements.clear()
            held = await reader.get(if_none_match=header)
            assert (held.status, held.body) == (304, b"")
            assert statements == [VERSIONS[page].sql], header
            assert held.headers["etag"] in (tag, tag[:-1] + '-br"')
            for name in ("cache-control", "vary"):
                assert held.headers[name] == got.headers[name]
            assert not held.headers.keys() & {"content-length", "content-type", "content-encoding"}
            head = await reader.get("HEAD", if_none_match=header)
            assert (head.status, head.body, head.headers["etag"]) == (304, b"", held.headers["etag"])
        for header in ('"x"', tag.upper(), tag.strip('"'), f'"{tag[1:-1]}-x"'):
            again = await reader.get(if_none_match=header)
            assert (again.status, again.headers["etag"], again.body) == (200, tag, got.body), header
        await say(pool, direct, alice.user, b"ho")
        changed = await reader.get(if_none_match=tag)
        assert changed.status == 200
        assert changed.headers["etag"] != tag
        assert changed.body != got.body


OLDER = ("?limit=2&cursor={cursor}", "?limit=2&after_seq=1", "?limit=3&around_seq=2")


@pytest.mark.parametrize("query", OLDER)
async def test_each_other_page_of_history_is_held_until_one_of_its_messages_may_have_changed(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, query: str, statements: list[bytes]
) -> None:
    """No page is final: any message may be edited, deleted or hidden, or expire (decision 34). A new message does not
    change a page before a cursor."""
    await say(pool, direct, alice.user, *(b"%d" % n for n in range(6)))
    async with process(pool, redis_url) as server:
        reader = Reader(server, alice.token, PAGES["history"](direct))
        cursor = json.loads((await reader.get(query="?limit=2")).body)["cursor"]
        query = query.format(cursor=cursor)
        for change in (
            lambda: revisions.edit(pool, alice.user, direct, 2, 0, "text", b"x", None, None),
            lambda: revisions.delete_for_me(pool, alice.user, direct, 3),
            lambda: revisions.delete_for_everyone(pool, alice.user, direct, 4),
        ):
            got = await reader.get(query=query)
            assert (got.status, got.headers["cache-control"]) == (200, "private, no-cache")
            statements.clear()
            held = await reader.get(query=query, if_none_match=got.headers["etag"])
            assert (held.status, held.body, held.headers["etag"]) == (304, b"", got.headers["etag"])
            assert statements == [VERSIONS["history"].sql]
            await change()
            again = await reader.get(query=query, if_none_match=got.headers["etag"])
            assert (again.status, again.headers["etag"] == got.headers["etag"]) == (200, False)
        await say(pool, direct, bob.user, b"one more")
        after = await reader.get(query=query, if_none_match=again.headers["etag"])
        assert after.status == (304 if "cursor" in query else 200)


async def test_pages_with_other_bounds_have_other_tags_and_a_wrong_cursor_has_none(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, *(b"%d" % n for n in range(6)))
    elsewhere = await new_group(pool, alice, bob)
    await say(pool, elsewhere, alice.user, b"1", b"2", b"3")
    async with process(pool, redis_url) as server:
        reader = Reader(server, alice.token, PAGES["history"](direct))
        other = Reader(server, alice.token, PAGES["history"](elsewhere))
        foreign = json.loads((await other.get(query="?limit=2")).body)["cursor"]
        queries = ("", *(f"?{name}={n}" for name in ("limit", "after_seq", "around_seq") for n in (2, 3)))
        assert len({(await reader.get(query=query)).headers["etag"] for query in queries}) == len(queries)
        for wrong in (foreign, "x"):
            answer = await reader.get(query=f"?cursor={wrong}", if_none_match="*")
            assert answer.status == 400


@each_page
async def test_pages_that_differ_have_different_tags(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, page: str
) -> None:
    await say(pool, direct, alice.user, *(b"%d" % n for n in range(20)))
    found = {}
    async with process(pool, redis_url) as server:
        for token in (alice.token, bob.token):
            for accept in ("application/json", CBOR):
                for coding in ("identity", *CODINGS):
                    for query in ("", "?limit=49"):
                        reader = Reader(server, token, PAGES[page](direct), accept=accept, accept_encoding=coding)
                        for _ in range(2):
                            answer = await reader.get(query=query)
                            assert answer.status == 200
                            found.setdefault(answer.headers["etag"], set()).add((accept, answer.body))
                        assert ("content-encoding" in answer.headers) == answer.headers["etag"].endswith(f'-{coding}"')
    assert len(found) > 8
    for bodies in found.values():
        assert len(bodies) == 1


@each_page
async def test_the_page_of_a_user_is_held_by_no_other(
    pool: Pool, redis_url: str, alice: Credentials, direct: bytes, page: str
) -> None:
    """A client proves nothing by the tag of a page."""
    stranger = await new_user(pool, "stranger")
    async with process(pool, redis_url) as server:
        tag = (await Reader(server, alice.token, PAGES[page](direct)).get()).headers["etag"]
        for token, status in ((stranger.token, {"list": 200, "history": 404}[page]), ("x", 401)):
            for header in (tag, "*" if page == "history" or status == 401 else tag):
                answer = await Reader(server, token, PAGES[page](direct)).get(if_none_match=header)
                assert answer.status == status


async def test_a_user_without_conversations_holds_the_empty_list(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with process(pool, redis_url) as server:
        reader = Reader(server, alice.token, "/v1/conversations")
        tag = (await reader.get()).headers["etag"]
        assert (await reader.get(if_none_match=tag)).status == 304
        bob = await new_user(pool, "bob")
        await conversations.add_direct(pool, alice.user, bob.user)
        assert (await reader.get(if_none_match=tag)).status == 200
