"""Large bodies: requests of routes that take them (`Route.takes_large`), with more bytes than other bodies may have.

Quart and Hypercorn take in a body while the request is still being looked at, and through several queues. With 1 MiB a
body, a few hundred slow clients would fill the memory of a process. So the connection's own task reads a large body
(`server.http.hypercorn_seam`), once the request is admitted and has one of few places (`large_body_turns`); until then
the bytes stay in the kernel. A user has one place. The exchange is that of all other requests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

import trio
from msgspec import Struct

from server.http.decoding import encoding_of, read_body
from server.http.exchange import Reply, client_address, exchanged, refused
from server.http.files.wire import Wire
from server.http.frame import ReadBody
from server.http.limits import key_of
from server.http.problem_codes import MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES, ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.request_headers import joined_headers, token_in
from server.http.request_turns import Turn
from server.http.routing import Route
from server.http.services import Services

_T = TypeVar("_T")

BODY_TIMEOUT_S: Final = 60.0
"""The time for a large body to come: 1.3 MiB take it at 190 kbit/s. Sixteen users who send more slowly keep the others
out for no longer."""

PIECE_BYTES: Final = 64 * 1024

_UUID: Final = re.compile(r"<uuid:(\w+)>")


class LargeRequest(Struct, frozen=True):
    """A request with a large body.

    :ivar query: the text after the question mark.
    :ivar values: of the path.
    """

    route: Route
    path: str
    query: str
    headers: Mapping[str, str]
    values: Mapping[str, Any]


class LargeBodies:
    """The routes that take large bodies, among some routes."""

    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._services = services
        self._routes = [(route, _pattern(route.path)) for route in routes if route.takes_large]

    def find(self, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> LargeRequest | None:
        """The request, if it has a large body and its head says how large; None if Quart takes it, and refuses what is
        too large for others.

        :param target: a path with its query.
        """
        path, _, query = target.decode("latin-1").partition("?")
        for route, pattern in self._routes:
            if method == route.method.encode() and (found := pattern.fullmatch(path)) is not None:
                joined = joined_headers(headers)
                if int(joined.get("content-length", "0")) <= MAX_BODY_BYTES:
                    return None
                values = {name: UUID(value) for name, value in found.groupdict().items()}
                return LargeRequest(route, path, query, joined, values)
        return None

    async def serve(self, request: LargeRequest, wire: Wire) -> bool:
        """Answer the request; False if the connection cannot be used any more. Raises no error but cancellation."""
        services = self._services
        turn = await services.request_turns.begin(wire.peer, request.headers, request.path)
        if turn is None:
            problem = Problem(ProblemCode.UNAVAILABLE, "try again", retry_after_s=RETRY_AFTER_S)
            await wire.answer(refused(problem, request.headers, services, request.route.rule))
            return True
        place = _Place(services)
        try:
            read = _reader(request, wire, services, turn, place)
            exchange = exchanged(request.route, services, read)
            reply = await exchange(wire.peer, request.headers, request.query, request.values)
        finally:
            place.leave()
            turn.end()
        await _answer(reply, wire)
        return True


class _Place:
    """The place of a request, once it has one."""

    def __init__(self, services: Services) -> None:
        self._turns = services.large_bodies
        self._source: bytes | str | None = None

    async def enter(self, source: bytes | str) -> None:
        """
        :raises Overloaded: if there is no place in time.
        """
        await self._turns.begin(source)
        self._source = source

    def leave(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self._turns.end(source)


def _reader(request: LargeRequest, wire: Wire, services: Services, turn: Turn, place: _Place) -> ReadBody:
    async def read(type_: type[_T]) -> _T:
        encoding_of(request.headers)
        if wire.left is None or wire.left > MAX_LARGE_BODY_BYTES:
            raise Problem(ProblemCode.BODY_TOO_LARGE, f"a body has at most {MAX_LARGE_BODY_BYTES} bytes here")
        # It waits for its client: others run meanwhile.
        turn.end()
        address = key_of(client_address(wire.peer, request.headers, services))
        await place.enter(services.limits.user_of(token_in(request.headers)) or address)
        await wire.ask_for_body()
        data = await _received(wire)
        services.counts.request_bytes.observe(len(data))
        return read_body(data, request.headers, type_)

    return read


async def _received(wire: Wire) -> bytes:
    """The body. Its bytes are taken off `wire.left`: if some have not come, the answer is the last of the connection.

    :raises Problem: if it does not come in time, or the client ends it early.
    """
    assert wire.left is not None
    pieces = [wire.take_received()]
    with trio.move_on_after(BODY_TIMEOUT_S):
        while wire.left:
            await trio.lowlevel.wait_readable(wire.descriptor)
            try:
                piece = os.read(wire.descriptor, min(wire.left, PIECE_BYTES))
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            if not piece:
                raise Problem(ProblemCode.INVALID_BODY, "the body ended before the bytes that Content-Length says")
            wire.left -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)
    detail = f"the body did not come within {BODY_TIMEOUT_S:g} s"
    raise Problem(
        ProblemCode.REQUEST_TIMEOUT, detail, retry_after_s=RETRY_AFTER_S, more_headers={"connection": "close"}
    )


async def _answer(reply: Reply, wire: Wire) -> None:
    if reply.pause_s:
        await trio.sleep(reply.pause_s)
    await wire.answer(reply)


def _pattern(path: str) -> re.Pattern[str]:
    """The paths of a route, which has ids alone."""
    four = "[0-9A-Fa-f]{4}"
    id_ = rf"(?P<\1>[0-9A-Fa-f]{{8}}-{four}-{four}-{four}-[0-9A-Fa-f]{{12}})"
    return re.compile(_UUID.sub(id_, path))
