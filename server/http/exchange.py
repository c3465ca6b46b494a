"""The exchange of a request for an answer, without a framework. Quart's path and the thin path of hot reads share it.

`exchanged` makes the function of a route: from the headers, the query and the values of the path to a `Reply`. Whatever
all answers have in common (errors, encodings, headers) is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Final, TypeAlias

from msgspec import Struct

from runtime.log_context import SERVED, RequestNames
from server.http.challenges import challenge
from server.http.compression import CompressedForms, chosen, compressed
from server.http.encoding import CBOR, JSON, Encoding, encode
from server.http.frame import ReadBody, framed
from server.http.http_counts import UNCODED
from server.http.media_types import accepted
from server.http.problems import MEDIA_TYPES, Problem, problem_of
from server.http.request_headers import Headers
from server.http.request_ids import names_of
from server.http.request_log import NO_ROUTE
from server.http.routing import Answer, AnyAnswer, EncodedAnswer, FileAnswer, HtmlAnswer, Request, Route
from server.http.services import Services
from server.transport.proxies import forwarded_address


class Reply(Struct, frozen=True):
    """An answer as it goes out, but for the headers that the server adds (`content-length`, `date`).

    :ivar headers: in lower case.
    :ivar pause_s: seconds until it goes out: of a refusal, so that a client that does not wait asks less often.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    pause_s: float = 0.0


Exchange: TypeAlias = Callable[[str, Headers, str, Mapping[str, Any]], Awaitable[Reply]]
"""From the address of the connection, the headers, the query as text and the path's values to the answer. It raises
no error but cancellation."""

NO_COMPRESSION: Final = "x-no-compression"
"""The header that keeps an answer from being compressed: of a request, or of an answer with a secret."""

TOO_MANY: Final = 429

OPTIONS: Final = "OPTIONS"
"""In the log, the route of each request that asks for methods."""

SECRETS: Final = frozenset(("token", "secret"))
"""Fields of answers. The length of a compressed body tells something of its content (decision 30)."""

_ABSENT: Final = "\0"

_CONTENT_TYPES: Final[dict[Encoding, str]] = {"json": JSON, "cbor": CBOR}


def exchanged(route: Route, services: Services, read_body: ReadBody) -> Exchange:
    """The exchange of a route."""
    handle = framed(route, read_body)
    kept_plain = {NO_COMPRESSION: "1"} if has_secret(route) else {}

    async def exchange(
        peer: str, headers: Headers, query_string: str, values: Mapping[str, Any], names: RequestNames
    ) -> Reply:
        encoding = accepted(headers.get("accept", ""))
        address = client_address(peer, headers, services)
        request = Request(services, address, encoding, headers, query_string, None, None)
        try:
            answer = await handle(request, values)
            reply = _reply(answer, encoding, services.answer_headers.of(headers, names))
        except Exception as error:  # noqa: BLE001  (`problem_of` logs the errors that are the server's)
            return _refusal(problem_of(error, route.rule), headers, names, services, services.limits.pause_s(error))
        reply.headers.update(kept_plain)
        return _coded(reply, headers, answer.forms if isinstance(answer, EncodedAnswer) else None)

    return _counted(route, services, exchange)


def _counted(route: Route, services: Services, exchange: Callable[..., Awaitable[Reply]]) -> Exchange:
    """The exchange with its names, counted and logged."""
    rule, request_class = route.rule, route.request_class.value

    async def counted(peer: str, headers: Headers, query_string: str, values: Mapping[str, Any]) -> Reply:
        counts, names = services.counts, names_of(headers)
        outside = SERVED.set(names)
        counts.in_flight += 1
        began = perf_counter()
        reply = None
        try:
            reply = await exchange(peer, headers, query_string, values, names)
        finally:
            counts.in_flight -= 1
            seconds = perf_counter() - began
            if reply is None:
                services.request_log.gone(rule, seconds)
            else:
                services.request_log.answered(rule, reply.status, seconds, len(reply.body))
            SERVED.reset(outside)
        coding = reply.headers.get("content-encoding", UNCODED)
        counts.answered(rule, seconds, reply.status, coding, len(reply.body))
        if reply.status == TOO_MANY:
            counts.limited[request_class] += 1
        return reply

    return counted


