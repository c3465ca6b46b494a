"""The OpenAPI document (3.1), made from the declarations of routes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from server.http.problem_codes import ProblemCode
from server.http.problems import ProblemAnswer
from server.http.reference.operations import (
    Item,
    name_of,
    operation,
    path_template,
    problem_response,
    problems_by_status,
    tag_of,
)
from server.http.reference.schemas import Schemas
from server.http.routing import FileAnswer, HtmlAnswer, Route

_DESCRIPTION: Final = """
History, lists and accounts of ALO Shield. Everything that happens minute by minute goes over the WebSocket.

Bodies are JSON, or CBOR where the request says so: `Content-Type: application/cbor` for its own body, and
`Accept: application/cbor` for the answer. Keys are the same texts in both. Ids are texts of UUIDs in JSON and 16 bytes
in CBOR. Byte fields are base64 in JSON (RFC 4648, section 4) and byte strings in CBOR. Times are integers in both:
microseconds since 1970-01-01T00:00Z. The schemas here describe JSON.

A client ignores fields of answers that it does not know.

Errors are problem documents (RFC 9457), with a stable `code`. If and only if the same request may succeed later, there
are `retry_after_ms` and a `Retry-After` header.

Lists and history come in pages. `cursor` in an answer is opaque: give it back to get the next page in the same
direction; null means that this page is the last. The header `Link` (RFC 8288) has the next page as a reference relative
to the address of the request. A page of about 1 MiB is full, with fewer entries than `limit`.

Changes over HTTP, except those of the e-mail, are pushed to the devices concerned.
"""

SECURITY_SCHEMES: Final[Item] = {
    "device": {"type": "http", "scheme": "bearer", "description": "The token of a device (`POST /v1/devices`)."},
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The operators' token, of the variable `OPS_TOKEN`.",
    },
}

HEADERS: Final[Item] = {
    "ETag": {
        "description": (
            "The entity tag of the page: given back in `If-None-Match` it gets 304 while the page is the same."
            " Only the first page of a list and the pages of a history have one."
        ),
        "schema": {"type": "string"},
    },
    "Link": {
        "description": (
            'The next page, as a reference relative to the address of the request: `<?limit=20&cursor=…>; rel="next"`.'
            ' It is left out on the last page. With `around_seq` there is `rel="prev"`, too, for older messages.'
        ),
        "schema": {"type": "string"},
    },
    "X-Request-ID": {
        "description": "The name of the request in the server's log: that of the request's own header, or a new one.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": 'A Bearer challenge (RFC 6750), with `error="invalid_token"` if the request showed a token.',
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which the same request may succeed.",
        "schema": {"type": "integer", "minimum": 0},
    },
}


class OpenApiAnswer(Struct, frozen=True):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    servers: list[Any]
    tags: list[Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def document(routes: Sequence[Route]) -> Item:
    """The document of some routes."""
    schemas = Schemas(_sent(routes), _answered(routes))
    paths: dict[str, Item] = {}
    for route in routes:
        paths.setdefault(path_template(route), {})[route.method.lower()] = operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ALO Shield", "version": "1", "description": _paragraphs(_DESCRIPTION)},
        "servers": [{"url": "/"}],
        "tags": _tags(routes),
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY_SCHEMES,
            "schemas": schemas.components,
            "responses": _problem_responses(routes),
            "headers": HEADERS,
        },
    }


def _paragraphs(text: str) -> str:
    """Each paragraph as one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _sent(routes: Sequence[Route]) -> list[type[Any]]:
    return _each_once(body for route in routes if (body := route.body or route.form) is not None)


def _answered(routes: Sequence[Route]) -> list[type[Any]]:
    types = (route.answer for route in routes if route.answer not in (None, HtmlAnswer, FileAnswer))
    return [*_each_once(types), ProblemAnswer]


def _each_once(types: Any) -> list[type[Any]]:
    return list(dict.fromkeys(types))


def _tags(routes: Sequence[Route]) -> list[Item]:
    files = dict.fromkeys((tag_of(route), route.handler.__module__) for route in routes)
    return [{"name": tag, "description": inspect.getdoc(sys.modules[module])} for tag, module in files]


def _problem_responses(routes: Sequence[Route]) -> Item:
    """The responses that operations refer to, by name."""
    found: dict[str, list[ProblemCode]] = {}
    for route in routes:
        found |= {name_of(codes): codes for codes in problems_by_status(route).values()}
    return {name: problem_response(codes) for name, codes in sorted(found.items())}
