"""The encodings of bodies, by `Accept`, `Content-Type` and `Content-Encoding`."""

from __future__ import annotations

import cbor2

from server.http.media_types import accepted, sent
from server.http.routes import ROUTES
from server.http.routing import Route
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import checked_rows, each_row
from tests.server.http.test_routes import filled
from tests.server.http_world import Api, open_api

ACCEPTED = {
    "": "json",
    "*/*": "json",
    "application/*": "json",
    "application/json": "json",
    "application/cbor": "cbor",
    "Application/CBOR": "cbor",
    " application/cbor ;q=1.0": "cbor",
    "application/cbor, */*": "cbor",
    "application/cbor, */*;q=0.1": "cbor",
    "application/json, application/cbor": "cbor",
    "application/json;q=0.5, application/cbor;q=0.5": "cbor",
    "application/json, application/cbor;q=0.9": "json",
    "application/*, application/cbor;q=0.9": "json",
    "*/*;q=0.8, application/cbor;q=0.9": "cbor",
    "application/cbor;q=0": "json",
    "application/cbor;q=0.000, */*": "json",
    "application/cbor;q=0.001": "cbor",
    "application/json;q=0, application/cbor;q=0.1": "cbor",
    "application/cbor; Q=0.5, application/json;q=0.4": "cbor",
    "application/cbor;q=2": "json",
    "application/cbor;q=-1": "json",
    "application/cbor;q=nan": "json",
    "application/cbor;q=0.1234": "json",
    "application/cbor;q=": "json",
    "application/cbor-seq": "json",
    "application/x-application/cbor": "json",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "json",
    "image/png": "json",
    ",,;q=1,application/cbor,": "cbor",
    "application/cbor, application/cbor;q=0": "cbor",
}


@each_row("accept", ACCEPTED)
def test_the_answer_is_cbor_for_a_client_that_names_it(accept: str) -> None:
    assert accepted(accept) == ACCEPTED[accept]


SENT = {
    "application/json": "json",
    "application/json; charset=utf-8": "json",
    "Application/JSON": "json",
    "application/cbor": "cbor",
    " application/cbor ; x=y": "cbor",
    "": None,
    "text/plain": None,
    "text/plain; application/json": None,
    "application/x-www-form-urlencoded": None,
    "multipart/form-data; boundary=x": None,
    "application/problem+json": None,
    "application/json, application/cbor": None,
    "*/*": None,
    "json": None,
}


@each_row("content_type", SENT)
def test_a_body_is_json_or_cbor_or_neither(content_type: str) -> None:
    assert sent(content_type) == SENT[content_type]


WITH_BODIES = [route for route in ROUTES if route.body is not None]


async def test_a_body_of_any_other_type_is_refused(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        with checked_rows() as rows:
            for route in WITH_BODIES:
                with rows.row(route.rule):
                    await check_types_of_bodies(api.of(alice.token), route)


async def check_types_of_bodies(mine: Api, route: Route) -> None:
    path = filled(route.path)
    for name, data, headers in (
        ("neither", b"{}", {"Content-Type": "text/plain"}),
        ("none", b"{}", {}),
        ("a form", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
    ):
        answer = await mine.request(route.method, path, data=data, headers=headers)
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), name
        assert answer.headers["Accept"] == "application/json, application/cbor"
    for coding in ("gzip", "br", "zstd", "identity, gzip", "x"):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = await mine.request(route.method, path, data=b"{}", headers=headers)
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), coding
        assert answer.headers["Accept-Encoding"] == "identity"
    for content_type in ("application/json", "application/cbor", "text/plain", None):
        headers = {} if content_type is None else {"Content-Type": content_type}
        answer = await mine.request(route.method, path, headers=headers)
        assert (answer.status, answer.code) == (400, "invalid_body"), "an empty body is not of the wrong type"


async def test_a_body_that_is_not_coded_may_say_so(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        headers = {"Content-Type": "application/cbor", "Content-Encoding": "Identity"}
        data = cbor2.dumps({"display_name": "Alice"})
        answer = await api.of(alice.token).request("PATCH", "/v1/profile", data=data, headers=headers)
        assert answer.status == 200
