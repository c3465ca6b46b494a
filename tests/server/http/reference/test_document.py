"""The OpenAPI document: it is valid, has every route, and its examples are as its schemas say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import cbor2
import msgspec
import pytest
from jsonschema import ValidationError
from openapi_spec_validator import validate

from server.http.notifiers import NEW_NOTIFIER, target_of
from server.http.problem_codes import ProblemCode
from server.http.reference.examples import EXAMPLES
from server.http.reference.operations import path_template, problems_of
from server.http.routes import OPEN, ROUTES
from server.http.routing import Access, FileAnswer, HtmlAnswer, Route
from store.postgres.pool import Pool
from tests.rows import each_row
from tests.sentences import fault_of
from tests.server.http_contract import DOCUMENT, check_declared, validator_of
from tests.server.http_world import CBOR, WEB_CLIENT, Api, open_api

each_route = each_row("route", ROUTES, ids=lambda route: route.rule)


def operation_of(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path_template(route)][route.method.lower()]
    return found


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


def test_the_document_has_every_route_and_no_other() -> None:
    found = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert found == {(route.method, path_template(route)) for route in ROUTES}
    assert EXAMPLES.keys() == {route.rule for route in ROUTES}


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [operation_of(route)["operationId"] for route in ROUTES]
    assert len(set(names)) == len(names)


@each_route
def test_an_operation_says_what_its_route_declares(route: Route) -> None:
    operation = operation_of(route)
    security = [{"device": []}] if route.is_for_devices else []
    assert operation["security"] == ([{"operator": []}] if route.access is Access.OPERATOR else security)
    is_confirmed = route.access is Access.CONFIRMED_DEVICE
    assert ("`POST /v1/confirmations`" in operation.get("description", "")) == is_confirmed
    assert (ProblemCode.CONFIRMATION_REQUIRED.value in operation["responses"].get("403", {"$ref": ""})["$ref"]) == (
        is_confirmed
    )
    assert (operation["security"] == []) == (route.rule in OPEN)
    assert re.fullmatch(r"[A-Z][^.]+", operation["summary"]), "the docstring of the handler says what the route does"
    assert fault_of(operation["summary"] + ".") is None
    assert ("requestBody" in operation) == (route.body is not None or route.form is not None)
    assert ("x-announces" in operation) == bool(route.announces)
    parameters = {each["name"]: each for each in operation["parameters"]}
    assert ("If-None-Match" in parameters) == (304 in route.statuses)
    parameters.pop("If-None-Match", None)
    declared = set(re.findall(r"<(?:\w+:)?(\w+)>", route.path))
    if route.query is not None:
        declared |= {field.encode_name for field in msgspec.structs.fields(route.query)}
    assert parameters.keys() == declared
    assert all(each["description"] for each in parameters.values())
    statuses = {*route.statuses, *(code.info.status for code in problems_of(route))}
    assert operation["responses"].keys() == {str(status) for status in statuses}
    for media_types in contents(operation):
        if route.answer not in (HtmlAnswer, FileAnswer):
            assert {"application/cbor"} < media_types.keys(), "each body has both encodings"


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bodies of requests and answers, by media type."""
    responses = DOCUMENT["components"]["responses"]
    items = [operation.get("requestBody", {}), *operation["responses"].values()]
    for item in items:
        found = responses[item["$ref"].rpartition("/")[2]] if "$ref" in item else item
        if "content" in found:
            yield found["content"]


@each_route
def test_examples_are_as_the_schemas_say(route: Route) -> None:
    operation, count = operation_of(route), 0
    for parameter in operation["parameters"]:
        if "example" in parameter:
            validator_of(parameter["schema"]).validate(parameter["example"])
    for media_types in contents(operation):
        for content in media_types.values():
            examples = [each["value"] for each in content.get("examples", {}).values()]
            for example in [*examples, *([content["example"]] if "example" in content else [])]:
                validator_of(content["schema"]).validate(example)
                count += 1
    assert count >= (route.body is not None) + (route.answer is not None and EXAMPLES[route.rule].answer is not None)


def test_a_body_of_several_kinds_has_an_example_of_each() -> None:
    """The server takes each of them."""
    of_kinds = {route.rule: kinds for route in ROUTES if len(kinds := get_args(route.body)) > 1}
    assert of_kinds.keys() >= {"POST /v1/conversations", "POST /v1/notifiers"}
    for rule, kinds in of_kinds.items():
        shown = EXAMPLES[rule]
        assert {type(body) for body in (shown.body, *shown.other_bodies)} == set(kinds), rule
    for example in (EXAMPLES["POST /v1/notifiers"].body, *EXAMPLES["POST /v1/notifiers"].other_bodies):
        target_of(msgspec.convert(msgspec.to_builtins(example), NEW_NOTIFIER))


