"""Each path with each method: `Allow`, OPTIONS, HEAD, and methods that HTTP does not have."""

from __future__ import annotations

import json
from collections import defaultdict
from uuid import UUID

import pytest

from server.http.app import METHODS_SERVED
from server.http.routes import ROUTES
from server.http.routing import Access
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.server.http.socket_world import RawAnswer, open_server, request
from tests.server.http.test_routes import filled
from tests.server.http_world import WEB_CLIENT, say

OPS_TOKEN = "the operators' token"


def paths() -> dict[str, set[str]]:
    """Each path -> the methods of its routes."""
    found = defaultdict(set)
    for route in ROUTES:
        found[route.path].add(route.method)
    return found


def allowed(methods: set[str]) -> str:
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


async def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(pool: Pool, redis_url: str) -> None:
    """Without a token, as a program finds out about a path."""
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT) as server:
        for path, methods in paths().items():
            for method in {*METHODS_SERVED, "TRACE"} - {"OPTIONS", *methods, *(("HEAD",) if "GET" in methods else ())}:
                answer = await server.exchange(request(method, filled(path)))
                assert (answer.status, answer.headers["allow"]) == (405, allowed(methods)), (method, path)
                if method != "HEAD":
                    assert json.loads(answer.body)["code"] == "method_not_allowed"


async def test_options_lists_the_methods_of_a_path(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT) as server:
        for path, methods in paths().items():
            answer = await server.exchange(request("OPTIONS", filled(path)))
            assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed(methods), b""), path
            assert not {"content-length", "content-type"} & answer.headers.keys()
        for path in ("/v1/nothing", "/", "/*"):
            assert (await server.exchange(request("OPTIONS", path))).status == 404
        of_server = await server.exchange(request("OPTIONS", "*"))
        assert of_server.status == 204
        assert of_server.headers["allow"] == allowed({"DELETE", "GET", "PATCH", "POST", "PUT"})


async def test_a_path_with_two_slashes_at_its_beginning_is_a_different_one(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url) as server:
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            for path in ("//healthz", "///healthz", "/%2Fhealthz", "http://test//healthz"):
                assert (await server.exchange(request(method, path))).status == 404, (method, path)


async def test_without_an_operators_token_their_paths_do_not_exist(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url) as server:
        for route in ROUTES:
            if route.access is Access.OPERATOR:
                for method in ("OPTIONS", "GET", "PUT"):
                    assert (await server.exchange(request(method, filled(route.path)))).status == 404


@pytest.mark.parametrize("method", ["BREW", "PROPFIND", "QUERY", "X" * 100])
async def test_a_method_that_no_route_has_is_refused_with_those_that_the_path_takes(
    pool: Pool, redis_url: str, method: str
) -> None:
    async with open_server(pool, redis_url) as server:
        for path, status, code in (("/healthz", 405, "method_not_allowed"), ("/v1/nothing", 404, "not_found")):
            answer = await server.exchange(request(method, path))
            assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
            assert answer.headers.get("allow") == ("GET, HEAD, OPTIONS" if status == 405 else None)


async def test_a_head_is_a_get_without_its_body(pool: Pool, redis_url: str) -> None:
    """On each path, with good requests and refused ones, and the next request on the connection is answered."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    await say(pool, conversation, bob.user, *(bytes([number]) * 8 for number in range(9)))
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT) as server:
        for route in [route for route in ROUTES if route.method == "GET"]:
            path = filled(route.path).replace("/x", "/alice")
            for own in (
                (path, path.replace(path.split("/")[3], str(UUID(bytes=conversation)))) if "uuid:" in path else (path,)
            ):
                for token in ("", alice.token, OPS_TOKEN):
                    headers = {"x-request-id": "the-same-for-both", "authorization": f"Bearer {token}"}
                    async with server.connected() as connection:
                        answers: list[RawAnswer] = []
                        for method in ("GET", "HEAD", "GET"):
                            await connection.send(request(method, own, headers))
                            answers.append(await connection.answer(method.encode()))
                        page, head, again = answers
                    for answer in answers:
                        del answer.headers["date"]
                    assert head == RawAnswer(page.status, page.headers, b""), own
                    assert int(head.headers["content-length"]) == len(page.body)
                    assert again.status == page.status
