"""Answers are compared with what their routes declare, in every test that asks the HTTP interface by `http_world`."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from quart_trio import QuartTrio
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.exceptions import HTTPException

from server.http.problem_codes import ProblemCode
from server.http.reference.document import document
from server.http.reference.operations import path_template, problems_of
from server.http.routes import ROUTES

MAX_BYTES: Final = 16 * 1024
"""The longest answer that is validated: a page of 100 takes as long as the test."""

DOCUMENT: Final = document(ROUTES)
_ROUTES: Final = {route.rule: route for route in ROUTES}
_ADDRESS: Final = "urn:openapi"
_REGISTRY: Final[Registry[Any]] = Registry().with_resource(
    _ADDRESS, Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
)


def check_declared(app: QuartTrio, method: str, path: str, status: int, media_type: str, data: bytes) -> None:
    """The route declares the status and the problem of this answer, and its body is as the schema says."""
    try:
        rule, _ = app.url_map.bind("test").match(path.partition("?")[0], method)
    except HTTPException:
        return
    route = _ROUTES[str(rule)]
    media_type = media_type.partition(";")[0]
    if status >= 400 and media_type == "application/problem+json":
        code = ProblemCode(msgspec.json.decode(data)["code"])
        assert code in problems_of(route), f"{rule} does not declare {code.value}"
    else:
        assert status in route.statuses or status >= 400, f"{rule} does not declare {status}"
    if data and media_type in ("application/json", "application/problem+json") and len(data) <= MAX_BYTES:
        validator(rule, status, media_type).validate(msgspec.json.decode(data))


@cache
def validator(rule: str, status: int, media_type: str) -> Draft202012Validator:
    """A validator of an answer's body."""
    route = _ROUTES[rule]
    response = DOCUMENT["paths"][path_template(route)][route.method.lower()]["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return validator_of(response["content"][media_type]["schema"])


def validator_of(schema: Any) -> Draft202012Validator:
    """A validator of a schema with references into the document."""
    return Draft202012Validator(
        absolute(schema), registry=_REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def absolute(schema: Any) -> Any:
    """The schema with references that lead into the document from anywhere."""
    if isinstance(schema, list):
        return [absolute(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _ADDRESS + value if key == "$ref" else absolute(value) for key, value in schema.items()}