def test_each_code_is_a_problem_of_some_route_or_of_requests_that_reach_none() -> None:
    of_routes = {code for route in ROUTES for code in problems_of(route)}
    of_none = set(ProblemCode) - of_routes
    assert ProblemCode.METHOD_NOT_ALLOWED in of_none
    assert of_none > OF_FILES
    assert {code.info.status for code in of_none - OF_FILES} <= {400, 405, 408, 414, 421, 429, 431, 501, 505}


OF_FILES = {
    ProblemCode.NO_CONTENT_RANGE,
    ProblemCode.WRONG_SIZE,
    ProblemCode.WRONG_DIGEST,
    ProblemCode.TICKET_INVALID,
    ProblemCode.TICKET_EXPIRED,
    ProblemCode.UNKNOWN_FILE,
    ProblemCode.UNKNOWN_UPLOAD,
    ProblemCode.PART_BUSY,
    ProblemCode.LENGTH_REQUIRED,
    ProblemCode.RANGE_NOT_SATISFIABLE,
    ProblemCode.STORAGE_FULL,
}
"""Problems of presigned requests to a folder's files, which are no routes (`server.http.files`)."""


def test_responses_have_the_headers_that_answers_have() -> None:
    for name, response in DOCUMENT["components"]["responses"].items():
        infos = [ProblemCode(code).info for code in name.split(".")]
        assert response["headers"].keys() == {
            "X-Request-ID",
            *(["WWW-Authenticate"] if any(info.status == 401 for info in infos) else []),
            *(["Retry-After"] if any(info.retry for info in infos) else []),
        }


def test_patterns_are_those_of_json_schema() -> None:
    patterns = list(values_of(DOCUMENT, "pattern"))
    assert len(patterns) > 2
    assert not any("\\Z" in pattern or "\\A" in pattern for pattern in patterns)


def values_of(item: Any, key: str) -> Iterator[str]:
    """The texts at a key, at any depth."""
    if isinstance(item, dict):
        if isinstance(item.get(key), str):
            yield item[key]
        for value in item.values():
            yield from values_of(value, key)
    elif isinstance(item, list):
        for value in item:
            yield from values_of(value, key)


def test_each_field_whose_name_does_not_say_all_is_described() -> None:
    """Descriptions come from docstrings; a field that a docstring names must exist."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for text in [schema["description"], *values_of(schema["properties"], "description")]:
            assert ":ivar" not in text
            assert fault_of(text) is None, (name, text)


async def test_the_document_is_served_without_a_token(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url, ops_token="the operators' token", web_client=WEB_CLIENT) as with_operators:
        assert msgspec.json.decode(await data_of(with_operators)) == DOCUMENT
    async with open_api(pool, redis_url) as api:
        without = msgspec.json.decode(await data_of(api))
        assert DOCUMENT["paths"].keys() - without["paths"].keys() == {
            path_template(route) for route in ROUTES if route.needs_operators or route.is_web_client
        }
        assert DOCUMENT["components"]["schemas"].keys() - without["components"]["schemas"].keys() == OF_OPERATORS
    async with open_api(pool, redis_url, "cbor") as in_cbor:
        assert cbor2.loads(await data_of(in_cbor)) == without


OF_OPERATORS = {
    *("Days", "Day", "Delivery", "Storage", "Attachments"),
    *("Live", "Times", "Cache", "Task", "DeadJob", "Node", "Statement", "Process"),
}


async def data_of(api: Api) -> bytes:
    headers = {"Accept": CBOR} if api.encoding == "cbor" else {}
    response = await api.app.test_client().get("/openapi.json", headers=headers)
    assert response.status_code == 200
    return await response.get_data(as_text=False)


@pytest.mark.parametrize(
    ("path", "status", "media_type", "data", "error"),
    [
        ("/healthz", 200, "application/json", b'{"status":"fine"}', ValidationError),
        ("/healthz", 200, "application/json", b"{}", ValidationError),
        ("/healthz", 201, "application/json", b'{"status":"ok"}', AssertionError),
        ("/healthz", 404, "application/problem+json", b'{"code":"unknown_user"}', AssertionError),
        ("/healthz", 503, "application/problem+json", b'{"code":"unavailable"}', ValidationError),
        ("/v1/devices", 200, "application/json", b'{"devices":[{"device":"5"}]}', ValidationError),
    ],
)
async def test_an_answer_that_its_route_does_not_declare_is_found(
    pool: Pool, redis_url: str, path: str, status: int, media_type: str, data: bytes, error: type[Exception]
) -> None:
    """`http_contract` checks the answers of all tests that use `http_world`."""
    async with open_api(pool, redis_url) as api:
        with pytest.raises(error):
            check_declared(api.app, "GET", path, status, media_type, data)
