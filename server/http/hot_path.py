"""The thin path: plain GETs of hot routes go from the connection's bytes to the exchange, past h11 and Quart.

A hot route (`is_hot`) is one of Quart's routes too, and both paths share its exchange. This path takes only requests
that it understands wholly: a complete head of HTTP/1.1 without a body, in printable ASCII, with each header once. All
other requests, also wrong ones, go on to h11 and Quart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

from msgspec import Struct

from server.http.exchange import Exchange, Reply, exchanged
from server.http.problem_codes import MAX_HEAD_BYTES
from server.http.routing import Route
from server.http.services import Services

_T = TypeVar("_T")

_PLAIN: Final = re.compile(
    rb"GET (/[!$&-;=@-~]*)(?:\?([!-~]*))? HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+)\r\n"
)
"""No escapes in the path: Quart decodes those."""

_OTHERS: Final = frozenset(("upgrade", "content-length", "transfer-encoding", "expect", "trailer", "te"))
"""Headers of requests that are not plain."""

_UUID: Final = "([0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})"


class HotRead(Struct, frozen=True, gc=False):
    """A plain GET of a hot route."""

    end: int
    exchange: Exchange
    headers: dict[str, str]
    query_string: str
    path: str
    values: Mapping[str, Any]

    async def answer(self, peer: str) -> Reply:
        return await self.exchange(peer, self.headers, self.query_string, self.values)


class HotPath:
    """The hot routes among some routes."""

    def __init__(self, services: Services, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, Exchange] = {}
        self._patterns: list[tuple[re.Pattern[str], str, Exchange]] = []
        for route in routes:
            if not route.is_hot:
                continue
            exchange = exchanged(route, services, _no_body)
            before, _, rest = route.path.partition("<uuid:")
            if not rest:
                self._fixed[route.path] = exchange
                continue
            name, _, after = rest.partition(">")
            if "<" in after:
                raise ValueError(f"{route.rule}: a hot route has at most one value in its path, a uuid")
            self._patterns.append((re.compile(re.escape(before) + _UUID + re.escape(after)), name, exchange))

    def find(self, data: bytes, start: int) -> HotRead | None:
        """The plain GET of a hot route that begins at `start`; None if there is none, or it is incomplete."""
        found = _PLAIN.match(data, start, start + MAX_HEAD_BYTES)
        if found is None:
            return None
        path = found[1].decode()
        exchange, values = self._route(path)
        if exchange is None:
            return None
        headers = _headers(found[3].decode())
        if headers is None:
            return None
        return HotRead(found.end(), exchange, headers, (found[2] or b"").decode(), path, values)

    def _route(self, path: str) -> tuple[Exchange | None, Mapping[str, Any]]:
        if exchange := self._fixed.get(path):
            return exchange, {}
        for pattern, name, exchange in self._patterns:
            if found := pattern.fullmatch(path):
                return exchange, {name: UUID(found[1])}
        return None, {}


def _headers(block: str) -> dict[str, str] | None:
    """The headers of a plain request; None if it is not one."""
    lines = block.removesuffix("\r\n").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    is_plain = (
        len(headers) == len(lines)
        and not _OTHERS & headers.keys()
        and "host" in headers
        and headers.get("connection", "keep-alive").lower() == "keep-alive"
    )
    return headers if is_plain else None


async def _no_body(type_: type[_T]) -> _T:
    raise AssertionError(f"a read has no body, not even {type_}")
