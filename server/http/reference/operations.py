"""A route as an operation of OpenAPI."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

from server.http.authentication import CONFIRMED_S
from server.http.encoding import CBOR, JSON
from server.http.problem_codes import ProblemCode
from server.http.problems import MEDIA_TYPES
from server.http.queries import NoQuery, PageQuery
from server.http.reference import curl
from server.http.reference.examples import EXAMPLES, as_json
from server.http.reference.schemas import PREFIX, Schemas, documented, sentence
from server.http.routing import Access, FileAnswer, HtmlAnswer, Route

Item: TypeAlias = dict[str, Any]
"""A part of the document."""

SECURITY: Final[dict[Access, list[Item]]] = {
    Access.DEVICE: [{"device": []}],
    Access.CONFIRMED_DEVICE: [{"device": []}],
    Access.OPERATOR: [{"operator": []}],
    Access.OPEN: [],
}
_TOKEN_PROBLEMS: Final = (
    ProblemCode.UNAUTHENTICATED,
    ProblemCode.TOKEN_EXPIRED,
    ProblemCode.DEVICE_REVOKED,
    ProblemCode.TOKEN_REUSED,
    ProblemCode.ACCOUNT_SUSPENDED,
)
ADMISSION_PROBLEMS: Final = {
    Access.DEVICE: _TOKEN_PROBLEMS,
    Access.CONFIRMED_DEVICE: (*_TOKEN_PROBLEMS, ProblemCode.CONFIRMATION_REQUIRED),
    Access.OPERATOR: (ProblemCode.UNAUTHENTICATED,),
    Access.OPEN: (),
}
"""Problems of the token that a route asks for."""

ACCESS_NOTES: Final = {
    Access.CONFIRMED_DEVICE: f"The user has shown the password on this device in the last {CONFIRMED_S:g} s, by logging"
    " in or with `POST /v1/confirmations`."
}
"""What a description says of a route's callers, beside the token."""

_OF_ALL: Final = (ProblemCode.RATE_LIMITED, ProblemCode.UNAVAILABLE, ProblemCode.INTERNAL)

UUID_SCHEMA: Final = {"type": "string", "format": "uuid"}


class PathValue(NamedTuple):
    """A value of a path: its meaning, and its schema."""

    description: str
    schema: Item


PATH_VALUES: Final = {
    "attachment": PathValue("One of your uploads.", UUID_SCHEMA),
    "conversation": PathValue("The conversation.", UUID_SCHEMA),
    "device": PathValue("One of your devices.", UUID_SCHEMA),
    "file": PathValue("The path of the file in the web client.", {"type": "string"}),
    "export": PathValue("One of your exports.", UUID_SCHEMA),
    "job": PathValue("The number of the job.", {"type": "integer", "minimum": 1}),
    "part": PathValue("The number of the part.", {"type": "integer", "minimum": 1}),
    "node": PathValue("The id of the node.", {"type": "string"}),
    "notifier": PathValue("One of your notifiers.", UUID_SCHEMA),
    "other": PathValue("The other user.", UUID_SCHEMA),
    "seq": PathValue("The message's number in its conversation.", {"type": "integer", "minimum": 1}),
    "token": PathValue("The token from the link in a mail.", {"type": "string"}),
    "user": PathValue("The user.", UUID_SCHEMA),
    "username": PathValue("The user's name.", {"type": "string"}),
}


def path_template(route: Route) -> str:
    """The path as OpenAPI writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path)


def tag_of(route: Route) -> str:
    """The route's resource: the name of its file."""
    return route.handler.__module__.rpartition(".")[2]


def problems_of(route: Route) -> set[ProblemCode]:
    """All codes that a route may answer with: its own, and those that its other declarations imply."""
    found = {*route.problems, *ADMISSION_PROBLEMS[route.access], *_OF_ALL}
    if route.query is not None:
        found.add(ProblemCode.INVALID_QUERY)
        if issubclass(route.query, PageQuery):
            found.add(ProblemCode.INVALID_CURSOR)
    if route.body is not None:
        found |= {ProblemCode.INVALID_BODY, ProblemCode.UNSUPPORTED_MEDIA_TYPE}
    if route.body is not None or route.form is not None:
        found |= {ProblemCode.BODY_TOO_LARGE, ProblemCode.REQUEST_TIMEOUT}
    if "<uuid:" in route.path or "<int:" in route.path:
        found.add(ProblemCode.NOT_FOUND)
    return found


def problems_by_status(route: Route) -> dict[int, list[ProblemCode]]:
    """The codes that a route may answer with, in the order of statuses and codes."""
    found: dict[int, list[ProblemCode]] = {}
    for code in sorted(problems_of(route), key=lambda code: (code.info.status, code.value)):
        found.setdefault(code.info.status, []).append(code)
    return found


def operation(route: Route, schemas: Schemas) -> Item:
    """The operation of a route. Answers with problems refer to responses that `problem_responses` makes."""
    summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n")
    made: Item = {
        "operationId": route.handler.__name__,
        "tags": [tag_of(route)],
        "summary": summary.rstrip("."),
        "security": SECURITY[route.access],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, schemas),
        "x-codeSamples": [
            {"lang": "Shell", "label": "curl", "source": curl.command(route, EXAMPLES[route.rule])},
        ],
    }
    notes = [text for text in (description.strip(), ACCESS_NOTES.get(route.access)) if text]
    if notes:
        made["description"] = "\n\n".join(notes)
    if route.announces:
        made["x-announces"] = sorted(each.__name__ for each in route.announces)
    if route.body is not None or route.form is not None:
        made["requestBody"] = _request_body(route, schemas)
    return made


