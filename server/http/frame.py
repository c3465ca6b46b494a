"""The frame around each handler: it admits the request within limits, reads its body, shields and announces a write.

It also notes each request of an operator as a security event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import trio
from msgspec import Struct
from msgspec.structs import replace

from server.http.announcements import Announcements
from server.http.authentication import ADMISSIONS, bearer_token
from server.http.queries import InvalidQuery, query_reader
from server.http.routing import Access, AnyAnswer, Changed, Request, Route
from server.http.sources import operator_source
from store import security_events
from store.errors import (
    AccountSuspended,
    DeviceRevoked,
    Overloaded,
    TokenExpired,
    TokenReused,
    TokenUnknown,
    Unavailable,
)
from store.redis.client import RedisError

_T = TypeVar("_T")


class ReadBody(Protocol):
    """Reads the body of the request under way, as a value of this type.

    :raises InvalidBody: if it is not of that type.
    """

    async def __call__(self, type_: type[_T]) -> _T: ...


Framed: TypeAlias = Callable[[Request[None], Mapping[str, Any]], Awaitable[AnyAnswer]]
"""From a request and the values of its path to the answer. Raises errors that `server.http.problems` answers."""


def framed(route: Route, read_body: ReadBody) -> Framed:
    """The handler of a route in its frame."""
    return _read(route) if route.announces is None else _write(route, read_body)


_Admit: TypeAlias = Callable[..., Awaitable[tuple[Any, ...]]]
"""From a request and, for some routes, the values of its path to the handler's first arguments."""


def _admission(route: Route, admit: _Admit | None = None) -> _Admit:
    """The admission of a route, with the limits of its class: by address before it, by user after it. It notes that the
    device is used.

    A request of an operator becomes a security event before it is served.

    :param admit: if it is not that of the route's access.
    """
    admit, request_class = admit or ADMISSIONS[route.access], route.request_class

    async def admit_device(request: Request[Any], **values: Any) -> tuple[Any, ...]:
        limits = request.services.limits
        stranger = limits.enter(request.address, bearer_token(request))
        if stranger.user is not None:
            # Before anything is read: a refusal costs next to nothing.
            await limits.count_user(request_class, stranger.user)
        try:
            caller = await admit(request, **values)
        except (Unavailable, Overloaded, RedisError):
            limits.excuse(stranger)
            raise
        except (TokenUnknown, TokenExpired, DeviceRevoked, TokenReused, AccountSuspended):
            limits.refuse(stranger)
            raise
        limits.admit(stranger, caller[0].user)
        if stranger.user is None:
            await limits.count_user(request_class, caller[0].user)
        request.services.uses.note(caller[0].device)
        return caller

    async def admit_anybody(request: Request[Any]) -> tuple[Any, ...]:
        await request.services.limits.count_address(request_class, request.address)
        return await admit(request)

    async def admit_operator(request: Request[Any]) -> tuple[Any, ...]:
        caller = await admit_anybody(request)
        source, detail = operator_source(request), {"route": route.rule}
        await security_events.note(request.services.pool, "operator_request", None, source, detail, is_counted=True)
        return caller

    if route.access is Access.OPERATOR:
        return admit_operator
    return admit_device if route.is_for_devices else admit_anybody


def _read(route: Route) -> Framed:
    if route.admit is not None:
        return _read_at_once(route, route.admit)
    admit, handler, read_query = _admission(route), route.handler, _query_reader(route)

    async def read(request: Request[Any], values: Mapping[str, Any]) -> Any:
        caller = await admit(request)
        return await handler(*caller, replace(request, query=read_query(request.query_string)), **values)

    return read


def _read_at_once(route: Route, admit: _Admit) -> Framed:
    """A read that is admitted by what it reads."""
    admit, admit_alone = _admission(route, admit), _admission(route)
    handler, read_query = route.handler, _query_reader(route)

    async def read(request: Request[Any], values: Mapping[str, Any]) -> Any:
        try:
            request = replace(request, query=read_query(request.query_string))
        except InvalidQuery:
            await admit_alone(request)
            raise
        return await handler(*await admit(request, **values), request, **values)

    return read


def _write(route: Route, read_body: ReadBody) -> Framed:
    admit, handler, body, prepare = _admission(route), route.handler, route.body or route.form, route.prepare
    read_query = _query_reader(route)

    async def write(request: Request[Any], values: Mapping[str, Any]) -> AnyAnswer:
        caller = await admit(request)
        read_query(request.query_string)
        if body is not None:
            request = replace(request, body=await read_body(body))
        if prepare is not None:
            request = replace(request, body=await prepare(*caller, request))
        announcements = request.services.announcements
        if caller:
            announcements = announcements.caused_by(caller[0].user)
        return await _finished(handler(*caller, request, **values), announcements)

    return write


def _query_reader(route: Route) -> Callable[[str], Struct | None]:
    """It raises `InvalidQuery` only after the request is admitted: strangers learn nothing of a route's parameters."""
    return query_reader(route.query) if route.query is not None else lambda _: None


async def _finished(write: Awaitable[AnyAnswer | Changed], announcements: Announcements) -> AnyAnswer:
    # A client that hangs up cancels the request; a write that has begun is finished (its queries have deadlines).
    with trio.CancelScope(shield=True):
        outcome = await write
        while isinstance(outcome, Changed):
            for each in outcome.announcements:
                await each.make(announcements)
            outcome = await outcome.then() if callable(outcome.then) else outcome.then
    assert not isinstance(outcome, Changed)
    return outcome
