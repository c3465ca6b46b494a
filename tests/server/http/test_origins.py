"""Cross-origin requests: an allowed page reads each answer, also an error; other pages read none."""

from __future__ import annotations

import pytest

from server.http.origins import ALLOWED, EXPOSED, MAX_AGE_S
from server.http.routes import ROUTES
from store.postgres.pool import Pool
from tests.people import new_user
from tests.processes import open_cluster
from tests.server.http.socket_world import HttpServer, RawAnswer, open_server, request
from tests.server.http.test_methods import OPS_TOKEN, allowed, paths
from tests.server.http.test_routes import filled
from tests.server.http_world import WEB_CLIENT

PAGE, OTHER_PAGE = "https://chat.example", "http://localhost:3000"
FOREIGN = (
    *(
        "https://evil.example",
        "null",
        "",
        "*",
        "http://chat.example",
        "https://chat.example:444",
        "https://chat.example/",
    ),
    *("https://CHAT.example", "https://chat.example.evil.example", "https://xchat.example", f"{PAGE},{PAGE}"),
)
CORS = "access-control-"


def cors_of(answer: RawAnswer) -> dict[str, str]:
    return {name.removeprefix(CORS): value for name, value in answer.headers.items() if name.startswith(CORS)}


async def answers_of(server: HttpServer, headers: dict[str, str]) -> dict[str, RawAnswer]:
    """One answer of each route, and some errors of requests that come to no route."""
    asked = {route.rule: (route.method, filled(route.path)) for route in ROUTES}
    asked |= {
        "404": ("GET", "/v1/nothing"),
        "405": ("PUT", "/healthz"),
        "unknown method": ("BREW", "/healthz"),
        "HEAD": ("HEAD", "/healthz"),
    }
    return {name: await server.exchange(request(method, path, headers)) for name, (method, path) in asked.items()}


async def test_an_allowed_page_may_read_each_answer(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_server(
        pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, cors_origins=[PAGE, OTHER_PAGE]
    ) as server:
        for origin in (PAGE, OTHER_PAGE):
            for token in (alice.token, "wrong"):
                answers = await answers_of(server, {"origin": origin, "authorization": f"Bearer {token}"})
                for name, answer in answers.items():
                    assert cors_of(answer) == {"allow-origin": origin, "expose-headers": EXPOSED}, name
                    assert "origin" in answer.headers["vary"].split(", "), name
    assert {"Content-Range", "ETag", "Link", "Retry-After", "X-Request-ID"} == set(EXPOSED.split(", "))


async def test_no_other_page_may_read_anything_and_caches_keep_them_apart(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, cors_origins=[PAGE]) as server:
        for origin in (*FOREIGN, None):
            answers = await answers_of(server, {} if origin is None else {"origin": origin})
            for name, answer in answers.items():
                assert cors_of(answer) == {}, (origin, name)
                assert "origin" in answer.headers["vary"].split(", "), (origin, name)


async def test_without_allowed_pages_there_is_nothing_of_it(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT) as server:
        for name, answer in (await answers_of(server, {"origin": PAGE})).items():
            assert cors_of(answer) == {}, name
            assert "origin" not in answer.headers["vary"], name
        preflight = {"origin": PAGE, f"{CORS}request-method": "GET"}
        assert cors_of(await server.exchange(request("OPTIONS", "/v1/profile", preflight))) == {}


async def test_a_browser_asks_before_each_request_and_is_told_what_the_path_takes(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, cors_origins=[PAGE]) as server:
        for path, methods in paths().items():
            preflight = {
                "origin": PAGE,
                f"{CORS}request-method": "PUT",
                f"{CORS}request-headers": "authorization,content-type",
            }
            answer = await server.exchange(request("OPTIONS", filled(path), preflight))
            assert (answer.status, answer.body) == (204, b"")
            assert cors_of(answer) == {
                "allow-origin": PAGE,
                "expose-headers": EXPOSED,
                "allow-methods": allowed(methods),
                "allow-headers": ALLOWED,
                "max-age": str(MAX_AGE_S),
            }
            assert "origin" in answer.headers["vary"].split(", ")
            refused = await server.exchange(request("OPTIONS", filled(path), {**preflight, "origin": FOREIGN[0]}))
            assert (refused.status, cors_of(refused)) == (204, {})
            plain = await server.exchange(request("OPTIONS", filled(path), {"origin": PAGE}))
            assert cors_of(plain) == {"allow-origin": PAGE, "expose-headers": EXPOSED}
        assert (await server.exchange(request("OPTIONS", "/v1/nothing", preflight))).status == 404


async def test_the_process_takes_the_pages_from_its_environment(pool: Pool, redis_url: str) -> None:
    async with open_cluster(pool.url, redis_url, CORS_ORIGINS=f" {PAGE} ,{OTHER_PAGE}") as cluster:
        process = await cluster.start_web()
        server = HttpServer(int(cluster.http_url.rpartition(":")[2]), None, None, None)  # type: ignore[arg-type]
        for origin, is_allowed in ((PAGE, True), (OTHER_PAGE, True), (FOREIGN[0], False)):
            answer = await server.exchange(request("GET", "/healthz", {"origin": origin}))
            assert ("access-control-allow-origin" in answer.headers) == is_allowed
        assert await process.stop() == 0
    async with open_cluster(pool.url, redis_url, CORS_ORIGINS=f"{PAGE}/") as cluster:
        with pytest.raises(AssertionError, match="CORS_ORIGINS must be origins"):
            await cluster.start_web()
