"""HTTP/2 with one call at a time on each connection.

Calls that share a connection of httpcore take turns in reading it: a call whose answer has been read already waits
until the next reader gets data too. So a call without an answer would delay the others until its timeout.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx

IDLE_S: Final = 60.0
"""How long a connection is kept for the next call. Apple asks for long connections; routers drop silent ones, some
after two minutes, without telling either end."""


class LoneStreams(httpx.AsyncBaseTransport):
    """One connection for each call that is under way; the connection used last is reused first."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._all: list[httpx.AsyncHTTPTransport] = []
        self._free: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._free.pop() if self._free else self._another()

        def give_back() -> None:
            self._free.append(transport)

        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            give_back()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Stream(response.stream, give_back),
            extensions=response.extensions,
        )

    def _another(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_keepalive_connections=2, keepalive_expiry=IDLE_S)
        self._all.append(httpx.AsyncHTTPTransport(verify=self._context, http2=True, limits=limits))
        return self._all[-1]

    async def aclose(self) -> None:
        for transport in self._all:
            await transport.aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of an answer; calls `on_close` once, when the body is read or abandoned."""

    def __init__(self, stream: httpx.AsyncByteStream, on_close: Callable[[], None]) -> None:
        self._stream = stream
        self._on_close: Callable[[], None] | None = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                on_close()
