"""The HTTP interface as a Quart application. The one file that meets Quart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import cache
from typing import Any, Final, TypeVar

import trio
from quart import Response, request
from quart.routing import QuartMap, QuartRule
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers as WerkzeugHeaders
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, RequestTimeout

from server.http.decoding import encoding_of, read_body, read_form
from server.http.exchange import Reply, client_address, exchanged, options, refused
from server.http.frame import ReadBody
from server.http.limits import RateLimited
from server.http.problem_codes import MAX_BODY_BYTES, ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.request_heads import ASK_FOR_BODY, END_TURN
from server.http.routes import ROUTES
from server.http.routing import Route
from server.http.services import Services

_T = TypeVar("_T")


BODY_TIMEOUT_S: Final = 20.0
"""The time for a body to come. 64 KiB take it at 26 kbit/s."""

METHODS_SERVED: Final = frozenset(("OPTIONS", "HEAD", *(route.method for route in ROUTES)))
"""The methods of all paths together: the answer to OPTIONS on the server itself, `*` (RFC 9110, section 9.3.7)."""


def create_app(services: Services) -> QuartTrio:
    """The application; Hypercorn runs it (`server.http.process`)."""
    # With a folder for static files, Quart would add an open route of its own.
    app = QuartTrio(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    has = {"has_operators": bool(services.ops_token), "has_web_client": services.web_client is not None}
    served = [route for route in ROUTES if route.is_served(**has)]
    views = {(route.method, route.path): _view(route, services) for route in served}
    for path in {route.path: None for route in served}:
        methods = {"OPTIONS", *(route.method for route in served if route.path == path)}
        views["OPTIONS", path] = _options(methods | {"HEAD"} if "GET" in methods else methods, services)
    app.url_map = _url_map(tuple(views))
    app.view_functions |= {_endpoint(method, path): view for (method, path), view in views.items()}
    app.before_request(_refuse_two_slashes)
    app.register_error_handler(Exception, _refuser(services))
    return app


async def _refuse_two_slashes() -> None:
    """Quart takes `//healthz` for `/healthz`, also without `merge_slashes`. A proxy that guards paths may not."""
    if request.scope["path"].startswith("//"):
        raise NotFound


@cache
def _url_map(served: tuple[tuple[str, str], ...]) -> QuartMap:
    """The rules for these methods and paths. Applications share it: Werkzeug compiles two functions for each rule, some
    40 ms of CPU for all."""
    # A path with two slashes is a different path, and not found.
    url_map = QuartMap(merge_slashes=False)
    for method, path in served:
        # Quart answers HEAD by the view of GET, and Hypercorn leaves the body out.
        url_map.add(QuartRule(path, methods=[method], endpoint=_endpoint(method, path)))
    return url_map


def _endpoint(method: str, path: str) -> str:
    """Quart's name of a view."""
    return f"{method} {path}"


def _options(methods: Collection[str], services: Services) -> Callable[..., Awaitable[Response]]:
    """The function that Quart calls for OPTIONS on a path."""
    listed = _listed(methods)

    async def view(**_: Any) -> Response:
        return await _of_stranger(services, lambda: options(_headers(), listed, services))

    return view


async def _of_stranger(services: Services, answer: Callable[[], Reply]) -> Response:
    """The answer to a request that comes to no route; it counts as one of a stranger."""
    headers = _headers()
    try:
        services.limits.count_stranger(client_address(_peer(), headers, services))
    except RateLimited as error:
        return await _sent(refused(error, headers, services))
    return _response(answer())


def _peer() -> str:
    """The address of the connection's other end."""
    return request.remote_addr or ""


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(sorted(methods))


def _view(route: Route, services: Services) -> Callable[..., Awaitable[Response]]:
    """The function that Quart calls for a route, with the values of the path."""
    exchange = exchanged(route, services, _body_reader(route, services))

    async def view(**values: Any) -> Response:
        # Other bytes than those of ASCII belong to no query; each becomes a character that no parameter takes.
        query_string = request.query_string.decode("latin-1")
        return await _sent(await exchange(_peer(), _headers(), query_string, values))

    return view


