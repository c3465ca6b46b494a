"""A proxy before an S3-compatible service: it passes requests on, or does what a test says to some of them, by name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

import httpx
import trio

from tests.waiting import DEADLINE_S

_DROPPED: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class ProxiedAnswer(NamedTuple):
    """An answer to a client."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class ProxiedCall(NamedTuple):
    """A request of a client.

    :ivar name: `begin`, `list parts`, `join`, `abort`, `put`, `part`, `copy`, `get`, `stat`, `delete`, `list`,
        `list uploads` or `bucket`.
    """

    name: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


Pass: TypeAlias = Callable[[], Awaitable[ProxiedAnswer]]
Treatment: TypeAlias = Callable[[ProxiedCall, Pass], Awaitable[ProxiedAnswer | None]]
"""What becomes of a call: its answer, for which it may be passed on; None breaks off the connection."""


@dataclass
class S3Proxy:
    """Serves the clients of a service.

    :ivar url: for OBJECT_STORE_URL.
    :ivar asked: the names of all calls, in order.
    """

    upstream: str
    url: str = ""
    asked: list[str] = field(default_factory=list)
    _treatments: dict[str, Treatment] = field(default_factory=dict)

    def treat(self, treatment: Treatment, *names: str) -> None:
        """From now on, these calls are treated like this; without names, all are."""
        for name in names or ("",):
            self._treatments[name] = treatment

    def heal(self) -> None:
        """From now on all calls are passed on."""
        self._treatments.clear()

    def hold(self, name: str, nth: int, *, passes: bool) -> trio.Event:
        """Hold the nth call of this name from now on, counted from 1, for ever.

        :param passes: the service has answered it before.
        :returns: set once the call is held.
        """
        held, count = trio.Event(), 0

        async def hold(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer | None:
            nonlocal count
            count += 1
            if count != nth:
                return await pass_on()
            if passes:
                await pass_on()
            held.set()
            await trio.sleep_forever()
            return None

        self.treat(hold, name)
        return held

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                if (call := await _read(stream)) is None:
                    return
                self.asked.append(call.name)
                answer = await self._answer(call)
                if answer is not None:
                    await stream.send_all(_head(answer, call.method) + answer.body)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client is gone

    async def _answer(self, call: ProxiedCall) -> ProxiedAnswer | None:
        treatment = self._treatments.get(call.name) or self._treatments.get("")

        async def pass_on() -> ProxiedAnswer:
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client:
                request = httpx.Request(
                    call.method, f"{self.upstream}{call.target}", headers=call.headers, content=call.body
                )
                answer = await client.send(request)
                headers = tuple((name, value) for name, value in answer.headers.items() if name not in _DROPPED)
                length = (
                    answer.headers.get("content-length", "0") if call.method == "HEAD" else str(len(answer.content))
                )
                return ProxiedAnswer(answer.status_code, answer.content, (*headers, ("content-length", length)))

        return await (pass_on() if treatment is None else treatment(call, pass_on))


@asynccontextmanager
async def open_s3_proxy(s3_url: str) -> AsyncGenerator[S3Proxy, None]:
    """A proxy until the end of the block.

    :param s3_url: of the service, as in OBJECT_STORE_URL.
    """
    host = urlsplit(s3_url).netloc.rpartition("@")[2]
    proxy = S3Proxy(f"http://{host}")
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.url = s3_url.replace(host, f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def _read(stream: trio.SocketStream) -> ProxiedCall | None:
    """None: the client has left."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if not (piece := await stream.receive_some()):
            return None
        data += piece
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = int(dict(headers).get("content-length", 0))
    body = data[end + 4 :]
    while len(body) < length:
        if not (piece := await stream.receive_some()):
            return None
        body += piece
    method, target, _ = first.split()
    return ProxiedCall(_name(method, target, dict(headers)), method, target, headers, bytes(body))


def _name(method: str, target: str, headers: dict[str, str]) -> str:
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    if url.path.strip("/").count("/") == 0:
        return "list uploads" if "uploads" in query else "list" if "list-type" in query else "bucket"
    in_upload = "uploadId" in query
    match method:
        case "POST":
            return "join" if in_upload else "begin"
        case "PUT" if in_upload:
            return "copy" if "x-amz-copy-source" in headers else "part"
        case "GET" if in_upload:
            return "list parts"
        case "DELETE":
            return "abort" if in_upload else "delete"
    return {"PUT": "put", "GET": "get", "HEAD": "stat"}[method]


def _head(answer: ProxiedAnswer, method: str) -> bytes:
    headers = dict(answer.headers) or {"content-length": str(len(answer.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} Told\r\nconnection: close\r\n{lines}\r\n".encode("latin-1")
