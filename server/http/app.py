"""The HTTP interface as a Quart application. The one file that meets Quart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from quart import Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from server.http.decoding import read_body
from server.http.exchange import Reply, exchanged, refusal
from server.http.problem_codes import MAX_BODY_BYTES, ProblemCode
from server.http.problems import Problem, problem_of
from server.http.routes import ROUTES
from server.http.routing import Access, Route
from server.http.services import Services

_T = TypeVar("_T")


def create_app(services: Services) -> QuartTrio:
    """The application; Hypercorn runs it (`server.http.process`)."""
    # With a folder for static files, Quart would add an open route of its own.
    app = QuartTrio(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    for route in ROUTES:
        if route.access is not Access.OPERATOR or services.ops_token:
            app.add_url_rule(route.path, route.rule, _view(route, services), methods=[route.method])
    app.register_error_handler(Exception, _refuse)
    return app


def _view(route: Route, services: Services) -> Callable[..., Awaitable[Response]]:
    """The function that Quart calls for a route, with the values of the path."""
    exchange = exchanged(route, services, _read_body)

    async def view(**values: Any) -> Response:
        # Other bytes than those of ASCII belong to no query; each becomes a character that no parameter takes.
        query_string = request.query_string.decode("latin-1")
        return _response(await exchange(request.headers, query_string, request.path, values))

    return view


async def _read_body(type_: type[_T]) -> _T:
    try:
        data: Any = await request.get_data()
    except HTTPException as error:
        raise _problem(error) from None
    return read_body(data, request.headers, type_)


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, reply.headers)
    if reply.status in (204, 304):
        # Quart adds a type. 204 may not have a length, and that of 304 would be the page's (RFC 9110, section 8.6).
        del response.headers["content-type"], response.headers["content-length"]
    return response


async def _refuse(error: Exception) -> Response:
    # A WebSocket handshake, which belongs to `socket` and finds nothing here, is answered outside of a request.
    asked = request if has_request_context() else websocket
    problem = _problem(error) if isinstance(error, HTTPException) else problem_of(error, asked.path)
    return _response(refusal(problem, asked.headers))


_CODES: Final = {
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.BODY_TOO_LARGE,
}
"""Statuses of Quart's errors -> codes."""


def _problem(error: HTTPException) -> Problem:
    """The answer to an error of Quart's: the request fits no route, or cannot be read."""
    code = _CODES.get(error.code or 500, ProblemCode.INVALID_BODY)
    return Problem(code, error.description or "the request cannot be read")
