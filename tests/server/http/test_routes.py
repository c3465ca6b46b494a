"""Every route of the application: its access, and the declaration of its handler."""

from __future__ import annotations

import importlib
import pkgutil
import re
from contextlib import closing
from typing import Any, get_args, get_type_hints
from uuid import UUID, uuid4

import pytest
from quart_trio import QuartTrio

import server.http.routes
from client.http import Credentials
from server.http.announcements import Announcements
from server.http.queries import NoQuery
from server.http.routes import OPEN, ROUTES
from server.http.routing import NOTHING, Changed, Request, Route, Routes
from store.postgres.pool import Pool
from store.tokens import Identity
from tests.rows import checked_rows, each_row
from tests.server.http_world import WEB_CLIENT, open_api

WRITES = [route for route in ROUTES if route.method != "GET"]
by_rule = pytest.mark.parametrize("route", WRITES, ids=lambda route: route.rule)


def rules_of(app: QuartTrio) -> set[str]:
    """The methods and paths that the application serves. Quart itself answers HEAD and OPTIONS."""
    return {
        f"{method} {rule.rule}" for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def filled(path: str) -> str:
    """The path with values that its converters take."""
    values = {"uuid:": str(uuid4()), "int:": "1", "": "x", "path:": "web/app.js"}
    return re.sub(r"<(\w+:)?\w+>", lambda found: values[found[1] or ""], path)


async def test_a_route_that_is_not_on_the_list_of_open_routes_needs_a_token(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    headers = {
        "no header": {},
        "an empty token": {"Authorization": "Bearer "},
        "an unknown token": {"Authorization": f"Bearer {'A' * 43}"},
        "another scheme": {"Authorization": f"Basic {alice.token}"},
        "a token without a scheme": {"Authorization": alice.token},
    }
    async with open_api(pool, redis_url, ops_token="the operators' token", web_client=WEB_CLIENT) as api:
        rules = rules_of(api.app)
        assert rules == {route.rule for route in ROUTES}
        assert OPEN.keys() < rules
        client, admitted = api.app.test_client(), set()
        for rule in rules:
            method, path = rule.split(" ")
            for name, header in headers.items():
                response = await client.open(filled(path), method=method, headers=header)
                body = await response.get_data()
                if response.status_code != 401 or b'"unauthenticated"' not in body:
                    admitted.add((rule, name))
        assert admitted == {(rule, name) for rule in OPEN for name in headers}


async def test_without_an_operators_token_and_the_web_client_there_are_no_routes_for_them(
    pool: Pool, redis_url: str
) -> None:
    async with open_api(pool, redis_url) as api:
        assert {route.rule for route in ROUTES} - rules_of(api.app) == {
            route.rule for route in ROUTES if route.needs_operators or route.is_web_client
        }


def test_the_routes_of_every_file_are_routes_of_the_application() -> None:
    declared: list[Route] = []
    for file in pkgutil.iter_modules(server.http.routes.__path__):
        module = importlib.import_module(f"server.http.routes.{file.name}")
        assert module.routes.declared
        declared += module.routes.declared
    assert sorted(route.rule for route in declared) == sorted(route.rule for route in ROUTES)


@by_rule
def test_a_write_that_announces_something_returns_its_announcements(route: Route) -> None:
    assert route.announces is not None
    returned = get_type_hints(route.handler)["return"]
    assert (returned is Changed) == (route.announces != NOTHING)
    assert all(vars(Announcements)[each.__name__] is each for each in route.announces)


@each_row("route", ROUTES, ids=lambda route: route.rule)
def test_a_handler_takes_what_its_route_declares(route: Route) -> None:
    """mypy sees what admits it, and the body; the values of the path are checked here."""
    hints = get_type_hints(route.handler)
    del hints["return"]
    names = list(hints)
    admitted: tuple[Any, ...] = (Identity,) if route.is_for_devices else ()
    if route.admit is not None:
        admitted = get_args(get_type_hints(route.admit)["return"])
    assert tuple(hints.pop(name) for name in names[: len(admitted)]) == admitted
    request = names[len(admitted)]
    if route.prepare is None:
        sent = route.body or route.form or (route.query if route.query is not NoQuery else None)
        assert hints.pop(request) == Request[sent or type(None)]
    else:
        assert get_type_hints(route.prepare)["request"] == Request[route.body]
        assert hints.pop(request) == Request[get_type_hints(route.prepare)["return"]]
    types = {"uuid:": UUID, "int:": int, "": str, "path:": str}
    assert hints == {name: types[kind] for kind, name in re.findall(r"<(\w+:)?(\w+)>", route.path)}


def test_a_write_must_say_what_it_announces_and_a_read_must_not_write() -> None:
    routes = Routes()
    with pytest.raises(ValueError, match="GET with read"):
        routes.read("POST /v1/things", answer=dict)
    with pytest.raises(ValueError, match="GET with read"):
        routes.write("GET /v1/things", announces=NOTHING)
    with pytest.raises(TypeError, match="announces"):
        routes.write("POST /v1/things")  # type: ignore[call-overload]
    assert routes.declared == []


NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


async def test_a_refused_request_is_logged_by_its_route_and_not_by_its_path(
    redis_url: str, log_output: list[dict[str, Any]]
) -> None:
    """With Postgres away. The path of a link in a mail has its token, and other paths say whom a user asks about."""
    value = uuid4()
    values = {"uuid:": str(value), "int:": "1234567", "": f"alo_{value.hex * 2}", "path:": f"{value.hex}/x"}
    headers = {"Authorization": f"Bearer {values['']}"}
    with closing(Pool(NOWHERE, 2)) as pool, checked_rows() as rows:
        async with open_api(pool, redis_url, ops_token=values[""]) as api:
            for route in [route for route in ROUTES if "<" in route.path]:
                with rows.row(route.rule):
                    before = len(log_output)
                    path = re.sub(r"<(\w+:)?\w+>", lambda found: values[found[1] or ""], route.path)
                    answer = await api.app.test_client().open(path, method=route.method, headers=headers, json={})
                    lines = [line for line in log_output[before:] if line["event"] == "request_refused"]
                    assert [line["route"] for line in lines] == ([route.rule] if answer.status_code >= 500 else [])
                    assert answer.status_code >= 500 or route.rule in OPEN
    assert not any(each in repr(line) for line in log_output for each in (*values.values(), value.hex))