async def _sent(reply: Reply) -> Response:
    """The response, in its time."""
    if reply.pause_s:
        _in_connection(END_TURN)()
        await trio.sleep(reply.pause_s)
    return _response(reply)


def _in_connection(name: str) -> Callable[[], Any]:
    """A function of the connection that the request came on; one that does nothing if a test made the request."""
    function: Callable[[], Any] = request.scope.get("state", {}).get(name, lambda: None)
    return function


class _JoinedHeaders:
    """A request's headers. One that comes several times is the list of its values (RFC 9110, section 5.3).

    So a header that takes a single value, such as `Authorization`, is wrong if it comes twice: other programs on the
    way may go by the first or by the last of its values.
    """

    def __init__(self, headers: WerkzeugHeaders) -> None:
        self._headers = headers

    def get(self, name: str, default: str, /) -> str:
        values = self._headers.getlist(name)
        return ", ".join(values) if values else default


def _headers() -> _JoinedHeaders:
    return _JoinedHeaders(request.headers)


def _body_reader(route: Route, services: Services) -> ReadBody:
    """The function that reads the body of the request under way, and counts its bytes."""

    async def read(type_: type[_T]) -> _T:
        headers = _headers()
        if route.form is None and (request.content_length or "transfer-encoding" in request.headers):
            # The head alone decides, before the body has come.
            encoding_of(headers)
        data = await _body()
        services.counts.request_bytes.observe(len(data))
        return read_form(data, type_) if route.form is not None else read_body(data, headers, type_)

    return read


async def _body() -> bytes:
    try:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if ask := request.scope.get("state", {}).get(ASK_FOR_BODY):
            await ask()
        data: Any = await request.get_data()
    except HTTPException as error:
        raise _no_body(error) from None
    return bytes(data)


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, reply.headers)
    if reply.status in (204, 304):
        # Quart adds a type. 204 may not have a length, and that of 304 would be the page's (RFC 9110, section 8.6).
        del response.headers["content-type"], response.headers["content-length"]
    return response


def _refuser(services: Services) -> Callable[[Exception], Awaitable[Response]]:
    """The function that Quart calls for a request that comes to no view."""

    async def refuse(error: Exception) -> Response:
        if (request.method, request.scope["path"]) == ("OPTIONS", "*"):
            return await _of_stranger(services, lambda: options(_headers(), _listed(METHODS_SERVED), services))
        shown = _no_route(error) if isinstance(error, HTTPException) else error
        return await _of_stranger(services, lambda: refused(shown, _headers(), services))

    return refuse


def _no_route(error: HTTPException) -> Problem:
    """The answer to a request that fits no route."""
    if isinstance(error, MethodNotAllowed):
        allowed = _listed(error.valid_methods or ())
        detail = f"this path takes {allowed}"
        return Problem(ProblemCode.METHOD_NOT_ALLOWED, detail, more_headers={"allow": allowed})
    if isinstance(error, NotFound):
        return Problem(ProblemCode.NOT_FOUND, "no such path")
    return Problem(ProblemCode.INVALID_REQUEST, error.description or "the request cannot be read")


def _no_body(error: HTTPException) -> Problem:
    """The answer to a request whose body cannot be read."""
    if isinstance(error, RequestEntityTooLarge):
        return Problem(ProblemCode.BODY_TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes")
    if isinstance(error, RequestTimeout):
        return Problem(
            ProblemCode.REQUEST_TIMEOUT,
            f"the body did not come within {BODY_TIMEOUT_S:g} s",
            retry_after_s=RETRY_AFTER_S,
            more_headers={"connection": "close"},
        )
    return Problem(ProblemCode.INVALID_BODY, error.description or "the body cannot be read")
