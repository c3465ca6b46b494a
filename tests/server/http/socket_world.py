"""The HTTP interface on a real socket, in this process: Hypercorn's connections, the thin path and Quart."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import trio
from hypercorn.typing import Framework

from protocol.limits import MAX_ADDRESS_CONNECTIONS
from server.http.app import create_app
from server.http.files.service import FILES_EACH, file_service
from server.http.hot_path import HotPath
from server.http.hypercorn_seam import PlainReads, Refuse, serve_http
from server.http.large_bodies import LargeBodies
from server.http.open_connections import MAX_CONNECTIONS, OpenConnections
from server.http.request_heads import refused_head
from server.http.request_turns import RequestTurns
from server.http.routes import ROUTES
from server.http.services import Services
from server.transport.listener import listen
from server.transport.proxies import NO_PROXIES
from store.postgres.pool import Pool
from tests.server.http_world import open_services

TRANSFERS = 16
"""Transfers of files at a time."""


@dataclass
class RawAnswer:
    """An answer as it came over the socket.

    :ivar headers: in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class RawConnection:
    """A client's connection; the test writes bytes, and h11 reads the answers."""

    stream: trio.SocketStream
    methods: list[bytes] = field(default_factory=list)
    _parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def send(self, *parts: bytes) -> None:
        """Write each part by itself; the server has read a part before the next is written if the test waits for it."""
        for part in parts:
            await self.stream.send_all(part)

    async def answer(self, method: bytes = b"GET") -> RawAnswer:
        """The next answer.

        :param method: of its request.
        :raises EOFError: if the server closes the connection before the answer is complete.
        """
        # The parser needs a request of its own for each answer.
        self._parser.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
        self._parser.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = b""
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                data = await self.stream.receive_some()
                if not data:
                    raise EOFError(f"closed after {body!r}")
                self._parser.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        assert head is not None
        if self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        return RawAnswer(head.status_code, {name.decode(): value.decode() for name, value in head.headers}, body)

    async def closed(self) -> bytes:
        """Wait until the server closes the connection; return what came before."""
        rest = self._parser.trailing_data[0]
        async for data in self.stream:
            rest += data
        return rest


@dataclass
class HttpServer:
    """A server that runs. `terminated` is its SIGTERM, `ended` is set when it has drained."""

    port: int
    connections: OpenConnections
    terminated: trio.Event
    ended: trio.Event

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[RawConnection, None]:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            yield RawConnection(stream)

    async def exchange(self, request: bytes) -> RawAnswer:
        """The answer to a request on a connection of its own."""
        async with self.connected() as connection:
            await connection.send(request)
            return await connection.answer(request.partition(b" ")[0])


@asynccontextmanager
async def serving(
    app: Framework, plain: PlainReads, refuse: Refuse, *, port: int = 0, **settings: Any
) -> AsyncGenerator[HttpServer, None]:
    """Serve an application and a thin path.

    :param port: 0: any.
    :param settings: of `serve_http`; `max_connections` and `max_address_connections` are those of its connections.
    """
    listening = listen("127.0.0.1", port)
    most = settings.pop("max_connections", MAX_CONNECTIONS)
    most_each = settings.pop("max_address_connections", MAX_ADDRESS_CONNECTIONS)
    connections = OpenConnections(most, most_each, settings.get("proxies", NO_PROXIES))
    server = HttpServer(listening.getsockname()[1], connections, trio.Event(), trio.Event())

    async def serve() -> None:
        turns = RequestTurns(lambda _: None, NO_PROXIES)
        usual = {"grace_s": 5.0, "turns": turns, "connections": connections}
        await serve_http(app, plain, refuse, listening, server.terminated, **{**usual, **settings})
        server.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            yield server
        finally:
            listening.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_api(services: Services, **limits: Any) -> AsyncGenerator[HttpServer, None]:
    """Serve the product's routes.

    :param limits: of `serve_http`.
    """
    refuse = partial(refused_head, services=services)
    files, large = file_service(services, TRANSFERS * FILES_EACH), LargeBodies(services, ROUTES)
    given = {"direct": [files, large] if files else [large], "turns": services.request_turns}
    given |= {"proxies": services.proxies, **limits}
    async with serving(create_app(services), HotPath(services, ROUTES), refuse, **given) as server:
        yield server


@asynccontextmanager
async def open_server(
    pool: Pool, redis_url: str, *, port: int = 0, **settings: Any
) -> AsyncGenerator[HttpServer, None]:
    """Serve the product's routes with services of their own.

    :param settings: of `services_of`.
    """
    async with open_services(pool, redis_url, **settings) as services, serving_api(services, port=port) as server:
        yield server


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """A request in bytes."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: test",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def shrink_buffers(stream: trio.SocketStream) -> None:
    """Let the client take little before it reads."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
