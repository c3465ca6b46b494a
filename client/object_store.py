"""Requests to the object store, which the server has signed (`protocol/SPEC.md`, 18.4 and 18.8)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import httpx

from client.errors import ObjectGone, RequestExpired, TransferFailed, Unreachable
from client.reasons import reason_of
from client.tls import trusting_context
from protocol.frames import PartRequest

CONNECTIONS: Final = 4
"""Parts under way at the same time: enough for a long line, few enough for a short one."""

TIMEOUT_S: Final = httpx.Timeout(60.0, connect=15.0, pool=None)
"""For each step: to connect, and for the next bytes to go or to come."""

AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

EXPIRED: Final = frozenset({400, 401, 403})
"""Statuses of a request that has expired; the server signs another."""

GONE: Final = frozenset({404, 410})


class ObjectStore:
    """Sends signed requests; an async context manager that owns the connections.

    The token of the device never goes there, and redirects are not followed.

    :param transport: replaces the network, for tests.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._httpx = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            trust_env=False,
            transport=transport,
            verify=trusting_context(),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )

    async def __aenter__(self) -> Self:
        await self._httpx.__aenter__()
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._httpx.__aexit__(type_, value, traceback)

    async def put(self, request: PartRequest, size_bytes: int, chunks: AsyncIterable[bytes]) -> None:
        """Store a part.

        :raises RequestExpired: if the request is too old, or the bytes are not those of the part.
        :raises Unreachable: if the same request may succeed later.
        :raises TransferFailed: by any other answer.
        """
        _, url, headers = request
        # With a length httpx sends the bytes as they are; without one it would cut them into chunks.
        lengths = {} if any(name == "content-length" for name, _ in headers) else {"content-length": str(size_bytes)}
        try:
            answer = await self._httpx.put(url, headers=[*headers, *lengths.items()], content=chunks)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unreachable(f"the object store: {reason_of(error)}") from error
        _check(answer.status_code)

    @asynccontextmanager
    async def get(self, url: str, start: int, etag: str | None) -> AsyncGenerator[httpx.Response]:
        """An answer with the bytes from `start` on, or with all of them (status 200): the caller looks which.

        :param etag: of the bytes before `start`; None if it is not known.
        :raises RequestExpired, ObjectGone, Unreachable, TransferFailed: as `put`; also while the bytes come.
        """
        headers = {"accept-encoding": "identity"}
        if start:
            headers["range"] = f"bytes={start}-"
            if etag is not None:
                headers["if-range"] = etag
        try:
            async with self._httpx.stream("GET", url, headers=headers) as answer:
                _check(answer.status_code)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"the object store: {reason_of(error)}") from error


def _check(status: int) -> None:
    if 200 <= status < 300:
        return
    if status in AGAIN:
        raise Unreachable(f"the object store answers with status {status}")
    if status in EXPIRED:
        raise RequestExpired(f"the object store takes the request no longer (status {status})")
    if status in GONE:
        raise ObjectGone(f"the object store does not have the file (status {status})")
    raise TransferFailed(f"the object store answers with status {status}")