def client_address(peer: str, headers: Headers, services: Services) -> str:
    """The address of the client, also behind trusted proxies.

    :param peer: the address of the connection's other end, or the one that its PROXY header names.
    """
    forwarded = headers.get("x-forwarded-for", "")
    # Without trusted proxies the address is the peer's; to parse it costs a hot read more than all its limits do.
    return forwarded_address(peer, forwarded, services.proxies) if services.proxies.networks else peer


def has_secret(route: Route) -> bool:
    """Whether answers of the route have a secret: one of `SECRETS` among their fields."""
    return route.answer is not None and not SECRETS.isdisjoint(route.answer.__struct_fields__)


def refused(error: Exception, headers: Headers, services: Services, rule: str = NO_ROUTE) -> Reply:
    """The answer to a request that comes to no route.

    :param headers: of the request.
    :param rule: for the log.
    """
    names = names_of(headers)
    outside = SERVED.set(names)
    try:
        problem = problem_of(error, rule)
        reply = _refusal(problem, headers, names, services, services.limits.pause_s(error))
        services.request_log.answered(rule, reply.status, body_bytes=len(reply.body))
    finally:
        SERVED.reset(outside)
    services.counts.refused(problem.status)
    return reply


def _refusal(problem: Problem, headers: Headers, names: RequestNames, services: Services, pause_s: float) -> Reply:
    encoding = accepted(headers.get("accept", ""))
    body = encode(problem.body(encoding, names.request_id), encoding)
    common = services.answer_headers.of(headers, names)
    typed = {**common, "content-type": MEDIA_TYPES[encoding], **problem.headers(), **challenge(problem, headers)}
    return _coded(Reply(problem.status, typed, body, pause_s), headers)


def options(headers: Headers, methods: str, services: Services) -> Reply:
    """The answer to OPTIONS, also to a browser that asks before a cross-origin request.

    :param headers: of the request.
    :param methods: those of the path.
    """
    common, names = services.answer_headers, names_of(headers)
    preflight = common.origins.preflight_headers(headers, methods)
    outside = SERVED.set(names)
    try:
        services.request_log.answered(OPTIONS, 204)
    finally:
        SERVED.reset(outside)
    return Reply(204, {**common.of(headers, names), "allow": methods, **preflight}, b"")


def _reply(answer: AnyAnswer, encoding: Encoding, common: Mapping[str, str]) -> Reply:
    if isinstance(answer, HtmlAnswer):
        return Reply(answer.status, {**common, **answer.headers}, answer.html.encode())
    if isinstance(answer, FileAnswer):
        return Reply(200, {**common, "content-type": answer.content_type, NO_COMPRESSION: "1"}, answer.body)
    typed = {**common, "content-type": _CONTENT_TYPES[encoding], **answer.headers}
    if not isinstance(answer, Answer):
        return Reply(200, typed, answer.body)
    if answer.body is None:
        return Reply(answer.status, {**common, **answer.headers}, b"")
    return Reply(answer.status, typed, encode(answer.body, encoding))


def _coded(reply: Reply, headers: Headers, forms: CompressedForms | None = None) -> Reply:
    """The reply in the coding that the client likes best.

    :param headers: of the request.
    :param forms: of a body that is kept.
    """
    if NO_COMPRESSION in reply.headers or reply.status == 204:
        return reply
    reply.headers["vary"] += ", accept-encoding"
    choice = chosen(headers.get("accept-encoding", ""))
    if choice.coding is None or not reply.body or headers.get(NO_COMPRESSION, _ABSENT) != _ABSENT:
        return reply
    find = compressed if forms is None else forms.of
    form = find(reply.body, choice, may_be_dense=reply.headers["content-type"] == CBOR)
    if form is None:
        return reply
    reply.headers["content-encoding"] = choice.coding
    if "etag" in reply.headers:
        reply.headers["etag"] = f'{reply.headers["etag"][:-1]}-{choice.coding}"'
    return Reply(reply.status, reply.headers, form, reply.pause_s)
