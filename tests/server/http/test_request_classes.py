"""Classes of requests: each route has one with a limit, and the documents have the table of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.http.request_classes import LIMITS, Allowance, RequestClass
from server.http.routes import ROUTES
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Route, Routes
from tests.rows import each_row

HTTP = Path(__file__).parents[3] / "docs" / "http.md"

RULES = {
    RequestClass.HOT_READ: {
        "GET /v1/conversations",
        "GET /v1/conversations/<uuid:conversation>",
        "GET /v1/conversations/<uuid:conversation>/messages",
    },
    RequestClass.SEARCH: {"GET /v1/users/<username>"},
    RequestClass.UPLOAD: {
        "POST /v1/attachments",
        "GET /v1/attachments/<uuid:attachment>/parts",
        "POST /v1/attachments/<uuid:attachment>/complete",
        "DELETE /v1/attachments/<uuid:attachment>",
    },
    RequestClass.STATE: {"PUT /v1/conversations/<uuid:conversation>/state"},
    RequestClass.LOGIN: {"POST /v1/devices", "POST /v1/confirmations", "PUT /v1/password", "PUT /v1/password-resets"},
    RequestClass.REGISTRATION: {"POST /v1/users"},
    RequestClass.MAIL: {"PUT /v1/email", "POST /v1/password-resets"},
    RequestClass.EXPORT: {"POST /v1/exports"},
    RequestClass.FILE: {"GET /app/<path:file>"},
    RequestClass.HEALTH: {"GET /healthz", "GET /readyz"},
}
"""The routes of the classes that are not the usual ones. A route that hashes a password, sends a mail, finds users,
asks the object store or reads everything of a user belongs here."""


def test_each_class_has_a_limit() -> None:
    assert LIMITS.keys() == set(RequestClass)
    for limits in LIMITS.values():
        assert limits.address or limits.user
        for each in (limits.address, limits.user):
            assert each is None or (each.burst >= 1 and each.per_s > 0)


@each_row("route", ROUTES, ids=lambda route: route.rule)
def test_each_route_has_a_limit_for_its_callers(route: Route) -> None:
    assert route.allowance is not None
    assert route.request_class is not RequestClass.UNAUTHENTICATED


def test_the_routes_that_cost_or_tell_more_than_others_have_classes_of_their_own() -> None:
    usual = {RequestClass.READ, RequestClass.WRITE, RequestClass.OPEN, RequestClass.OPERATOR}
    found: dict[RequestClass, set[str]] = {}
    for route in ROUTES:
        if route.request_class not in usual:
            found.setdefault(route.request_class, set()).add(route.rule)
    assert found == RULES


def test_a_route_without_a_limit_for_its_callers_cannot_be_declared() -> None:
    routes = Routes()

    async def handler(_: Request[None]) -> Answer:
        return NO_CONTENT

    with pytest.raises(ValueError, match="the class export has no limit for these callers"):
        routes.open_write("POST /v1/things", body=int, announces=NOTHING, request_class=RequestClass.EXPORT)(handler)
    assert routes.declared == []


def test_the_documents_have_the_table_of_limits() -> None:
    rows = ["| class | requests | one address | one user | counted |", "|---|---|---|---|---|"]
    for each, limits in LIMITS.items():
        counted = "in Redis" if limits.is_exact else "by each process"
        columns = [f"`{each.value}`", limits.requests, shown(limits.address), shown(limits.user), counted]
        rows.append(f"| {' | '.join(columns)} |")
    assert "\n".join(rows) in HTTP.read_text()


def shown(allowance: Allowance | None) -> str:
    if allowance is None:
        return ""
    per, unit = next(
        (per, unit)
        for per, unit in ((1, "s"), (60, "min"), (3600, "h"))
        if round(allowance.per_s * per, 6) == round(allowance.per_s * per) >= 1
    )
    return f"{allowance.burst}, then {allowance.per_s * per:.0f} / {unit}"