def _path_parameters(route: Route) -> list[Item]:
    names = re.findall(r"<(?:\w+:)?(\w+)>", route.path)
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_VALUES[name].description,
            "schema": PATH_VALUES[name].schema,
            "example": _typed(EXAMPLES[route.rule].values[name], PATH_VALUES[name].schema),
        }
        for name in names
    ]


def _typed(text: str, schema: Item) -> str | int:
    return int(text) if schema["type"] == "integer" else text


def _query_parameters(route: Route) -> list[Item]:
    if route.query is None or route.query is NoQuery:
        return []
    schema = Schemas([route.query], []).components[route.query.__name__]
    _, texts = documented(route.query)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": texts[name],
            "schema": _parameter_schema(field),
        }
        for name, field in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[Item]:
    if HTTPStatus.NOT_MODIFIED not in route.statuses:
        return []
    description = "Entity tags of pages that you hold: the answer is 304 if the current page is one of them."
    return [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": description,
            "schema": {"type": "string"},
        }
    ]


def _parameter_schema(field: Item) -> Item:
    """A parameter is left out where a field of a struct is None."""
    made = {key: value for key, value in field.items() if key != "description"}
    if isinstance(made.get("type"), list):
        made["type"] = made["type"][0]
        del made["default"]
    return made


def _request_body(route: Route, schemas: Schemas) -> Item:
    example = EXAMPLES[route.rule].body
    assert example is not None, route.rule
    if route.form is not None:
        fields = {"schema": schemas.of(route.form), "example": curl.given(example)}
        return {"required": True, "content": {curl.FORM: fields}}
    assert route.body is not None
    schema = schemas.of(route.body)
    given = {"example": curl.given(example)}
    if others := EXAMPLES[route.rule].other_bodies:
        given = {"examples": {_kind_of(body): {"value": curl.given(body)} for body in (example, *others)}}
    return {"required": True, "content": {JSON: {"schema": schema, **given}, CBOR: {"schema": schema}}}


def _kind_of(body: Struct) -> str:
    """The tag of a struct that is one of several kinds of a body."""
    return str(type(body).__struct_config__.tag)


def _responses(route: Route, schemas: Schemas) -> Item:
    responses = {str(status): _response(route, status, schemas) for status in route.statuses}
    for status, codes in problems_by_status(route).items():
        responses[str(status)] = responses.get(str(status)) or {"$ref": f"#/components/responses/{name_of(codes)}"}
    return responses


def _response(route: Route, status: int, schemas: Schemas) -> Item:
    made: Item = {"description": HTTPStatus(status).phrase}
    headers = ["X-Request-ID"]
    if status == HTTPStatus.NOT_MODIFIED:
        return {**made, "headers": _references([*headers, "ETag"])}
    if HTTPStatus.NOT_MODIFIED in route.statuses:
        headers.append("ETag")
    if route.answer is HtmlAnswer:
        made["content"] = {route.media_type: {"schema": {"type": "string"}}}
    elif route.answer is FileAnswer:
        made["content"] = {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}
    elif route.answer is not None:
        schema = schemas.of(route.answer)
        content: Item = {JSON: {"schema": schema}, CBOR: {"schema": schema}}
        if (answer := EXAMPLES[route.rule].answer) is not None:
            content[JSON]["example"] = as_json(answer)
        made["content"] = content
    if route.query is not None and issubclass(route.query, PageQuery):
        headers.append("Link")
    return {**made, "headers": _references(headers)}


def _references(headers: Collection[str]) -> Item:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def name_of(codes: Collection[ProblemCode]) -> str:
    """The name of the response for some codes of one status."""
    return ".".join(code.value for code in codes)


def problem_response(codes: Collection[ProblemCode]) -> Item:
    """The response for some codes of one status."""
    values = [code.value for code in codes]
    schema = {"allOf": [{"$ref": f"{PREFIX}Problem"}, {"properties": {"code": {"enum": values}}}]}
    made: Item = {
        "description": " ".join(f"`{value}`: {ProblemCode(value).info.meaning}" for value in values),
        "content": {
            MEDIA_TYPES["json"]: {
                "schema": schema,
                "examples": {value: {"value": example_problem(ProblemCode(value))} for value in values},
            },
            MEDIA_TYPES["cbor"]: {"schema": schema},
        },
    }
    retry = ["Retry-After"] if any(code.info.retry for code in codes) else []
    challenge = ["WWW-Authenticate"] if any(code.info.status == HTTPStatus.UNAUTHORIZED for code in codes) else []
    return {**made, "headers": _references(["X-Request-ID", *challenge, *retry])}


def example_problem(code: ProblemCode) -> Item:
    """A document of a problem with this code; its detail is the meaning of the code."""
    made = {
        "type": code.type_uri,
        "title": code.info.title,
        "status": code.info.status,
        "detail": sentence(code.info.meaning),
        "code": code.value,
    }
    return {**made, "retry_after_ms": 1000} if code.info.retry else made
